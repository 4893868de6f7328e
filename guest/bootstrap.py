# SPDX-License-Identifier: Apache-2.0
"""bootstrap.py - run a Python function on AWS Lambda's Runtime API.

Loads the handler that _HANDLER names ("module.function") from LAMBDA_TASK_ROOT, then loops: ask for
an invocation, call the handler, send back its result or its error. With
AWS_LAMBDA_INITIALIZATION_TYPE=snap-start it stops at /restore/next once before: that is where
Quickthaw takes the snapshot, and where every clone goes on.

Every system call is an exit to the vmm, so the loop is written to need two of them: one send
carries the response and the next request for work, one recv brings both answers.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

import gc
import importlib
import json
import os
import socket
import sys
import time
import traceback

import snapshot_restore_py

API = "/2018-06-01/runtime/"
RESPONSE_BYTES_MAX = 6 * 1024 * 1024


class InitError(Exception):
    """The function cannot be loaded; carries Lambda's error type."""

    def __init__(self, error_type, message, trace=()):
        super().__init__(message)
        self.error_type = error_type
        self.trace = list(trace)


class ClientContext:
    """The caller's X-Amz-Client-Context, as Lambda's Python runtime presents it."""

    def __init__(self, data):
        self.custom = data.get("custom")
        self.env = data.get("env")
        self.client = data.get("client")


class Context:
    """What a handler gets as its second argument."""

    def __init__(self, headers):
        env = os.environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.function_name = env.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = env.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        self.memory_limit_in_mb = env.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = env.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = env.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.identity = None
        client_context = headers.get("lambda-runtime-client-context")
        self.client_context = ClientContext(json.loads(client_context)) if client_context else None
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms", "0"))

    def get_remaining_time_in_millis(self):
        """Milliseconds until the function times out, never negative."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        """Write to the function's log."""
        sys.stdout.write(str(message))


class Api:
    """One connection to the Runtime API, with pipelined requests."""

    def __init__(self, address):
        host, _, port = address.partition(":")
        self._sock = socket.create_connection((host, int(port or 80)))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(65536)
        self._view = memoryview(self._buffer)
        self._start = 0  # of the bytes that are not used yet
        self._end = 0
        self._host = address

    def request(self, method, path, body=None, error_type=None):
        """The bytes of one request."""
        head = f"{method} {API}{path} HTTP/1.1\r\nHost: {self._host}\r\n"
        if error_type:
            head += f"Lambda-Runtime-Function-Error-Type: {error_type}\r\n"
        if body is None:
            return (head + "\r\n").encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def send(self, data):
        """Send all of the bytes."""
        self._sock.sendall(data)

    def _receive(self, room):
        """Read once, with at least @room bytes of buffer behind what is not used yet."""
        used = self._end - self._start
        if self._start == self._end:
            self._start = self._end = 0
        if len(self._buffer) - self._end < room:
            grown = bytearray(max(len(self._buffer), used + room))
            grown[:used] = self._view[self._start:self._end]
            self._buffer, self._view = grown, memoryview(grown)
            self._start, self._end = 0, used
        count = self._sock.recv_into(self._view[self._end:])
        if not count:
            raise ConnectionError("the Runtime API closed the connection")
        self._end += count

    def answer(self):
        """The next answer: (status, headers with lower-case names, body)."""
        while True:
            at = self._buffer.find(b"\r\n\r\n", self._start, self._end)
            if at >= 0:
                break
            self._receive(4096)
        lines = self._buffer[self._start:at].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._start = at + 4
        size = int(headers.get("content-length", "0"))
        while self._end - self._start < size:
            self._receive(size - (self._end - self._start))
        body = bytes(self._view[self._start:self._start + size])
        self._start += size
        return int(lines[0].split(" ", 2)[1]), headers, body


