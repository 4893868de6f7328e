# SPDX-License-Identifier: Apache-2.0
"""socketserver, http.server with urllib, select, poll, epoll, selectors."""
import http.server
import select
import selectors
import socket
import socketserver
import threading
import urllib.error
import urllib.request


class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upper) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_connection(server.server_address, timeout=5) as conn:
        with conn.makefile("rwb") as f:
            for word in (b"one\n", b"two\n"):
                f.write(word)
                f.flush()
                assert f.readline() == word.upper()
    server.shutdown()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"x" * 300_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *args):
        pass


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_port}/"
    assert len(urllib.request.urlopen(url, timeout=10).read()) == 300_000
    assert urllib.request.urlopen(url, data=b"abc", timeout=10).read() == b"cba"
    server.shutdown()

try:
    urllib.request.urlopen("http://10.1.2.3/", timeout=5)
    raise AssertionError("the guest reached out")
except urllib.error.URLError as e:
    assert "unreachable" in str(e), e

a, b = socket.socketpair()
b.send(b"x")
assert select.select([a], [b], [], 1) == ([a], [b], [])
poll = select.poll()
poll.register(a, select.POLLIN)
assert poll.poll(1000) == [(a.fileno(), select.POLLIN)]
with select.epoll() as ep:
    ep.register(a, select.EPOLLIN | select.EPOLLET)
    assert ep.poll(1) == [(a.fileno(), select.EPOLLIN)]
    assert ep.poll(0) == []
with selectors.DefaultSelector() as sel:
    sel.register(a, selectors.EVENT_READ, "data")
    assert sel.select(1)[0][0].data == "data"
b.close()
assert a.recv(10) == b"x" and a.recv(10) == b""
print("servers ok")
