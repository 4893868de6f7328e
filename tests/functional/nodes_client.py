# SPDX-License-Identifier: Apache-2.0
"""nodes_client.py - a client of several nodes, which then kills the one that serves it

usage: nodes_client.py URL NODE=PID...

Names of functions that are not there will do for finding out which node is asked: it says so.
"""

import json
import os
import signal
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

NAMES = ["hello"] + ["function-%d" % i for i in range(23)]
# A bound on waiting for HAProxy to see that a node is gone; it looks every two seconds.
TRIES = 120


def node_of(reply):
    return reply["ResponseMetadata"]["HTTPHeaders"]["x-quickthaw-node"]


def ask(client, name):
    """Which node is asked about a function, whether it has it or not."""
    try:
        return node_of(client.invoke(FunctionName=name, InvocationType="DryRun"))
    except ClientError as e:
        if e.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return node_of(e.response)


def hello(client, qualifier=None):
    """A real invocation: what it answers and who answered."""
    more = {"Qualifier": qualifier} if qualifier else {}
    reply = client.invoke(FunctionName="hello", Payload=b'{"name": "you"}', **more)
    assert "FunctionError" not in reply, reply
    return json.loads(reply["Payload"].read()), node_of(reply)


def main():
    url, pids = sys.argv[1], dict(arg.split("=") for arg in sys.argv[2:])
    client = boto3.client(
        "lambda", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id="AKIATEST", aws_secret_access_key="secretsecretsecret",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=300))

    before = {name: ask(client, name) for name in NAMES}
    assert set(before.values()) == set(pids), "not every node has functions: %s" % before
    for name in NAMES:
        assert ask(client, name) == before[name], "%s is not always at the same node" % name
        arn = "arn:aws:lambda:us-east-1:000000000000:function:" + name
        assert ask(client, arn) == before[name], "%s by its ARN is at another node" % name
    home = before["hello"]
    for qualifier in (None, "1"):
        answer, node = hello(client, qualifier)
        assert node == home, "hello answered at %s, not %s" % (node, home)
        assert "you" in json.dumps(answer), answer
    try:
        client.create_function(FunctionName="x", Runtime="python3.11", Handler="app.handler",
                               Role="arn:aws:iam::0:role/x", Code={"ZipFile": b"x"})
        raise AssertionError("a function can be deployed through the balancer")
    except ClientError as e:
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 405, e

    os.kill(int(pids[home]), signal.SIGKILL)
    after = {}
    for _ in range(TRIES):
        try:
            after = {name: ask(client, name) for name in NAMES}
        except ClientError as e:  # it has not been noticed yet
            assert e.response["ResponseMetadata"]["HTTPStatusCode"] in (502, 503), e
        except ConnectionClosedError:  # it died with a connection that HAProxy had kept to it
            pass
        if after and home not in after.values():
            break
        time.sleep(0.5)
    assert after and home not in after.values(), "functions are still sent to %s: %s" % (home, after)
    moved = [name for name in NAMES if after[name] != before[name]]
    assert all(before[name] == home for name in moved), "others moved, too: %s" % moved
    assert sorted(moved) == sorted(n for n in NAMES if before[n] == home), moved
    answer, node = hello(client)
    assert node == after["hello"] != home
    print("hello moved and answered: %s to %s; %d of %d functions moved" %
          (home, node, len(moved), len(NAMES)))


main()
