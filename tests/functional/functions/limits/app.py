# SPDX-License-Identifier: Apache-2.0
"""Uses as much of something as its event says."""

import os
import sys

KEPT = []


def fill(path, mib):
    """Write mib MiB; the error number and how many fitted."""
    block = b"x" * (1 << 20)
    done = 0
    try:
        with open(path, "wb", buffering=0) as file:
            for done in range(mib):
                if file.write(block) != len(block):
                    file.write(block)  # a short write comes before the error
            done = mib
    except OSError as e:
        return {"errno": e.errno, "mib": done}
    return {"errno": 0, "mib": done}


def handler(event, context):
    """event: keep, tmp, result, log, argument sizes."""
    if "keep" in event:
        for _ in range(event["keep"]):
            KEPT.append(bytearray(os.urandom(4096) * 256))
        return len(KEPT)
    if "tmp" in event:
        result = fill("/tmp/fill", event["tmp"])
        result["free"] = os.statvfs("/tmp").f_bavail
        os.remove("/tmp/fill")
        result["again"] = fill("/tmp/again", 1)["errno"]
        os.remove("/tmp/again")
        return result
    if "files" in event:
        opened = []
        try:
            for _ in range(event["files"]):
                opened.append(open("/dev/null", "rb"))
        except OSError as e:
            return {"errno": e.errno, "opened": len(opened)}
        finally:
            for file in opened:
                file.close()
        return {"errno": 0}
    if "result" in event:
        return "x" * (event["result"] - 2)
    if "log" in event:
        line = "y" * 1023
        for _ in range(event["log"] * 1024):
            print(line)
        sys.stderr.write("z" * (1 << 20))
        return "logged"
    return len(event.get("argument", ""))
