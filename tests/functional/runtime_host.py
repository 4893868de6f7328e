#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""runtime_host.py - a Runtime API that gives a bootstrap one payload after the other, without a guest

Usage: runtime_host.py PAYLOADS COMMAND...

Runs COMMAND with AWS_LAMBDA_RUNTIME_API set, and prints a line for each of PAYLOADS (a JSON list):
what the command posted about it, as "response BODY" or "error BODY", then "exit STATUS" once it has
ended. A command that waits for more than there is, is ended.
"""
import http.server
import json
import os
import subprocess
import sys

payloads = [json.dumps(payload) for payload in json.loads(sys.argv[1])]
PREFIX = "/2018-06-01/runtime/"


class Api(http.server.BaseHTTPRequestHandler):
    """GET next, POST ID/response or ID/error."""
    protocol_version = "HTTP/1.1"
    given = 0

    def log_message(self, *args):
        """Nothing."""

    def reply(self, status, body, headers=()):
        """An answer with a length."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """Hand out the next payload; when there is none, all is done."""
        if Api.given == len(payloads):
            bootstrap.kill()
            return
        Api.given += 1
        self.reply(200, payloads[Api.given - 1].encode(), [
            ("Lambda-Runtime-Aws-Request-Id", f"request-{Api.given}"),
            ("Lambda-Runtime-Deadline-Ms", "9999999999999"),
            ("Lambda-Runtime-Invoked-Function-Arn", "arn")])

    def do_POST(self):
        """What became of it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(self.path.removeprefix(PREFIX).rpartition("/")[2], body.decode(), flush=True)
        self.reply(202, b"{}")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
server.timeout = 0.1
environment = dict(os.environ, AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{server.server_port}")
with subprocess.Popen(sys.argv[2:], env=environment) as bootstrap:
    while bootstrap.poll() is None:
        server.handle_request()
    print("exit", bootstrap.returncode)