def load_handler(name):
    """Import module.function as _HANDLER names it. Raises InitError with Lambda's types."""
    module_name, _, function_name = name.rpartition(".")
    if not module_name or not function_name:
        raise InitError("Runtime.MalformedHandlerName",
                        f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as e:
        raise InitError("Runtime.ImportModuleError",
                        f"Unable to import module '{module_name}': {e}") from e
    except SyntaxError as e:
        raise InitError("Runtime.UserCodeSyntaxError",
                        f"Syntax error in module '{module_name}': {e}",
                        [f'  File "{e.filename}" Line {e.lineno}\n    {e.text or ""}']) from e
    handler = getattr(module, function_name, None)
    if handler is None:
        raise InitError("Runtime.HandlerNotFound",
                        f"Handler '{function_name}' missing on module '{module_name}'")
    return handler


def error_body(error_type, message, trace, request_id=""):
    """Lambda's error shape as bytes."""
    return json.dumps({
        "errorMessage": message,
        "errorType": error_type,
        "requestId": request_id,
        "stackTrace": trace,
    }).encode()


def describe_exception(error):
    """(type, message, stack trace) of a handler's exception, without this file's frames."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = [f for f in frames if f.filename != __file__]
    return type(error).__name__, str(error), traceback.format_list(frames)


def log_error(error_type, message, trace, request_id=""):
    """The lines that Lambda logs for an error."""
    lines = f"[ERROR] {error_type}: {message}"
    if request_id:
        lines += f"\nRequestId: {request_id}"
    if trace:
        lines += "\nTraceback (most recent call last):\n" + "".join(trace).rstrip("\n")
    print(lines, file=sys.stderr, flush=True)


def to_json(value):
    """A handler's result as bytes; what JSON cannot hold is Runtime.MarshalError."""
    return json.dumps(value, ensure_ascii=False).encode()


def fail(api, path, error_type, message, trace):
    """Report that the function cannot serve, and end."""
    log_error(error_type, message, trace)
    api.send(api.request("POST", path, error_body(error_type, message, trace), error_type))
    api.answer()
    sys.exit(1)


def run_handler(api, handler, headers, body):
    """Call the handler. Returns the bytes of the request that reports its result."""
    request_id = headers["lambda-runtime-aws-request-id"]
    try:
        trace_id = headers.get("lambda-runtime-trace-id")
        if trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        result = handler(json.loads(body), Context(headers))
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
    else:
        try:
            return api.request("POST", f"invocation/{request_id}/response", to_json(result))
        except (TypeError, ValueError) as e:
            error_type, trace = "Runtime.MarshalError", []
            message = f"Unable to marshal response: {e}"
    log_error(error_type, message, trace, request_id)
    return api.request("POST", f"invocation/{request_id}/error",
                       error_body(error_type, message, trace, request_id), error_type)


def reseed():
    """Clones of one snapshot must not share their random numbers."""
    random = sys.modules.get("random")
    if random:
        random.seed()
    ssl = sys.modules.get("ssl")
    if ssl:
        ssl.RAND_add(os.urandom(48), 48.0)
    tempfile = sys.modules.get("tempfile")
    if tempfile:
        tempfile._name_sequence = None  # pylint: disable=protected-access
    numpy = sys.modules.get("numpy")
    if numpy and hasattr(numpy, "random"):
        numpy.random.seed()


def rehearse(api):
    """Run the loop's own code on a made-up event: the interpreter specialises it before the snapshot
    instead of in every clone."""
    headers = {"lambda-runtime-aws-request-id": "rehearsal", "lambda-runtime-deadline-ms": "0"}
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n" \
             b'Content-Length: 15\r\n\r\n{"status":"OK"}'
    for _ in range(16):
        run_handler(api, lambda event, context: {"event": event}, headers, b'{"k": ["v", 1, 2.5]}')
        api._buffer[:len(answer)] = answer  # pylint: disable=protected-access
        api._start, api._end = 0, len(answer)  # pylint: disable=protected-access
        api.answer()
    api._start = api._end = 0  # pylint: disable=protected-access
    reseed()


def stop_for_snapshot(api):
    """Run the hooks before the snapshot, wait to be restored, run those after."""
    try:
        snapshot_restore_py.run_before_snapshot()
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
        fail(api, "init/error", "Runtime.BeforeSnapshotError", f"{error_type}: {message}", trace)
    rehearse(api)
    gc.collect()
    gc.freeze()
    api.send(api.request("GET", "restore/next"))
    api.answer()
    reseed()
    try:
        snapshot_restore_py.run_after_restore()
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
        fail(api, "restore/error", "Runtime.AfterRestoreError", f"{error_type}: {message}", trace)


def main():
    """Initialise, stop for the snapshot where there is one, then serve for ever."""
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT", "/var/task"))
    try:
        handler = load_handler(os.environ.get("_HANDLER", ""))
    except InitError as e:
        fail(api, "init/error", e.error_type, str(e), e.trace)
    except Exception as e:  # pylint: disable=broad-except
        fail(api, "init/error", *describe_exception(e))
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        stop_for_snapshot(api)
    ask = api.request("GET", "invocation/next")
    api.send(ask)
    while True:
        status, headers, body = api.answer()
        if status != 200:
            raise ConnectionError(f"the Runtime API answered {status} to /next")
        report = run_handler(api, handler, headers, body)
        sys.stdout.flush()
        api.send(report + ask)
        api.answer()


if __name__ == "__main__":
    main()
