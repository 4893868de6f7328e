# SPDX-License-Identifier: Apache-2.0
"""bare_handler.py - call a function's handler once in a bare python3 process: the baseline.

Usage: bare_handler.py TASK_DIR MODULE.FUNCTION < event.json
"""

import importlib
import json
import sys


class Context:  # pylint: disable=too-few-public-methods
    """As much of Lambda's context as the examples use."""

    function_version = "$LATEST"
    aws_request_id = "bare"


sys.path.insert(0, sys.argv[1])
module_name, _, function_name = sys.argv[2].rpartition(".")
handler = getattr(importlib.import_module(module_name), function_name)
print(json.dumps(handler(json.load(sys.stdin), Context())))
