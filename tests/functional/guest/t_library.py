# SPDX-License-Identifier: Apache-2.0
"""The parts of the standard library that lean on the system: files, databases, crypto, ctypes."""
import bz2
import ctypes
import datetime
import decimal
import hashlib
import hmac
import json
import lzma
import math
import mmap
import os
import pathlib
import platform
import random
import re
import secrets
import shutil
import socket
import sqlite3
import ssl
import struct
import sys
import tempfile
import time
import uuid
import zipfile
import zlib

with tempfile.TemporaryDirectory() as d:
    path = os.path.join(d, "test.db")
    with sqlite3.connect(path) as db:
        db.execute("create table t(id integer primary key, v text)")
        db.executemany("insert into t(v) values(?)", [(str(i),) for i in range(1000)])
    assert sqlite3.connect(path).execute("select count(*), max(id) from t").fetchone() == (1000, 1000)
    z = os.path.join(d, "a.zip")
    with zipfile.ZipFile(z, "w", zipfile.ZIP_DEFLATED) as f:
        f.writestr("dir/x.txt", "hello" * 1000)
    with zipfile.ZipFile(z) as f:
        assert f.testzip() is None and f.read("dir/x.txt") == b"hello" * 1000
    p = pathlib.Path(d, "sub", "file")
    p.parent.mkdir()
    p.write_text("abc\n" * 3)
    assert p.read_text().count("abc") == 3 and p.stat().st_size == 12
    shutil.copytree(p.parent, os.path.join(d, "copy"))
    assert sorted(os.listdir(d)) == ["a.zip", "copy", "sub", "test.db"]
    with open(p, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0:3] = b"ABC"
    assert p.read_text().startswith("ABC")
assert not os.path.exists(d)

ctx = ssl.create_default_context()
assert ctx.check_hostname and len(ssl.RAND_bytes(32)) == 32
assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf")
assert hashlib.scrypt(b"p", salt=b"s", n=16, r=8, p=1)
assert hmac.compare_digest(hmac.digest(b"k", b"m", "sha1"), hmac.digest(b"k", b"m", "sha1"))
decimal.getcontext().prec = 50
assert str(decimal.Decimal(2).sqrt()).startswith("1.41421356237309504880168872420969807856967")
libc = ctypes.CDLL(None)
assert libc.abs(-5) == 5 and ctypes.CDLL("libm.so.6")
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
array = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
libc.qsort(array, 5, ctypes.sizeof(ctypes.c_int), callback(lambda a, b: a[0] - b[0]))
assert list(array) == [1, 2, 3, 4, 5]
data = os.urandom(10000) + b"a" * 10000
for codec in (zlib, bz2, lzma):
    assert codec.decompress(codec.compress(data)) == data
assert len({uuid.uuid4() for _ in range(100)} | {secrets.token_hex() for _ in range(100)}) == 200
assert random.Random(1).random() == 0.13436424411240122
assert abs(time.time() - datetime.datetime.now().timestamp()) < 5
assert re.sub(r"(\d+)", lambda m: str(int(m[1]) + 1), "a1b22") == "a2b23"
assert json.loads(json.dumps({"x": [1, None, math.pi]}))["x"][2] == math.pi
assert struct.unpack("<Q", struct.pack("<d", 1.0))[0] == 0x3FF0000000000000
assert socket.gethostbyname("localhost") == "127.0.0.1"
assert platform.system() == "Linux" and os.cpu_count() >= 1
try:
    open("/etc/quickthaw-test", "w")
    raise AssertionError("the root is writable")
except OSError:
    pass
try:
    os.fork()
    raise AssertionError("fork")
except OSError:
    pass
print("library ok", sys.version_info[0])
