#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# keeper.py - in the place of systemd: run a program, keep descriptors for it, start it again
#
# usage: keeper.py DIRECTORY PROGRAM [ARGUMENT]...
#
# It speaks sd_notify(3) and sd_listen_fds(3) as systemd does for a unit with
# FileDescriptorStoreMax=, KillMode=process and Restart=always: FDSTORE=1, FDNAME=, FDSTOREREMOVE=1,
# BARRIER=1. DIRECTORY/pid has the pid of the program that runs now, DIRECTORY/stored the names of
# what is kept, one a line. It ends when DIRECTORY/stop is there and the program ends.

import fcntl
import os
import select
import socket
import sys

directory, command = sys.argv[1], sys.argv[2:]
path = f"{directory}/notify"
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
store = []  # (name, descriptor)


def write_file(name, text):
    """Whoever reads it finds the whole of it."""
    with open(f"{directory}/{name}.new", "w", encoding="ascii") as f:
        f.write(text)
    os.rename(f"{directory}/{name}.new", f"{directory}/{name}")


def start():
    """The program, with what is kept from descriptor 3 on, in an order that means nothing."""
    pid = os.fork()
    if pid:
        return pid
    passed = store[::-1]
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD, 512) for _, fd in passed]
    for i, fd in enumerate(parked):
        os.dup2(fd, 3 + i)
    os.closerange(3 + len(parked), 1024)
    os.environ["NOTIFY_SOCKET"] = path
    if passed:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(passed))
        os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
    os.execv(command[0], command)


def receive():
    """One message, and what it asks for."""
    data, fds, _, _ = socket.recv_fds(notify, 65536, 253)
    lines = dict(line.partition("=")[::2] for line in data.decode().splitlines())
    name = lines.get("FDNAME", "stored")
    if lines.get("FDSTORE") == "1":
        store.extend((name, fd) for fd in fds)
        fds = []
    if lines.get("FDSTOREREMOVE") == "1":
        for entry in [e for e in store if e[0] == name]:
            os.close(entry[1])
            store.remove(entry)
    for fd in fds:  # BARRIER=1: closed, now that all before it is done
        os.close(fd)
    if "FDNAME" in lines:
        write_file("stored", "".join(f"{name}\n" for name, _ in store))


while True:
    program = start()
    write_file("pid", f"{program}\n")
    gone = os.pidfd_open(program)
    while True:
        ready, _, _ = select.select([notify, gone], [], [])
        if notify in ready:
            receive()
        elif gone in ready:  # what it had said before it ended comes first
            break
    os.waitpid(program, 0)
    os.close(gone)
    if os.path.exists(f"{directory}/stop"):
        break
