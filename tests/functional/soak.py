#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# soak.py - many invocations over many functions while instances come and go: every one is answered
# once, none runs twice, and nothing is left of them
#
# usage: soak.py SNAPD-PID SOCKET SNAPCTL CODE INVOCATIONS FUNCTIONS CLIENTS KILLS
#
# Functions of CODE (functions/lasting) are deployed and published; then CLIENTS threads invoke them
# at random: as it comes, or with a forced kind of start, while KILLS instances are killed. A
# function counts its calls and says which instance it is. So an answer that was lost, a call that
# ran twice, or an answer that went to another caller shows as a gap in an instance's counts, a
# count that was told twice, or an id that is not the caller's. Afterwards, when idle instances have
# ended, snapd must have the descriptors and processes that it had before. The last line sums up.

import collections
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

snapd, path, snapctl, code = int(sys.argv[1]), *sys.argv[2:5]
invocations, functions, clients, kills = map(int, sys.argv[5:9])
os.environ["QUICKTHAW_SOCKET"] = path
slow = 10 if os.environ.get("HWKVM") else 1
errors = []
lock = threading.Lock()


class Connection(http.client.HTTPConnection):
    """HTTP over snapd's unix socket."""

    def __init__(self):
        super().__init__("localhost", timeout=120 * slow)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(path)


def get(url):
    """What snapd says about itself."""
    c = Connection()
    c.request("GET", url)
    return json.loads(c.getresponse().read())


def names():
    """The functions."""
    return [f"soak-{i}" for i in range(functions)]


def wait_for(what, seconds, condition):
    """Poll, for a bounded time."""
    for _ in range(seconds * slow * 5):
        if condition():
            return
        time.sleep(0.2)
    errors.append(f"{what}: not within {seconds * slow} s")


def settled():
    """No instance but the shells that are to be ready."""
    stats = get("/quickthaw/v1/stats")
    return (all(i["State"] == "shell" for i in stats["Instances"]) and
            stats["Shells"]["Ready"] == stats["Shells"]["Target"] and
            stats["InvocationsUnderWay"] == 0 and stats["ReadsInFlight"] == 0)


KINDS = ("[userfaultfd]", "pidfd", "quickthaw-template", "quickthaw-resident", "quickthaw-state",
         "quickthaw-payload", "snapshot.qt", "socket:", "cgroup")


def descriptors():
    """snapd's descriptors by kind, and its children and their cgroups."""
    found = collections.Counter()
    for fd in os.listdir(f"/proc/{snapd}/fd"):
        try:
            link = os.readlink(f"/proc/{snapd}/fd/{fd}")
        except OSError:
            continue
        found[next((kind for kind in KINDS if kind in link), "other")] += 1
    with open(f"/proc/{snapd}/task/{snapd}/children", encoding="ascii") as f:
        found["children of the main thread"] = len(f.read().split())
    found["vmm"] = len(subprocess.run(["pgrep", "-P", str(snapd), "-x", "vmm"], check=False,
                                      capture_output=True).stdout.split())
    for base, dirs, _ in os.walk("/sys/fs/cgroup"):
        if base.endswith(f"/quickthaw/{snapd}"):
            found["cgroups"] += len(dirs)
    return found


def steady_descriptors():
    """The same twice, a second apart: snapd closes a connection a moment after its client did."""
    found = None
    while (now := descriptors()) != found:
        found = now
        time.sleep(1)
    return found


answers = collections.defaultdict(list)  # instance: counts
outcomes = collections.Counter()


def invoke(connection, number):
    """One invocation, and what its answer must be."""
    function = random.choice(names())
    headers = {}
    kind = random.choice(("", "", "", "resident", "cold"))
    if kind:
        headers["X-Quickthaw-Start"] = kind
        headers["X-Quickthaw-Keep"] = random.choice("01")
    body = json.dumps({"id": number, "sleep": random.choice((0, 0, 0, 0.01)),
                       "touch": random.random() < 0.1})
    connection.request("POST", f"/2015-03-31/functions/{function}/invocations", body, headers)
    reply = connection.getresponse()
    data = json.loads(reply.read())
    with lock:
        if reply.status == 200 and not reply.getheader("X-Amz-Function-Error"):
            outcomes[reply.getheader("X-Quickthaw-Start")] += 1
            if data["id"] != number:
                errors.append(f"the answer to {number} is that to {data['id']}")
            answers[data["instance"]].append(data["count"])
        else:
            outcomes["killed"] += 1
            if not any(text in json.dumps(data) for text in ("Runtime.ExitError", "without a word")):
                errors.append(f"{number}: {reply.status} {data}")


def client(numbers):
    """Invocations one after the other."""
    connection = Connection()
    for number in numbers:
        try:
            invoke(connection, number)
        except (OSError, http.client.HTTPException, ValueError) as e:
            with lock:
                errors.append(f"{number}: no answer: {e!r}")
            connection.close()


def kill_some(done):
    """Kill instances, idle and busy ones, spread over the whole."""
    left = kills
    while left and not done.wait(0.2):
        with lock:
            so_far = sum(outcomes.values())
        if so_far * kills < invocations * (kills - left):
            continue
        pids = [i["Pid"] for i in get("/quickthaw/v1/stats")["Instances"]
                if i["State"] in ("idle", "invoking", "restoring")]
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)
            left -= 1


def check_counts():
    """Each instance has told each of its calls once; the last may have been killed."""
    for instance, counts in answers.items():
        if sorted(counts) != list(range(1, len(counts) + 1)):
            errors.append(f"instance {instance} has answered the calls {sorted(counts)}")


def publish():
    """Every function, with its working set recorded."""
    for name in names():
        subprocess.run([snapctl, "deploy", name, "--dir", code, "--timeout", "60", "--memory", "256"],
                       check=True, stdout=subprocess.DEVNULL)
        subprocess.run([snapctl, "publish", name, "--train", "{}"], check=True,
                       stdout=subprocess.DEVNULL)
    connection = Connection()
    for name in names():  # once each: templates are there before and after
        connection.request("POST", f"/2015-03-31/functions/{name}/invocations", "{}")
        connection.getresponse().read()


random.seed(int(os.environ.get("SOAK_SEED", "1")))
publish()
wait_for("the beginning", 60, settled)
before = steady_descriptors()
finished = threading.Event()
killer = threading.Thread(target=kill_some, args=(finished,))
threads = [threading.Thread(target=client, args=(range(i, invocations, clients),))
           for i in range(clients)]
for t in [killer, *threads]:
    t.start()
for t in threads:
    t.join()
finished.set()
killer.join()
check_counts()
wait_for("the end of all instances", 60, settled)
# The last connections take a moment to be closed.
wait_for("what snapd had before", 20, lambda: descriptors() == before)
after = descriptors()
for kind in sorted(before | after):
    if before[kind] != after[kind]:
        errors.append(f"{kind}: {before[kind]} before, {after[kind]} after")
if outcomes["killed"] > kills:
    errors.append(f"{outcomes['killed']} invocations failed, and {kills} instances were killed")
if sum(outcomes.values()) != invocations:
    errors.append(f"{sum(outcomes.values())} answers to {invocations} invocations")
for text in errors[:20]:
    print(text)
print(f"{invocations} invocations, {len(answers)} instances, {dict(outcomes)}, "
      f"{len(errors)} errors")
sys.exit(1 if errors else 0)
