#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tamper.py - damage snapshots, also in ways that checksums do not notice

tamper.py header FILE OFFSET HEX       change the header, with its checksum made right again
tamper.py state FILE OFFSET HEX        change the state section, with both checksums made right
tamper.py restores VMM FILE TASK       restore damaged copies: refused, or right; never a crash
tamper.py hostile VMM FILE TASK        the same with made-up state under right checksums
"""

import ctypes
import os
import random
import struct
import subprocess
import sys

HEADER_BYTES = 4096
STATE = 1


class Hash128(ctypes.Structure):
    """XXH128_hash_t."""
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3_128(data):
    """As the file stores it."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_128bits.restype = Hash128
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    value = library.XXH3_128bits(bytes(data), len(data))
    return struct.pack("<QQ", value.low, value.high)


def rehash_header(data):
    data[4080:HEADER_BYTES] = xxh3_128(data[:4080])


def rehash_section(data, entry, offset, size):
    struct.pack_into("16s", data, entry + 24, xxh3_128(data[offset:offset + size]))
    rehash_header(data)


def sections(data):
    """kind -> (position of its entry, offset, bytes)"""
    count, = struct.unpack_from("<I", data, 200)
    result = {}
    for i in range(count):
        kind, _, offset, size = struct.unpack_from("<IIQQ", data, 208 + 40 * i)
        result[kind] = (208 + 40 * i, offset, size)
    return result


def restore(vmm, path, task):
    """(status, output) of a restore with one invocation."""
    done = subprocess.run(
        [vmm, "restore", path, "--task", task, "--runtime", os.environ["ROOT"] + "/guest",
         "--invoke", '{"name": "you"}'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def try_copy(vmm, data, task, what, strict):
    """Restore a damaged copy. strict: it is refused, with file, section and offset."""
    path = os.path.join(os.environ["BATS_TEST_TMPDIR"], "tampered.qt")
    with open(path, "wb") as file:
        file.write(data)
    try:
        status, out, err = restore(vmm, path, task)
    except subprocess.TimeoutExpired:
        return f"{what}: hangs"
    if status < 0:
        return f"{what}: the vmm died of signal {-status}: {err}"
    if status == 1 and "restore:" in err and (path not in err or "offset" not in err):
        return f"{what}: file or offset not named: {err}"
    if status == 0:
        return f"{what}: went on" if strict or "Hello, you!" not in out else None
    if strict and "restore:" not in err:
        return f"{what}: status {status}: {err}"
    return None if err else f"{what}: status {status} without a word"


def variants(original, generator):
    """Damaged copies of what a restore reads: (name, bytes, is refusal certain)."""
    tables_offset, tables_bytes = struct.unpack_from("<QQ", original, 184)
    hot, hot_bytes, cold, cold_bytes = struct.unpack_from("<QQQQ", original, 144)
    places = [generator.randrange(HEADER_BYTES) for _ in range(12)] + [0, 8, 12, 4079, 4095]
    places += [tables_offset + generator.randrange(tables_bytes) for _ in range(12)]
    if hot_bytes:
        places += [hot + generator.randrange(hot_bytes) for _ in range(6)]
    places += [cold + generator.randrange(cold_bytes) for _ in range(16)]
    for place in places:
        data = bytearray(original)
        data[place] ^= 1 << generator.randrange(8)
        yield f"bit flipped at {place}", data
    for size in (0, 1, 4095, 4096, tables_offset + 5, cold + 1, len(original) - 4096, len(original) - 1):
        yield f"cut to {size}", bytearray(original[:size])
    yield "longer", bytearray(original + bytes(4096))
    for name, offset, value in (("too new", 8, 2), ("an unknown feature", 16, 1 << 40),
                                ("another architecture", 64, 183), ("page size", 72, 16384),
                                ("huge chunk count", 176, 0xffffffff), ("huge tables", 192, 1 << 40),
                                ("huge memory", 48, 1 << 50), ("huge template", 56, 1 << 40),
                                ("no template", 56, 0), ("cold region outside", 160, 1 << 35),
                                ("hot region over the header", 144, 0)):
        data = bytearray(original)
        width = "<I" if value <= 0xffffffff and offset in (8, 64, 72, 176) else "<Q"
        struct.pack_into(width, data, offset, value)
        rehash_header(data)
        yield name, data


def made_up_states(original, generator, count):
    """Copies whose state section is wrong under right checksums."""
    entry, offset, size = sections(original)[STATE]
    extremes = (0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 1 << 63, (1 << 64) - 1)
    for i in range(count):
        data = bytearray(original)
        for _ in range(1 + i % 4):
            place = offset + generator.randrange(size - 8)
            if generator.randrange(2):
                struct.pack_into("<Q", data, place, generator.choice(extremes))
            else:
                data[place] ^= 1 << generator.randrange(8)
        rehash_section(data, entry, offset, size)
        yield f"made-up state {i}", data


def main():
    """See above."""
    command, *rest = sys.argv[1:]
    if command in ("header", "state"):
        path, place, text = rest
        with open(path, "r+b") as file:
            data = bytearray(file.read())
            entry, offset, size = sections(data)[STATE]
            place = int(place) + (offset if command == "state" else 0)
            data[place:place + len(text) // 2] = bytes.fromhex(text)
            rehash_section(data, entry, offset, size)
            file.seek(0)
            file.write(data)
        return 0
    vmm, path, task = rest
    with open(path, "rb") as file:
        original = file.read()
    generator = random.Random(20)
    status, out, err = restore(vmm, path, task)
    if status or "Hello, you!" not in out:
        print(f"the snapshot itself: status {status}: {err}")
        return 1
    if command == "restores":
        # Damage in the gaps between regions is none: everything that is tried here is refused.
        complaints = [try_copy(vmm, data, task, what, True)
                      for what, data in variants(original, generator)]
    else:
        complaints = [try_copy(vmm, data, task, what, False)
                      for what, data in made_up_states(original, generator, 40)]
    complaints = [text for text in complaints if text]
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
