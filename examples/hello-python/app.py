# SPDX-License-Identifier: Apache-2.0
"""The smallest function: says hello, and tells clones apart."""

import os
import uuid


def handler(event, context):
    """Greet event["name"]."""
    return {
        "message": f"Hello, {event.get('name', 'world')}!",
        "clone": str(uuid.uuid4()),
        "version": context.function_version,
        "region": os.environ.get("AWS_REGION", "local"),
    }
