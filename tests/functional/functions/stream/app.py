# SPDX-License-Identifier: Apache-2.0
"""Responses in parts, and answers to requests at a URL."""

import time


def handler(event, context):
    """What the event asks for."""
    print("a line of the log")
    if "requestContext" in event:
        return at_url(event)
    if "count" in event:
        return parts(event)
    return {"request": context.aws_request_id}


def parts(event):
    """event["count"] times event["text"], one after the other."""
    for i in range(event["count"]):
        if i:
            time.sleep(event.get("pause", 0))
        yield event["text"] * event.get("times", 1)
    if event.get("fail"):
        raise ValueError("half way")


def at_url(event):
    """The event itself, or what its path asks for."""
    if event["rawPath"] == "/fail":
        raise ValueError("no page")
    if event["rawPath"] == "/parts":
        pause = int((event.get("queryStringParameters") or {}).get("pause", 0))
        return parts({"count": 3, "text": "part ", "pause": pause})
    return {"statusCode": 201, "headers": {"X-From": "function", "Content-Type": "text/x-test"},
            "cookies": ["a=1", "b=2"],
            "body": " ".join([event["requestContext"]["http"]["method"], event["rawPath"],
                              event["rawQueryString"], event.get("body") or "-"])}
