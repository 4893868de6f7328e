# SPDX-License-Identifier: Apache-2.0
"""Does what the event says: runs its Python, and answers with what that leaves in `result`."""
import random
import secrets
import ssl
import uuid

# What has a state has made some numbers of it before the snapshot.
EARLY = random.random(), secrets.token_hex(8), ssl.RAND_bytes(8), uuid.uuid4()


def handler(event, _context):
    """Run event["run"]."""
    names = {}
    exec(event["run"], names)  # pylint: disable=exec-used
    return names.get("result")
