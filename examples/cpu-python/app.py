# SPDX-License-Identifier: Apache-2.0
"""A function that only computes: how fast does Python run inside the guest?"""

import time


def work(rounds):
    """Integer, float, list and dictionary work of the interpreter, without system calls."""
    total = 0
    table = {}
    for i in range(rounds):
        total = (total * 31 + i) % 1000003
        table[total & 255] = total * 0.5
        if not i & 63:
            total += sum(list(table.values())[:8]) > 0
    return total


def handler(event, context):  # pylint: disable=unused-argument
    """Time event["rounds"] rounds of work."""
    start = time.perf_counter()
    result = work(event["rounds"])
    return {"result": result, "ms": (time.perf_counter() - start) * 1e3}
