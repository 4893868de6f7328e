# SPDX-License-Identifier: Apache-2.0
"""bootstrap.py - run a Python function on AWS Lambda's Runtime API.

Loads the handler that _HANDLER names ("module.function") from LAMBDA_TASK_ROOT, then loops: ask for
an invocation, call the handler, send back its result or its error. With
AWS_LAMBDA_INITIALIZATION_TYPE=snap-start it stops at /restore/next once before: that is where
Quickthaw takes the snapshot, and where every clone goes on.

What runs between /restore/next and the response runs in every clone, on memory that is cold: each
page that it touches costs. So this path is short: two system calls (one send carries the response
and the next request for work, one recv brings the answers), headers are looked up and not parsed,
encoders are made once, and what a handler may not ask for is computed when it does.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

import binascii
import gc
import importlib
import json
import os
import socket
import sys
import time
import traceback

import snapshot_restore_py

API = b"/2018-06-01/runtime/"
GENERATOR = type(_ for _ in ())


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

    function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
    memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
    log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
    identity = None

    def __init__(self, answer, request_id):
        self._answer = answer
        self.aws_request_id = request_id

    @property
    def invoked_function_arn(self):
        """The ARN that was invoked, with its qualifier."""
        return self._answer.header(b"lambda-runtime-invoked-function-arn")

    @property
    def client_context(self):
        """What the caller sent along, or None."""
        text = self._answer.header(b"lambda-runtime-client-context")
        return ClientContext(json.loads(text)) if text else None

    def get_remaining_time_in_millis(self):
        """Milliseconds until the function times out, never negative."""
        deadline_ms = int(self._answer.header(b"lambda-runtime-deadline-ms") or 0)
        return max(0, deadline_ms - int(time.time() * 1000))

    def log(self, message):
        """Write to the function's log."""
        sys.stdout.write(str(message))


class Answer:
    """An answer of the Runtime API."""

    def __init__(self, head, body):
        self._head = head
        self._names = head.lower()
        self.body = body

    @property
    def status(self):
        """The status code."""
        return int(self._head.split(b" ", 2)[1])

    def header(self, name):
        """The value of a header by its lower-case name as bytes; "" where there is none."""
        return find_header(self._head, self._names, name).decode()


def find_header(head, names, name):
    """The value of a header in head; names is head in lower case."""
    at = names.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    end = head.find(b"\r\n", at)
    return head[at:end if end >= 0 else None].strip()


