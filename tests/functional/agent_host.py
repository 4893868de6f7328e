# SPDX-License-Identifier: Apache-2.0
"""agent_host.py - boot a kernel guest in plain QEMU and speak to its agent, as a vmm would.

A virtio-serial port stands for the vsock device, which needs a module of the host's kernel. The
guest's program is run; the machine is then prepared for a capture, told that it was restored, and
left alone: without a vmm it has to end itself.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

READY, START, LOG, EXITED, PREPARE, PREPARED, RESUMED, RESUMED_DONE = range(1, 9)
WAIT_S = 120


class Agent:
    """The stream of include/agent_proto.h."""

    def __init__(self, sock):
        self._sock = sock
        self._file = sock.makefile("rb")

    def get(self, *wanted):
        """The next message: (type, body)."""
        head = self._file.read(8)
        if len(head) < 8:
            sys.exit("agent_host: the agent closed the connection")
        kind, size = struct.unpack("<II", head)
        if kind not in wanted:
            sys.exit(f"agent_host: message {kind} instead of {wanted}")
        return kind, self._file.read(size - 8)

    def send(self, kind, body):
        """One message."""
        self._sock.sendall(struct.pack("<II", kind, 8 + len(body)) + body)

    def run(self, argv):
        """Run a program to its end, its output on ours."""
        strings = b"".join(s.encode() + b"\0" for s in argv)
        self.send(START, struct.pack("<IIII", len(argv), 0, 0, 0) + strings)
        while True:
            kind, body = self.get(LOG, EXITED)
            if kind == EXITED:
                break
            sys.stdout.write(body[8:].decode())
        error, code, signal, _ = struct.unpack("<iiiI", body)
        print(f"exited {code}" if not error and not signal else f"error {error} signal {signal}")

    def prepare(self):
        """As before a capture."""
        self.send(PREPARE, struct.pack("<II", 1, 0))
        free, took_ns = struct.unpack("<QQ", self.get(PREPARED)[1])
        print(f"prepared: {free >> 20} MiB are free, after {took_ns / 1e6:.0f} ms")

    def resume(self, hostname):
        """As after a restore, a day later."""
        wall = int((time.time() + 86400) * 1e9)
        self.send(RESUMED, struct.pack("<Q32s64s6sBB4s4sII", wall, os.urandom(32),
                                       hostname.encode(), b"", 0, 0, b"", b"", 1, 0))
        got, error, _ = struct.unpack("<QiI", self.get(RESUMED_DONE)[1])
        within = "within" if 0 <= got - wall < 1e9 and not error else f"not (error {error}) within"
        print(f"resumed: clock {within} 1 s")


def qemu_command(args, path):
    """A microvm: the agent's end of the stream is the unix socket at path."""
    # Its TSC has 1 GHz. The kernel would measure it against a PIT that TCG serves too late.
    words = "console=ttyS0 panic=-1 reboot=t tsc_early_khz=1000000 quiet"
    words += " agent.control=/dev/vport0p1"
    disks = [("root", args.root, "on")]
    if args.task:
        disks.append(("task", args.task, "on"))
        words += " agent.task=/dev/vdb"
    if args.upper:
        words += f" agent.upper=/dev/vd{'abc'[len(disks)]}"
        disks.append(("upper", args.upper, "off"))
    command = ["qemu-system-x86_64", "-M", "microvm", "-accel", "tcg", "-cpu", "max", "-m", "256",
               "-nodefaults", "-no-reboot", "-display", "none", "-serial", "file:" + path + ".log",
               "-kernel", args.kernel, "-initrd", args.initrd, "-append", words,
               "-device", "virtio-serial-device", "-device", "virtserialport,nr=1,chardev=agent",
               "-chardev", f"socket,id=agent,path={path},server=on,wait=on"]
    for name, file, read_only in disks:
        command += ["-drive", f"file={file},format=raw,if=none,id={name},readonly={read_only}",
                    "-device", f"virtio-blk-device,drive={name}"]
    return command


def main():
    """Boot, and speak to the agent."""
    parser = argparse.ArgumentParser()
    for name in ("kernel", "initrd", "root"):
        parser.add_argument("--" + name, required=True)
    for name in ("task", "upper"):
        parser.add_argument("--" + name)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "agent")
        qemu = subprocess.Popen(qemu_command(args, path), stdin=subprocess.DEVNULL)
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(WAIT_S)
            while not os.path.exists(path):
                time.sleep(0.01)
            sock.connect(path)
            agent = Agent(sock)
            version, flags, boot_ns = struct.unpack("<IIQ", agent.get(READY)[1])
            print(f"ready after {boot_ns / 1e9:.2f} s, version {version}, flags {flags}")
            agent.run(args.command)
            agent.prepare()
            agent.resume("clone-1")
            agent.run(args.command[:1] + ["hostname"])
            sock.close()
            agent = None
            qemu.wait(timeout=WAIT_S)
            print("no machine is left")
        except (OSError, subprocess.TimeoutExpired) as e:
            sys.exit(f"agent_host: {e}; the guest's console:\n" + open(path + ".log").read())
        finally:
            qemu.kill()
            qemu.wait()


main()
