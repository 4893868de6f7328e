# SPDX-License-Identifier: Apache-2.0
"""snapshot_restore_py.py - hooks around a snapshot, under the name that AWS gave them.

    from snapshot_restore_py import register_before_snapshot, register_after_restore

    @register_before_snapshot
    def close_connections(): ...

    @register_after_restore
    def open_connections(): ...

Before-snapshot hooks run in the reverse order of registration, after-restore hooks in order.
Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    """Call func(*args, **kwargs) before the snapshot is taken. Usable as a decorator."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Call func(*args, **kwargs) in every clone before its first invocation. Usable as a decorator."""
    _after_restore.append((func, args, kwargs))
    return func


def run_before_snapshot():
    """What the bootstrap calls before /restore/next."""
    for func, args, kwargs in reversed(_before_snapshot):
        func(*args, **kwargs)


def has_after_restore():
    """Is there anything for run_after_restore() to do?"""
    return bool(_after_restore)


def run_after_restore():
    """What the bootstrap calls after /restore/next."""
    for func, args, kwargs in _after_restore:
        func(*args, **kwargs)
