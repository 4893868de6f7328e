# SPDX-License-Identifier: Apache-2.0
"""Hooks around the snapshot, in the order in which they ran; HOOK says which of them fails."""

import os
import time

from snapshot_restore_py import register_after_restore, register_before_snapshot

ORDER = ["init"]
HOOK = os.environ.get("HOOK")


def note(what, fail="never"):
    """A hook with an argument."""
    ORDER.append(what)
    print("hook:", what)
    if HOOK == fail:
        raise ValueError(f"{what} failed")
    if HOOK == f"{fail}-hang":
        time.sleep(3600)


register_before_snapshot(note, "before 1", fail="before")
register_before_snapshot(note, "before 2")
register_after_restore(note, "after 1", fail="after")
register_after_restore(note, what="after 2")


def handler(event, context):
    """The order so far."""
    return ORDER
