# SPDX-License-Identifier: Apache-2.0
"""A function that fails in the way that its event asks for."""

import ctypes
import os
import signal
import sys
import threading
import time


class Custom(Exception):
    """An exception of the function's own."""


def handler(event, context):
    """event["what"] says how."""
    what = event.get("what")
    if what == "raise":
        raise Custom(event.get("text", "no good: \u00fc \"quoted\""))
    if what == "nested":
        try:
            raise KeyError("first")
        except KeyError as e:
            raise Custom("second") from e
    if what == "sys.exit":
        sys.exit(3)
    if what == "os._exit":
        os._exit(event.get("status", 0))
    if what == "signal":
        os.kill(os.getpid(), getattr(signal, event["name"]))
        time.sleep(10)
    if what == "crash":
        ctypes.string_at(8)
    if what == "spin":
        while True:
            pass
    if what == "sleep":
        time.sleep(event["seconds"])
    if what == "block":
        threading.Lock().acquire() and threading.Event().wait()
    if what == "unserialisable":
        return {"set": {1, 2}}
    if what == "nan":
        return float("nan")
    if what == "deep":
        value = []
        for _ in range(200000):
            value = [value]
        return value
    if what == "recursion":
        return handler(event, context)
    if what == "thread":
        def worker():
            raise Custom("in a thread")
        thread = threading.Thread(target=worker)
        thread.start()
        thread.join()
    if what == "close":
        os.closerange(0, 100)
    return {"pid": os.getpid(), "fine": True}
