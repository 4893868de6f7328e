# SPDX-License-Identifier: Apache-2.0
"""front_clients.py API-PORT URL-PORT SNAPD-PID KEYS-FILE - boto3 and botocore as clients of snapd

The function `stream` is published. Prints a line for each thing that was shown; any that is not
shown ends it with a traceback.
"""

import base64
import http.client
import json
import os
import signal
import sys
import time
import urllib.request

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.eventstream
import botocore.exceptions

API, URLS, SNAPD, KEYS = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
KEY = botocore.credentials.Credentials("AKIATEST", "secretsecretsecret")


def client(secret="secretsecretsecret"):
    """A client of the API."""
    return boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{API}", region_name="us-east-1",
                        aws_access_key_id="AKIATEST", aws_secret_access_key=secret,
                        config=botocore.config.Config(read_timeout=600,
                                                      retries={"total_max_attempts": 1}))


def request(port, method, path, body=b"", headers=(), sign=True):
    """An answer whose body is not read yet."""
    made = botocore.awsrequest.AWSRequest(method, f"http://127.0.0.1:{port}{path}", data=body,
                                          headers=dict(headers))
    if sign:
        botocore.auth.SigV4Auth(KEY, "lambda", "us-east-1").add_auth(made)
    made = made.prepare()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(method, path, body=made.body or None, headers=dict(made.headers))
    return connection.getresponse()


def events(answer):
    """The events of an event stream, as they come."""
    buffer = botocore.eventstream.EventStreamBuffer()
    while data := answer.read1(65536):
        buffer.add_data(data)
        yield from buffer
    # A frame that was begun and not ended would still be here.
    assert not buffer._data, buffer._data  # pylint: disable=protected-access


def stream(event, headers=()):
    """InvokeWithResponseStream: (type of event, payload) as they come."""
    answer = request(API, "POST", "/2021-11-15/functions/stream/response-streaming-invocations",
                     json.dumps(event).encode(), headers)
    assert answer.status == 200, answer.read()
    assert answer.headers["Content-Type"] == "application/vnd.amazon.eventstream"
    assert answer.headers["X-Amz-Executed-Version"] == "1"
    for one in events(answer):
        assert one.headers[":message-type"] == "event"
        yield one.headers[":event-type"], one.payload


def states():
    """States of all instances."""
    with urllib.request.urlopen(f"http://127.0.0.1:{API}/quickthaw/v1/stats") as answer:
        return [i["State"] for i in json.load(answer)["Instances"]]


def show_invoke():
    """Signed, with the log's tail; and wrongly signed."""
    answer = client().invoke(FunctionName="stream", LogType="Tail", Payload=b"{}")
    payload = json.load(answer["Payload"])
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert payload == {"request": request_id}, payload
    lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
    assert lines[0].startswith(f"START RequestId: {request_id}"), lines
    assert lines[1] == "a line of the log", lines
    assert lines[-1].startswith(f"REPORT RequestId: {request_id}"), lines
    try:
        client("anothersecretsecret").invoke(FunctionName="stream", Payload=b"{}")
    except botocore.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "InvalidSignatureException", e.response
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    else:
        raise AssertionError("a wrong signature was accepted")
    print("invoke")


def show_stream():
    """Parts as they come, errors, and a response that comes whole."""
    seen = stream({"count": 3, "text": "abc", "pause": 3})
    assert next(seen) == ("PayloadChunk", b"abc")
    assert "invoking" in states(), states()  # the rest is not even made yet
    assert list(seen) == [("PayloadChunk", b"abc")] * 2 + [("InvokeComplete", b"{}")]

    *chunks, (last, complete) = stream({"count": 2, "text": "x", "fail": True},
                                       {"X-Amz-Log-Type": "Tail"})
    complete = json.loads(complete)
    assert chunks == [("PayloadChunk", b"x")] * 2 and last == "InvokeComplete", chunks
    assert complete["ErrorCode"] == "Unhandled", complete
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "half way", complete
    assert b"REPORT RequestId" in base64.b64decode(complete["LogResult"])

    (_, payload), last = stream({})
    assert "request" in json.loads(payload) and last == ("InvokeComplete", b"{}")

    *chunks, last = stream({"count": 64, "text": "0123456789abcdef", "times": 4096})
    whole = b"".join(payload for _, payload in chunks)
    assert whole == b"0123456789abcdef" * 4096 * 64 and last[0] == "InvokeComplete"

    answer = client().invoke(FunctionName="stream", Payload=b'{"count": 3, "text": "abc"}')
    assert answer["Payload"].read() == b"abcabcabc"
    print("stream")


