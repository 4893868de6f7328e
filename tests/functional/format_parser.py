#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""format_parser.py - read a snapshot as docs/snapshot-format.md says, sharing no code with it

Compares header, sections, chunks and working set with what the tool prints as JSON, and of a diff
which file of the chain has each page. Checksums and LZ4 are left out: the standard library has neither.
"""

import json
import os
import struct
import sys

MAGIC = b"\x89QTS\r\n\x1a\n"
SECTIONS = {
    1: "state",
    2: "metadata",
    3: "working set",
    4: "chunk table",
    5: "page index",
    6: "base",
    7: "zero pages",
    8: "identity",
}


class Bad(Exception):
    """The file does not follow the specification."""


def varints(data):
    """LEB128 numbers, one after the other."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield value
            value = shift = 0
    if shift:
        raise Bad("a number is cut short")


def unzigzag(value):
    return -(value + 1) // 2 if value & 1 else value // 2


def read_header(data):
    if len(data) < 4096 or data[:8] != MAGIC:
        raise Bad("not a snapshot")
    names = (
        "version header_bytes incompatible compatible file_bytes created_ns ram_pages "
        "template_pages architecture guest_kind page_size chunk_pages"
    ).split()
    header = dict(zip(names, struct.unpack_from("<IIQQQQQQIIII", data, 8)))
    header["cpu_features"] = list(struct.unpack_from("<8Q", data, 80))
    names = (
        "hot_offset hot_bytes cold_offset cold_bytes chunks hot_chunks "
        "tables_offset tables_bytes section_count reserved"
    ).split()
    header.update(zip(names, struct.unpack_from("<QQQQIIQQII", data, 144)))
    if header["version"] != 1 or header["incompatible"] & ~1 or header["architecture"] != 62:
        raise Bad("version, features or architecture")
    if header["file_bytes"] != len(data) or any(data[208 + 40 * header["section_count"] : 4080]):
        raise Bad("size or reserved bytes")
    return header


def read_sections(data, header):
    sections = []
    at = header["tables_offset"]
    for i in range(header["section_count"]):
        kind, flags, offset, size, low, high = struct.unpack_from("<IIQQQQ", data, 208 + 40 * i)
        at = (at + 7) // 8 * 8
        if offset != at:
            raise Bad("sections are not in a row")
        at += size
        sections.append(
            {
                "kind": kind,
                "name": SECTIONS.get(kind, "unknown section"),
                "required": bool(flags & 1),
                "offset": offset,
                "bytes": size,
                "xxh3_128": f"{high:016x}{low:016x}",
            }
        )
    if at != header["tables_offset"] + header["tables_bytes"]:
        raise Bad("tables are longer than their sections")
    return sections


def read_chunks(data, header, table, index):
    numbers = varints(index)
    chunks = []
    after = 0
    at = header["hot_offset"]
    for i in range(header["chunks"]):
        _, stored, count, flags, reserved = struct.unpack_from("<QIBBH", table, 16 * i)
        if reserved or flags & ~1:
            raise Bad("reserved bits of a chunk")
        if i == header["hot_chunks"]:
            at = header["cold_offset"]
        first = after + unzigzag(next(numbers))
        pages = []
        while True:
            run = next(numbers) + 1
            pages += range(first, first + run)
            if len(pages) >= count:
                break
            first += run + next(numbers)
        if len(pages) != count:
            raise Bad("a run passes the end of its chunk")
        after = pages[-1] + 1
        chunks.append(
            {
                "file": 0,
                "offset": at,
                "stored_bytes": stored,
                "hot": i < header["hot_chunks"],
                "raw": bool(flags & 1),
                "pages": pages,
            }
        )
        at += stored
    if next(numbers, None) is not None:
        raise Bad("numbers left over in the page index")
    return chunks


def read_working_set(data):
    result = []
    after = 0
    for value in varints(data):
        page = after + unzigzag(value >> 1)
        result.append({"page": page, "written": bool(value & 1)})
        after = page + 1
    return result


def read_base(header, data):
    """Name and depth of a diff's base."""
    if bool(header["incompatible"] & 1) != (data is not None):
        raise Bad("feature bit and section of the base do not agree")
    if data is None:
        return None
    _, _, ram, _, architecture, kind, depth, size = struct.unpack_from("<QQQQIIII", data)
    name = data[48:].decode()
    if len(data) != 48 + size or not 1 <= size <= 255 or "/" in name or name in (".", ".."):
        raise Bad("the name of the base")
    if (ram, architecture, kind) != (header["ram_pages"], 62, header["guest_kind"]):
        raise Bad("the base is another machine's")
    return name, depth


def read_zero_pages(data):
    numbers = varints(data)
    pages = set()
    at = 0
    for gap in numbers:
        length = next(numbers) + 1
        pages |= set(range(at + gap, at + gap + length))
        at += gap + length
    return pages


def owners(path, depth=8):
    """By page, which file of the chain has it: 0 is the file itself."""
    with open(path, "rb") as f:
        header, sections, chunks, _, content = parse(f.read())
    base = read_base(header, content.get(6))
    result = {}
    if base:
        if not base[1] < depth:
            raise Bad("depth does not get less")
        result = owners(os.path.join(os.path.dirname(path), base[0]), base[1])
        zero = read_zero_pages(content.get(7, b""))
        result = {
            page: file + 1
            for page, file in result.items()
            if page < header["template_pages"] and page not in zero
        }
    result.update({page: 0 for chunk in chunks for page in chunk["pages"]})
    return result


def parse(data):
    header = read_header(data)
    sections = read_sections(data, header)
    content = {s["kind"]: data[s["offset"] : s["offset"] + s["bytes"]] for s in sections}
    chunks = read_chunks(data, header, content[4], content[5])
    return header, sections, chunks, read_working_set(content.get(3, b"")), content


def main():
    """format_parser.py FILE INFO.json PAGES.json: is what the tool says what the file says?"""
    with open(sys.argv[1], "rb") as f:
        header, sections, chunks, working_set, _ = parse(f.read())
    with open(sys.argv[2], encoding="utf-8") as f:
        info = json.load(f)
    with open(sys.argv[3], encoding="utf-8") as f:
        pages = json.load(f)
    words = [int(value, 16) for value in info["cpu_features"].values()]
    same = {
        "header": all(
            info[k] == header[k]
            for k in info
            if k in header and k not in ("architecture", "guest_kind", "cpu_features")
        ),
        "cpu features": words == header["cpu_features"],
        "sections": info["sections"] == sections,
        "chunks": [c for c in pages["chunks"] if c["file"] == 0] == chunks,
        "pages": {page: c["file"] for c in pages["chunks"] for page in c["pages"]} == owners(sys.argv[1]),
        "working set": pages["working_set"] == working_set,
    }
    for what, equal in same.items():
        print(f"{what}: {'same' if equal else 'DIFFERENT'}")
    return 0 if all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
