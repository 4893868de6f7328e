# SPDX-License-Identifier: Apache-2.0
"""asyncio: sleep, tasks, streams on loopback, datagrams, executors, signals, unix sockets."""
import asyncio
import os
import signal
import time


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def streams():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def client(i):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        payload = bytes([i]) * 200_000
        writer.write(payload)
        writer.write_eof()
        assert await reader.read(-1) == payload
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(i) for i in range(8)))
    server.close()
    await server.wait_closed()


async def localhost():
    server = await asyncio.start_server(echo, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("localhost", port)
    writer.write(b"x\n")
    assert await reader.readline() == b"x\n"
    writer.close()
    server.close()


async def datagrams():
    loop = asyncio.get_running_loop()
    got = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            got.set_result((data, addr))

    rx, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    tx, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=rx.get_extra_info("sockname"))
    tx.sendto(b"ping")
    data, addr = await asyncio.wait_for(got, 5)
    assert data == b"ping" and addr == tx.get_extra_info("sockname")
    rx.close()
    tx.close()


async def unix():
    server = await asyncio.start_unix_server(echo, "/tmp/asyncio.sock")
    os.chmod("/tmp/asyncio.sock", 0o600)
    reader, writer = await asyncio.open_unix_connection("/tmp/asyncio.sock")
    writer.write(b"unix\n")
    assert await reader.readline() == b"unix\n"
    writer.close()
    server.close()
    os.unlink("/tmp/asyncio.sock")


async def main():
    start = time.monotonic()
    await asyncio.gather(*(asyncio.sleep(0.05) for _ in range(50)))
    assert 0.05 <= time.monotonic() - start < 3
    await streams()
    await localhost()
    await datagrams()
    await unix()
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, lambda: 6 * 7) == 42
    got = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, got.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(got.wait(), 5)
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.02)
        raise AssertionError("no timeout")
    except asyncio.TimeoutError:
        pass


asyncio.run(main())
print("asyncio ok")
