# SPDX-License-Identifier: Apache-2.0
"""code_make.py - zip files and OCI image layouts for tests: code_make.py zip|image OUT NAME=TEXT..."""

import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile


def make_zip(out, files):
    """One zip file; names that end in ! are executable."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, text in files:
            info = zipfile.ZipInfo(name.rstrip("!"), (2020, 1, 1, 0, 0, 0))
            info.external_attr = (0o100755 if name.endswith("!") else 0o100644) << 16
            z.writestr(info, text)


def put_blob(out, data):
    """Into the layout; returns its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(out, "blobs/sha256", digest), "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def make_image(out, files):
    """A layout with one layer for each file, as a build makes them."""
    os.makedirs(os.path.join(out, "blobs/sha256"))
    layers = []
    for name, text in files:
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w:gz") as tar:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                       **put_blob(out, layer.getvalue())})
    config = {"os": "linux", "architecture": "amd64", "config": {"WorkingDir": "/var/task"}}
    manifest = {"schemaVersion": 2, "layers": layers,
                "config": put_blob(out, json.dumps(config).encode())}
    index = {"schemaVersion": 2, "manifests": [put_blob(out, json.dumps(manifest).encode())]}
    for name, content in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            json.dump(content, f)


def main():
    """The command line."""
    kind, out, *pairs = sys.argv[1:]
    files = [pair.split("=", 1) for pair in pairs]
    {"zip": make_zip, "image": make_image}[kind](out, files)


main()
