# SPDX-License-Identifier: Apache-2.0
"""A function that is captured in the middle of everything: its state must go on after a restore."""
import asyncio
import os
import queue
import select
import signal
import socket
import threading
import time

ticks = 0
alarms = 0


def tick():
    global ticks
    while True:
        time.sleep(0.005)
        ticks += 1


def on_alarm(sig, frame):
    global alarms
    alarms += 1


work, results = queue.Queue(), queue.Queue()


def serve_queue():
    while True:
        results.put(work.get() * 2)


loop = asyncio.new_event_loop()
port = None
listening = threading.Event()


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def serve():
    global port
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    listening.set()
    await asyncio.sleep(100000)


for target in (tick, serve_queue, lambda: loop.run_until_complete(serve())):
    threading.Thread(target=target, daemon=True).start()
listening.wait()

# Open connections with bytes under way on both sides.
conn = socket.create_connection(("127.0.0.1", port))
conn.sendall(b"one\ntwo")
a, b = socket.socketpair()
b.sendall(b"x" * 50000)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
udp_tx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp_tx.sendto(b"datagram", udp.getsockname())
r, w = os.pipe()
os.write(w, b"pipe")
ep = select.epoll()
ep.register(a, select.EPOLLIN | select.EPOLLET)
ep.register(r, select.EPOLLIN)
condition = threading.Condition()
released = []


def wait_for_release():
    with condition:
        condition.wait()
        released.append(1)


waiter = threading.Thread(target=wait_for_release)
waiter.start()
closed = socket.socketpair()
closed[1].close()
signal.signal(signal.SIGALRM, on_alarm)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
mono = time.monotonic()
real = time.time()


def handler(event, context):
    ticks_before, alarms_before = ticks, alarms
    f = conn.makefile("rb")
    conn.sendall(b"\nthree\n")
    lines = [f.readline() for _ in range(3)]
    assert lines == [b"ONE\n", b"TWO\n", b"THREE\n"], lines
    events = dict(ep.poll(1))
    assert events == {a.fileno(): select.EPOLLIN, r: select.EPOLLIN}, events
    assert dict(ep.poll(0)) == {r: select.EPOLLIN}
    assert len(a.recv(100000, socket.MSG_WAITALL | socket.MSG_DONTWAIT)) == 50000
    assert udp.recvfrom(100) == (b"datagram", udp_tx.getsockname())
    assert os.read(r, 10) == b"pipe"
    assert closed[0].recv(1) == b""
    work.put(21)
    assert results.get(timeout=5) == 42
    with condition:
        condition.notify()
    waiter.join(5)
    assert released == [1]
    assert signal.sigtimedwait([signal.SIGUSR2], 0).si_signo == signal.SIGUSR2
    deadline = time.monotonic() + 5
    while (ticks < ticks_before + 3 or alarms < alarms_before + 3) and time.monotonic() < deadline:
        time.sleep(0.001)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert ticks >= ticks_before + 3, ticks
    assert alarms >= alarms_before + 3, alarms
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "slept"), loop)
    assert future.result(5) == "slept"
    # Monotonic time does not count what lies between capture and restore; wall time does.
    assert 0 <= time.monotonic() - mono < 60
    assert time.time() >= real
    return "all of it went on"