def set_url(**fields):
    """UpdateFunctionUrlConfig, of which Debian 12's botocore does not know InvokeMode."""
    answer = request(API, "PUT", "/2021-10-31/functions/stream/url", json.dumps(fields).encode())
    assert answer.status == 200, answer.read()


def show_url():
    """A URL for everybody, for pages, and for those who sign."""
    api = client()
    url = api.create_function_url_config(
        FunctionName="stream", AuthType="NONE",
        Cors={"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 60})
    path = url["FunctionUrl"].split(str(URLS), 1)[1]
    answer = request(URLS, "PUT", path + "a%20b?c=d", b"text", {"Content-Type": "text/plain"}, False)
    assert answer.status == 201 and answer.read() == b"PUT /a%20b c=d text"
    assert answer.headers["X-From"] == "function"
    assert answer.headers["Content-Type"] == "text/x-test"
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]

    host = {"Host": path.strip("/") + ".lambda-url.example"}
    answer = request(URLS, "GET", "/x", headers={**host, "Origin": "https://a.example"}, sign=False)
    assert answer.status == 201 and answer.read() == b"GET /x  -"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    answer = request(URLS, "OPTIONS", "/x", headers={
        **host, "Origin": "https://a.example", "Access-Control-Request-Method": "GET"}, sign=False)
    assert answer.status == 200 and answer.headers["Access-Control-Allow-Methods"] == "GET"
    assert request(URLS, "GET", path + "fail", sign=False).status == 502
    assert request(URLS, "GET", "/nobody/x", sign=False).status == 403

    api.update_function_url_config(FunctionName="stream", AuthType="AWS_IAM")
    answer = request(URLS, "GET", path + "x", sign=False)
    assert answer.status == 403
    assert answer.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    assert request(URLS, "POST", path + "x?b=1&a=2", b"body").status == 201

    # With the mode RESPONSE_STREAM parts come when they are made.
    set_url(AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    answer = request(URLS, "GET", path + "parts?pause=3", sign=False)
    assert answer.status == 200 and answer.headers["Transfer-Encoding"] == "chunked", answer.headers
    assert answer.read1() == b"part "
    assert "invoking" in states(), states()
    assert answer.read() == b"part part "
    set_url(InvokeMode="BUFFERED")
    answer = request(URLS, "GET", path + "parts", sign=False)
    assert answer.status == 200 and answer.read() == b"part part part ", answer.status
    print("url")


def show_new_keys():
    """SIGHUP: keys that are gone are refused, and a file with a mistake changes nothing."""
    def works():
        return request(API, "GET", "/2015-03-31/functions/").status == 200

    def wait_for(want):
        for _ in range(600):
            if works() == want:
                return
            time.sleep(0.1)
        raise AssertionError("the keys were not read again")

    with open(KEYS, "w", encoding="ascii") as f:
        f.write("AKIAOTHER secretsecretsecret\n")
    assert works()
    os.kill(SNAPD, signal.SIGHUP)
    wait_for(False)
    with open(KEYS, "w", encoding="ascii") as f:
        f.write("AKIATEST secretsecretsecret\n")
    os.kill(SNAPD, signal.SIGHUP)
    wait_for(True)
    print("keys")


show_invoke()
show_stream()
show_url()
show_new_keys()
