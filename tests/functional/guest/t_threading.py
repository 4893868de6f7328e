# SPDX-License-Identifier: Apache-2.0
"""threading, queue, concurrent.futures, thread-local data, conditions, timers, barriers."""
import concurrent.futures
import queue
import sys
import threading
import time

lock = threading.Lock()
total = 0


def add(n):
    global total
    for _ in range(n):
        with lock:
            total += 1


threads = [threading.Thread(target=add, args=(500,)) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
assert total == 4000, total

q = queue.Queue(maxsize=3)
got = []


def consume():
    while (item := q.get()) is not None:
        got.append(item)


t = threading.Thread(target=consume)
t.start()
for i in range(100):
    q.put(i)
q.put(None)
t.join()
assert got == list(range(100))

with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(lambda x: x * x, range(50))) == [x * x for x in range(50)]
    done = {pool.submit(time.sleep, 0.01) for _ in range(6)}
    assert len(concurrent.futures.wait(done, timeout=5).done) == 6

# Two busy threads share the interpreter: only pre-emption and the GIL's timeouts switch them.
sys.setswitchinterval(0.001)
counts = [0, 0]
stop = time.monotonic() + 0.3


def busy(i):
    while time.monotonic() < stop:
        counts[i] += 1


threads = [threading.Thread(target=busy, args=(i,)) for i in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
assert min(counts) > max(counts) / 20, counts

event = threading.Event()
assert not event.wait(0.02)
threading.Timer(0.02, event.set).start()
assert event.wait(5)
barrier = threading.Barrier(3)
threads = [threading.Thread(target=barrier.wait) for _ in range(2)]
[t.start() for t in threads]
barrier.wait()
[t.join() for t in threads]
assert threading.active_count() == 1
print("threading ok")
