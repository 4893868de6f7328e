# SPDX-License-Identifier: Apache-2.0
"""What a function finds in its machine, and some ways to end it."""
import os
import sys
import time
import uuid

print("imported")


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def end(how):
    if how == "raise":
        raise ValueError("as it was asked to")
    if how == "exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how == "hang":
        time.sleep(3600)
    if how == "panic":
        with open("/proc/sysrq-trigger", "w", encoding="ascii") as trigger:
            trigger.write("c")
    if how == "flood":
        with open("/dev/kmsg", "w", encoding="ascii") as log:
            while True:
                log.write("<0>" + "x" * 900 + "\n")
                log.flush()


def handler(event, context):
    print("handler says", event.get("say", "nothing"), file=sys.stderr)
    end(event.get("end"))
    time.sleep(event.get("sleep", 0))
    return {
        "uuid": str(uuid.uuid4()),
        "urandom": os.urandom(8).hex(),
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "memory_kib": int(read("/proc/meminfo").split()[1]),
        "time": time.time(),
        "opt": sorted(os.listdir("/opt")),
        "setting": os.environ.get("SETTING"),
        "version": context.function_version,
        "writable": os.access("/var/task", os.W_OK) and not os.statvfs("/var/task").f_flag & os.ST_RDONLY,
    }
