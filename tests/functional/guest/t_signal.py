# SPDX-License-Identifier: Apache-2.0
"""signal handlers, alarm, setitimer, KeyboardInterrupt, wakeup descriptors, faulthandler."""
import faulthandler
import os
import select
import signal
import socket
import threading
import time

hits = []
signal.signal(signal.SIGUSR1, lambda sig, frame: hits.append(sig))
os.kill(os.getpid(), signal.SIGUSR1)
assert hits == [signal.SIGUSR1]

signal.signal(signal.SIGALRM, lambda sig, frame: hits.append(sig))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.01)
while hits.count(signal.SIGALRM) < 3:
    signal.pause()
assert signal.setitimer(signal.ITIMER_REAL, 0)[1] == 0.01
signal.alarm(1)
assert signal.alarm(0) == 1

# PEP 475: time.sleep goes on after a handler ran.
signal.setitimer(signal.ITIMER_REAL, 0.01)
start = time.monotonic()
time.sleep(0.05)
assert time.monotonic() - start >= 0.05


class Stop(Exception):
    pass


def raiser(sig, frame):
    raise Stop


signal.signal(signal.SIGALRM, raiser)
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    while True:
        pass
except Stop:
    pass

try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
    raise AssertionError("no KeyboardInterrupt")
except KeyboardInterrupt:
    pass

a, b = socket.socketpair()
a.setblocking(False)
signal.set_wakeup_fd(a.fileno())
signal.raise_signal(signal.SIGUSR1)
assert select.select([b], [], [], 5)[0] and b.recv(1) == bytes([signal.SIGUSR1])
signal.set_wakeup_fd(-1)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()
assert signal.sigwait([signal.SIGUSR2]) == signal.SIGUSR2
assert signal.sigtimedwait([signal.SIGUSR2], 0.01) is None

signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
signal.signal(signal.SIGVTALRM, raiser)
try:
    while True:
        pass
except Stop:
    pass
faulthandler.enable()
print("signal ok")
