# SPDX-License-Identifier: Apache-2.0
"""A function whose instances have something to lose."""

import importlib
import os
import random
import time
import uuid

# Far more than its working set, and not to be compressed: pages that only an event asks for.
BALLAST = random.Random(1).randbytes(4 << 20)
count = 0
instance = None


def handler(event, context):
    """Sleep, read the ballast, import a module, as the event says; tell how often it was called."""
    global count, instance
    count += 1
    instance = instance or str(uuid.uuid4())
    print("begins", event.get("id", ""), flush=True)
    time.sleep(event.get("sleep", 0))
    total = sum(BALLAST[i] for i in range(0, len(BALLAST), 4096)) if event.get("touch") else 0
    module = importlib.import_module(event["import"]).__name__ if "import" in event else ""
    print("ends", event.get("id", ""), flush=True)
    return {"count": count, "instance": instance, "id": event.get("id"), "total": total, "module": module,
            "task": sorted(os.listdir("/var/task"))}
