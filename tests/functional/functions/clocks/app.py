# SPDX-License-Identifier: Apache-2.0
"""What time it is, before the snapshot and in every clone."""

import threading
import time

from snapshot_restore_py import register_after_restore, register_before_snapshot

CLOCKS = ("monotonic", "perf_counter", "time", "process_time", "thread_time")
MONOTONIC_COARSE = 6  # Linux's number; the time module has no name for it
SEEN = {}
FIRED = []


def now():
    """All clocks."""
    result = {name: getattr(time, name)() for name in CLOCKS}
    result["boottime"] = time.clock_gettime(time.CLOCK_BOOTTIME)
    result["coarse"] = time.clock_gettime(MONOTONIC_COARSE)
    result["raw"] = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    return result


TIMER = threading.Timer(3600, FIRED.append, ["early"])
TIMER.daemon = True
TIMER.start()


@register_before_snapshot
def before():
    """The last moment before the snapshot."""
    SEEN["before"] = now()


@register_after_restore
def after():
    """The first moment of a clone."""
    SEEN["after"] = now()


def handler(event, context):
    """Clocks then and now, and how long a sleep of event["sleep"] takes."""
    start = now()
    time.sleep(event.get("sleep", 0))
    backwards = 0
    last = time.monotonic()
    for _ in range(20000):
        at = time.monotonic()
        backwards += at < last
        last = at
    return {**SEEN, "start": start, "end": now(), "fired": FIRED, "backwards": backwards,
            "remaining_ms": context.get_remaining_time_in_millis()}
