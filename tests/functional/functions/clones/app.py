# SPDX-License-Identifier: Apache-2.0
"""Everything that must differ between the clones of one snapshot."""

import os
import random
import secrets
import ssl
import tempfile
import time
import uuid

from snapshot_restore_py import register_after_restore

INSTANCE = {}
# Used before the snapshot, so that their state is in it.
random.random(), uuid.uuid4(), ssl.RAND_bytes(8), secrets.token_hex(8), os.urandom(8)
with tempfile.NamedTemporaryFile():
    pass


@register_after_restore
def name_instance():
    """The name of this clone."""
    INSTANCE["id"] = str(uuid.uuid4())


def handler(event, context):
    """Random values of every kind; event["sleep"] seconds later."""
    time.sleep(event.get("sleep", 0))
    with tempfile.NamedTemporaryFile() as file:
        name = file.name
    INSTANCE["calls"] = INSTANCE.get("calls", 0) + 1
    return {
        "calls": INSTANCE["calls"],
        "values": {
            "instance": INSTANCE["id"],
            "uuid4": str(uuid.uuid4()),
            "uuid1": str(uuid.uuid1()),
            "urandom": os.urandom(16).hex(),
            "getrandom": os.getrandom(16).hex(),
            "random": repr(random.random()),
            "fresh": repr(random.Random().random()),
            "token_hex": secrets.token_hex(16),
            "rand_bytes": ssl.RAND_bytes(16).hex(),
            "tempfile": name,
            "system_random": repr(random.SystemRandom().random()),
        },
    }
