# SPDX-License-Identifier: Apache-2.0
"""A function whose start does what the variable INIT says."""

import os
import sys
import time

INIT = os.environ.get("INIT", "")
print("starting:", INIT, flush=True)
if INIT == "raise":
    raise RuntimeError("init is broken")
if INIT == "exit":
    sys.exit(4)
if INIT == "_exit":
    os._exit(5)
if INIT == "abort":
    os.abort()
if INIT == "sleep":
    time.sleep(3)
if INIT == "hang":
    while True:
        pass
if INIT == "memory":
    blocks = []
    while True:
        blocks.append(b"x" * (1 << 20))
if INIT == "import":
    import nothing_of_that_name


def handler(event, context):
    """Nothing to do."""
    return "fine"
