# SPDX-License-Identifier: Apache-2.0
"""front_sign.py PORT - requests that botocore has signed, to a server that answers any path

Prints a line for each request that got another status than expected, then how many there were.
"""

import http.client
import sys

import botocore.auth
import botocore.awsrequest
import botocore.credentials

PORT = int(sys.argv[1])
KEY = botocore.credentials.Credentials("AKIATEST", "secretsecretsecret")
WRONG = botocore.credentials.Credentials("AKIATEST", "anothersecretsecret")
TOKEN = botocore.credentials.Credentials("AKIATEST", "secretsecretsecret", "token")
PATHS = ["/", "/2015-03-31/functions/hello%3A1/invocations", "/a%20b/c~d/%E2%82%AC", "//a//b/../c/",
         "/x?b=2&a=1&a=0&c", "/x?q=a%20b%2Bc%26%3D&Q=1", "/x?arn=arn%3Aaws%3Alambda"]
requests = 0


def send(auth, method, path, body=b"", headers=(), expect=200):
    """Sign, send, and complain about another status."""
    global requests  # pylint: disable=global-statement
    request = botocore.awsrequest.AWSRequest(method, f"http://127.0.0.1:{PORT}{path}", data=body,
                                             headers=dict(headers))
    auth.add_auth(request)
    prepared = request.prepare()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request(method, prepared.url.split(str(PORT), 1)[1], body=prepared.body or None,
                       headers=dict(prepared.headers))
    status = connection.getresponse().status
    connection.close()
    requests += 1
    if status != expect:
        print(f"{method} {path}: {status}, not {expect}")


def header(key, service="lambda"):
    """Signatures in the Authorization header."""
    return botocore.auth.SigV4Auth(key, service, "eu-west-1")


def query(key, service="lambda"):
    """Presigned URLs."""
    return botocore.auth.SigV4QueryAuth(key, service, "eu-west-1", expires=60)


for where in PATHS:
    for verb, data in (("GET", b""), ("POST", b'{"x": 1}')):
        send(header(KEY), verb, where, data)
        send(header(WRONG), verb, where, data, expect=403)
send(header(KEY), "PUT", "/x", b"abc" * 100000)
send(header(KEY), "POST", "/x", b"{}", {"X-Amz-Client-Context": "  a   b ", "X-Other": "y"})
send(header(KEY), "POST", "/x", b"{}", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
send(header(KEY, "s3"), "GET", "/x", expect=403)
send(header(TOKEN), "GET", "/x", expect=403)
send(query(KEY), "GET", "/x?k=v")
send(query(WRONG), "GET", "/x?k=v", expect=403)
send(query(KEY, "s3"), "GET", "/x?k=v", expect=403)
print(f"{requests} requests")
