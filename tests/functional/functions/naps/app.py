# SPDX-License-Identifier: Apache-2.0
"""Sleeps as long as its event says."""

import os
import time


def handler(event, context):
    """event: seconds, or none."""
    time.sleep((event or {}).get("seconds", 0))
    return {"name": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "at": time.time()}
