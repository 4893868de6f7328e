# SPDX-License-Identifier: Apache-2.0
"""oci_make.py - OCI image layouts for tests: a plain one, and ones that are hostile or damaged.

Usage: oci_make.py KIND none|gzip|zstd DIR
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

kind, compression, layout = sys.argv[1:]
blobs = os.path.join(layout, "blobs", "sha256")
os.makedirs(blobs)


def put(data):
    """Store a blob; its descriptor without a type."""
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def layer(*entries):
    """A layer of (name, type, text) entries; its descriptor."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, type_, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type = type_
            entry.mode = 0o755 if type_ == tarfile.DIRTYPE else 0o644
            entry.mtime = 1600000000
            data = b""
            if type_ == tarfile.REGTYPE:
                data = text.encode()
                entry.size = len(data)
            else:
                entry.linkname = text
            tar.addfile(entry, io.BytesIO(data))
    data = out.getvalue()
    suffix = ""
    if compression == "gzip":
        data, suffix = gzip.compress(data), "+gzip"
    elif compression == "zstd":
        data, suffix = subprocess.run(["zstd", "-qc"], input=data, check=True,
                                      capture_output=True).stdout, "+zstd"
    return dict(put(data), mediaType="application/vnd.oci.image.layer.v1.tar" + suffix)


FILE, DIR, SYM, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
layers = [
    layer(("./etc/", DIR, ""), ("./etc/kept", FILE, "first"), ("./etc/removed", FILE, "first"),
          ("./etc/replaced", FILE, "first"), ("opaque", DIR, ""), ("opaque/old", FILE, "old"),
          ("usr/bin/tool", FILE, "tool"), ("usr/bin/same", LINK, "usr/bin/tool")),
    layer(("etc", DIR, ""), ("etc/.wh.removed", FILE, ""), ("etc/replaced", FILE, "second"),
          ("opaque", DIR, ""), ("opaque/.wh..wh..opq", FILE, ""), ("opaque/new", FILE, "new")),
]
if kind == "parent":
    layers.append(layer(("../../tmp/quickthaw-escaped", FILE, "x")))
elif kind == "symlink":
    layers.append(layer(("way", SYM, "/tmp")))
    layers.append(layer(("way/quickthaw-escaped", FILE, "x")))
elif kind == "hardlink":
    layers.append(layer(("usr/loot", LINK, "/nonexistent/shadow")))
elif kind == "replaced":
    layers.append(layer(("usr/bin/tool", FILE, "another")))
elif kind == "removed":
    layers.append(layer(("usr/bin/.wh.tool", FILE, "")))
elif kind == "outside":
    outside = os.path.join(os.getcwd(), "outside")
    layers.append(layer(("var", SYM, outside), ("opt", SYM, "usr/lib"), ("usr/lib", SYM, outside),
                        ("srv", DIR, ""), ("srv/file", SYM, outside + "/file")))
elif kind == "circle":
    layers.append(layer(("opt", SYM, "srv"), ("srv", SYM, "/opt")))
elif kind == "missing":
    layers.append(dict(layers[0], digest="sha256:" + "0" * 64))
elif kind == "digest":
    with open(os.path.join(blobs, layers[0]["digest"][7:]), "ab") as file:
        file.write(b"x")
manifest = put(json.dumps({"schemaVersion": 2, "config": put(b"{}"), "layers": layers}).encode())
manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
manifest["platform"] = {"architecture": "amd64", "os": "linux"}
other = dict(manifest, platform={"architecture": "arm64", "os": "linux"})
with open(os.path.join(layout, "index.json"), "w", encoding="utf-8") as file:
    json.dump({"schemaVersion": 2, "manifests": [other, manifest]}, file)
with open(os.path.join(layout, "oci-layout"), "w", encoding="utf-8") as file:
    json.dump({"imageLayoutVersion": "1.0.0"}, file)