class Api:
    """One connection to the Runtime API, with pipelined requests."""

    def __init__(self, address):
        host, _, port = address.partition(":")
        self._sock = socket.create_connection((host, int(port or 80)))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send = self._sock.sendall
        self._tail = f" HTTP/1.1\r\nHost: {address}\r\n".encode()
        self._buffer = bytearray(65536)
        self._view = memoryview(self._buffer)
        self._start = 0  # of the bytes that are not used yet
        self._end = 0

    def get(self, path):
        """The bytes of a GET request."""
        return b"GET " + API + path + self._tail + b"\r\n"

    def stream(self, path):
        """The head of a POST request whose body follows in chunks."""
        return (b"POST " + API + path + self._tail +
                b"Lambda-Runtime-Function-Response-Mode: streaming\r\n"
                b"Transfer-Encoding: chunked\r\n"
                b"Trailer: Lambda-Runtime-Function-Error-Type, "
                b"Lambda-Runtime-Function-Error-Body\r\n\r\n")

    def post(self, path, body, error_type=None):
        """The bytes of a POST request."""
        kind = b""
        if error_type:
            kind = f"Lambda-Runtime-Function-Error-Type: {error_type}\r\n".encode()
        return b"POST %b%b%b%bContent-Length: %d\r\n\r\n%b" % (
            API, path, self._tail, kind, len(body), body)

    def _receive(self, room):
        """Read once, with at least room bytes of buffer behind what is not used yet."""
        used = self._end - self._start
        if not used:
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
        """The next answer."""
        while (at := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            self._receive(4096)
        head = bytes(self._view[self._start:at])
        self._start = at + 4
        size = int(find_header(head, head.lower(), b"content-length") or 0)
        while self._end - self._start < size:
            self._receive(size - (self._end - self._start))
        body = bytes(self._view[self._start:self._start + size])
        self._start += size
        return Answer(head, body)

    def rehearse(self, data):
        """Pretend that data came."""
        self._view[:len(data)] = data
        self._start, self._end = 0, len(data)


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


scan_json = json.JSONDecoder().scan_once
# What json.dumps(value, ensure_ascii=False) makes anew at every call.
encode_json = json.encoder.c_make_encoder and json.encoder.c_make_encoder(
    None, json.JSONEncoder().default, json.encoder.encode_basestring, None, ": ", ", ",
    False, False, True)


def from_json(data):
    """An event from bytes."""
    text = data.decode()
    try:
        value, end = scan_json(text, 0)
        if end == len(text):
            return value
    except StopIteration:
        pass
    return json.loads(text)  # white space around it, or an error to explain


def to_json(value):
    """A handler's result as bytes; what JSON cannot hold is Runtime.MarshalError."""
    if encode_json:
        return "".join(encode_json(value, 0)).encode()
    return json.dumps(value, ensure_ascii=False).encode()


def fail(api, path, error_type, message, trace):
    """Report that the function cannot serve, and end."""
    log_error(error_type, message, trace)
    api.send(api.post(path, error_body(error_type, message, trace), error_type))
    api.answer()
    sys.exit(1)


def to_chunk(part):
    """A part of a streamed response: bytes and text as they are, anything else as JSON."""
    if isinstance(part, str):
        part = part.encode()
    elif not isinstance(part, (bytes, bytearray, memoryview)):
        part = to_json(part)
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""


def stream(api, path, parts, request_id):
    """Send what a generator yields, each part at once. Returns the bytes that are left to send."""
    head = api.stream(path + b"response")
    try:
        for part in parts:
            chunk = to_chunk(part)
            if chunk:
                api.send(head + chunk)
                head = b""
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
        log_error(error_type, message, trace, request_id)
        body = error_body(error_type, message, trace, request_id)
        if head:
            return api.post(path + b"error", body, error_type)
        return (b"0\r\nLambda-Runtime-Function-Error-Type: %b\r\n"
                b"Lambda-Runtime-Function-Error-Body: %b\r\n\r\n" % (
                    error_type.encode(), binascii.b2a_base64(body, newline=False)))
    return head + b"0\r\n\r\n"


def run_handler(api, handler, answer):
    """Call the handler. Returns the bytes of the request that reports its result, or of its end."""
    request_id = answer.header(b"lambda-runtime-aws-request-id")
    path = b"invocation/%b/" % request_id.encode()
    try:
        trace_id = answer.header(b"lambda-runtime-trace-id")
        if trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        result = handler(from_json(answer.body), Context(answer, request_id))
        if type(result) is GENERATOR:
            return stream(api, path, result, request_id)
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
    else:
        try:
            return api.post(path + b"response", to_json(result))
        except (TypeError, ValueError, RecursionError) as e:
            error_type, trace = "Runtime.MarshalError", []
            message = f"Unable to marshal response: {e}"
    log_error(error_type, message, trace, request_id)
    return api.post(path + b"error", error_body(error_type, message, trace, request_id),
                    error_type)


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
    for _ in range(16):
        api.rehearse(b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: rehearsal\r\n"
                     b'Content-Length: 22\r\n\r\n{"key": ["v", 1, 2.5]}')
        run_handler(api, lambda event, context: {"event": event}, api.answer())
        reseed()
    api.rehearse(b"")


def after_restore(api):
    """Run the hooks after a restore."""
    try:
        snapshot_restore_py.run_after_restore()
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
        fail(api, b"restore/error", "Runtime.AfterRestoreError", f"{error_type}: {message}", trace)


def stop_for_snapshot(api, ask):
    """Run the hooks before the snapshot, wait to be restored, run those after, ask for work."""
    try:
        snapshot_restore_py.run_before_snapshot()
    except Exception as e:  # pylint: disable=broad-except
        error_type, message, trace = describe_exception(e)
        fail(api, b"init/error", "Runtime.BeforeSnapshotError", f"{error_type}: {message}", trace)
    rehearse(api)
    hooks = snapshot_restore_py.has_after_restore()
    stop = api.get(b"restore/next")
    gc.collect()
    gc.freeze()
    # Without hooks nothing can go wrong before the first event: ask for it in the same breath.
    api.send(stop if hooks else stop + ask)
    api.answer()
    reseed()
    if hooks:
        after_restore(api)
        api.send(ask)


def layer_paths():
    """Where layers may bring modules along, in Lambda's order."""
    version = "python%d.%d" % sys.version_info[:2]
    paths = ("/opt/python/lib/" + version + "/site-packages", "/opt/python")
    return [path for path in paths if os.path.isdir(path)]


def main():
    """Initialise, stop for the snapshot where there is one, then serve for ever."""
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    ask = api.get(b"invocation/next")
    task_root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    os.chdir(task_root)
    sys.path[:0] = [task_root, *layer_paths()]
    try:
        handler = load_handler(os.environ.get("_HANDLER", ""))
    except InitError as e:
        fail(api, b"init/error", e.error_type, str(e), e.trace)
    except Exception as e:  # pylint: disable=broad-except
        fail(api, b"init/error", *describe_exception(e))
    flush = sys.stdout.flush
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        stop_for_snapshot(api, ask)
    else:
        api.send(ask)
    while True:
        answer = api.answer()
        if answer.status != 200:
            raise ConnectionError(f"the Runtime API answered {answer.status} to /next")
        report = run_handler(api, handler, answer)
        flush()
        api.send(report + ask)
        api.answer()


if __name__ == "__main__":
    main()
