# SPDX-License-Identifier: Apache-2.0
"""front_uploads.py SOCKET - five clients upload at once: four go on, one is told to come back"""

import http.client
import json
import socket
import sys

HALF = 8 << 20  # over what counts as an upload, and a part of one


class Connection(http.client.HTTPConnection):
    """HTTP over snapd's socket."""

    def __init__(self):
        super().__init__("localhost", timeout=600)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


def begin():
    """The first half of a body of JSON that is no function."""
    connection = Connection()
    connection.putrequest("POST", "/2015-03-31/functions")
    connection.putheader("Content-Length", str(2 * HALF))
    connection.endheaders()
    connection.send(b"{" + b" " * (HALF - 1))
    return connection


def answer(connection):
    """Status and error of a body that is sent to its end."""
    connection.send(b" " * (HALF - 1) + b"}")
    reply = connection.getresponse()
    return reply.status, reply.headers["x-amzn-ErrorType"], json.loads(reply.read())


four = [begin() for _ in range(4)]
status, error, body = answer(begin())
assert (status, error) == (429, "TooManyRequestsException"), (status, error, body)
for one in four:
    status, error, body = answer(one)
    assert (status, error) == (400, "ValidationException"), (status, error, body)
status, error, body = answer(begin())  # there is room again
assert status == 400, (status, error, body)
print("four of five")
