# SPDX-License-Identifier: Apache-2.0
"""What a function finds around it: environment, files, context, log."""

import os
import socket
import sys

AT_INIT = {"env": dict(os.environ), "tmp": sorted(os.listdir("/tmp"))}
with open("/tmp/from-init", "w", encoding="utf-8") as out:
    out.write("init")
print("line of init")


def attempt(call, *args):
    """The error that a call ends with, or None."""
    try:
        call(*args)
    except OSError as e:
        return type(e).__name__
    return None


def write_file(path):
    """Write something."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("x")


def connect(address):
    """Try to leave."""
    with socket.socket() as s:
        s.settimeout(2)
        s.connect(address)


def handler(event, context):
    """Everything that a test asks for."""
    before = sorted(os.listdir("/tmp"))
    if event.get("write"):
        write_file("/tmp/" + event["write"])
    print("line of", event.get("name", "the handler"))
    print("error line", file=sys.stderr)
    return {
        "env": dict(os.environ),
        "init": AT_INIT,
        "tmp": before,
        "cwd": os.getcwd(),
        "task": sorted(os.listdir("/var/task")),
        "refused": {path: attempt(write_file, path)
                    for path in ("/var/task/x", "/var/runtime/x", "/x", "/etc/x", "/usr/x")},
        "remove": attempt(os.remove, "/var/task/app.py"),
        "outside": attempt(os.stat, event.get("outside", "/var/task/../../../../nowhere/x")),
        "network": attempt(connect, ("192.0.2.1", 80)),
        "uid": os.getuid(),
        "context": {name: getattr(context, name) for name in (
            "function_name", "function_version", "memory_limit_in_mb", "aws_request_id",
            "invoked_function_arn", "log_group_name", "log_stream_name")},
        "remaining_ms": context.get_remaining_time_in_millis(),
        "client_context": context.client_context and context.client_context.custom,
    }
