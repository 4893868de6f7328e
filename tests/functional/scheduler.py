# SPDX-License-Identifier: Apache-2.0
"""What scheduler.bats asks of a snapd, in one process: many requests at once.

usage: scheduler.py SOCKET CASE
"""

import http.client
import json
import os
import socket
import sys
import threading
import time

FUNCTIONS = "/2015-03-31/functions"
SLOW = 10 if os.environ.get("HWKVM") else 1


class Connection(http.client.HTTPConnection):
    """HTTP over snapd's socket."""

    def __init__(self):
        super().__init__("localhost", timeout=60 * SLOW)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


class Reply:
    """status, headers, value of the body, and when it came."""

    def __init__(self, method, path, body=None):
        connection = Connection()
        started = time.monotonic()
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        data = response.read()
        self.at = time.monotonic()
        self.seconds = self.at - started
        self.status = response.status
        self.headers = response.headers
        self.value = json.loads(data) if data else None
        connection.close()


def invoke(name, event=None, qualifier=""):
    path = f"{FUNCTIONS}/{name}/invocations" + (f"?Qualifier={qualifier}" if qualifier else "")
    return Reply("POST", path, event or {})


class Later(threading.Thread):
    """An invocation that goes on beside others."""

    def __init__(self, name, event=None):
        super().__init__()
        self.args = (name, event)
        self.reply = None
        self.start()

    def run(self):
        self.reply = invoke(*self.args)

    def wait(self):
        self.join()
        return self.reply


def at_once(calls):
    """Invocations (name, event) that come at the same moment, each on a connection that is there."""
    connections = []
    for _ in calls:
        connection = Connection()
        connection.connect()
        connections.append(connection)
    for connection, (name, event) in zip(connections, calls):
        connection.request("POST", f"{FUNCTIONS}/{name}/invocations", json.dumps(event))
    replies = [connection.getresponse() for connection in connections]
    return [(reply.status, json.loads(reply.read())) for reply in replies]


def under_way(count):
    """Wait until so many invocations are."""
    for _ in range(200 * SLOW):
        if Reply("GET", "/quickthaw/v1/stats").value["InvocationsUnderWay"] >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"never {count} invocations under way")


def refused(reply, reason):
    assert reply.status == 429, (reply.status, reply.value)
    assert reply.headers["x-amzn-ErrorType"] == "TooManyRequestsException", reply.headers
    assert reply.value["Reason"] == reason, reply.value
    assert reply.value["Type"] == "User" and reply.value["message"], reply.value
    assert int(reply.headers["Retry-After"]) >= 1, reply.headers


def concurrency():
    """snapd --account-concurrency 4: naps may have 2 of them, others the rest."""
    account = "ConcurrentInvocationLimitExceeded"
    limit = f"/2017-10-31/functions/naps/concurrency"
    event = {"seconds": 2 * SLOW}
    assert invoke("naps").status == 200
    many = [Later("naps", event) for _ in range(4)]
    under_way(4)
    late = invoke("naps")
    refused(late, account)
    assert late.seconds < 2 * SLOW, late.seconds  # at once, not when there is room again
    assert [one.wait().status for one in many] == [200] * 4
    assert Reply("PUT", limit, {"ReservedConcurrentExecutions": 2}).status == 200
    many = [Later("naps", event) for _ in range(2)]
    under_way(2)
    refused(invoke("naps"), "Reserved" + "Function" + account)
    assert invoke("other").status == 200  # that is not its business
    assert [one.wait().status for one in many] == [200] * 2
    assert Reply("PUT", limit, {"ReservedConcurrentExecutions": 0}).status == 200
    refused(invoke("naps"), "Reserved" + "Function" + account)
    assert Reply("DELETE", limit).status == 204
    assert invoke("naps").status == 200


def queue():
    """snapd --max-instances 1 --queue-timeout 3 * SLOW"""
    holder = Later("naps", {"seconds": 6 * SLOW})
    under_way(1)
    late = invoke("naps")
    refused(late, "CallerRateLimitExceeded")
    assert late.seconds >= 3 * SLOW, late.seconds
    assert holder.wait().status == 200
    # Its instance is idle now, and is the only one that there may be: it makes room.
    other = invoke("other")
    assert other.status == 200 and other.headers["X-Quickthaw-Start"] != "warm", other.headers
    assert invoke("other").headers["X-Quickthaw-Start"] == "warm"


def fairness():
    """snapd --max-instances 1: a burst of one function, then one of another."""
    holder = Later("naps", {"seconds": SLOW})
    under_way(1)
    burst = [Later("naps", {"seconds": 0.2}) for _ in range(6)]
    under_way(7)
    other = Later("other")
    assert holder.wait().status == 200
    assert other.wait().status == 200
    burst = [one.wait() for one in burst]
    assert [one.status for one in burst] == [200] * 6
    before = sum(one.at < other.reply.at for one in burst)
    assert before <= 1, f"{before} of the burst were served before the other function"


def provisioned_status():
    return Reply("GET", "/2019-09-30/functions/naps/provisioned-concurrency?Qualifier=1").value


def wait_ready(count):
    for _ in range(200 * SLOW):
        status = provisioned_status()
        if status["Status"] == "READY":
            assert status["AvailableProvisionedConcurrentExecutions"] == count, status
            return
        assert status["Status"] == "IN_PROGRESS", status
        time.sleep(0.05)
    raise AssertionError(status)


def instances():
    stats = Reply("GET", "/quickthaw/v1/stats").value
    return {i["Pid"]: i for i in stats["Instances"] if i["FunctionName"] == "naps"
            and i["State"] not in ("ending", "free")}


def provisioned():
    """snapd --keep-warm 0: nothing is kept but what is provisioned."""
    path = "/2019-09-30/functions/naps/provisioned-concurrency?Qualifier=1"
    put = Reply("PUT", path, {"ProvisionedConcurrentExecutions": 2})
    assert put.status == 202, (put.status, put.value)
    wait_ready(2)
    first = instances()
    assert len(first) == 2 and {i["State"] for i in first.values()} == {"idle"}, first
    reply = invoke("naps")
    assert reply.status == 200 and reply.headers["X-Quickthaw-Start"] == "warm", reply.headers
    assert int(reply.headers["X-Quickthaw-Pid"]) in first
    # Three at once: two that wait, one that is restored and ends afterwards.
    many = [Later("naps", {"seconds": SLOW}) for _ in range(3)]
    kinds = sorted(one.wait().headers["X-Quickthaw-Start"] for one in many)
    assert kinds[1:] == ["warm", "warm"] and kinds[0].endswith("restore"), kinds
    wait_ready(2)
    assert set(instances()) == set(first), "they serve and wait on"
    os.kill(min(first), 9)
    for _ in range(200 * SLOW):
        now = instances()
        if len(now) == 2 and min(first) not in now:
            break
        time.sleep(0.05)
    assert len(now) == 2 and max(first) in now, now
    wait_ready(2)
    assert invoke("naps").headers["X-Quickthaw-Start"] == "warm"
    assert Reply("DELETE", path).status == 204
    for _ in range(200 * SLOW):
        if not instances():
            return
        time.sleep(0.05)
    raise AssertionError(instances())


def capacity_of(name):
    return next(f for f in Reply("GET", "/quickthaw/v1/capacity").value["Functions"]
                if f["FunctionName"] == name)


def template_of(name):
    return next(t for t in Reply("GET", "/quickthaw/v1/stats").value["Templates"]
                if t["FunctionName"] == name)


def eviction():
    """snapd --memory-budget 24, and a snapshot of more."""
    assert invoke("heavy").value == "idle"
    reply = Reply("POST", "/quickthaw/v1/functions/heavy/warm?Whole=true")
    assert reply.status == 200, (reply.status, reply.value)
    for _ in range(200 * SLOW):
        memory = Reply("GET", "/quickthaw/v1/capacity").value["Memory"]
        if not memory["ExcessBytes"]:
            break
        time.sleep(0.05)
    assert memory["UsedBytes"] <= memory["BudgetBytes"] == 24 << 20, memory
    template = template_of("heavy")
    assert 0 < template["ResidentPages"] < (24 << 20) // 4096, template
    # Idle instances went first. What was evicted comes back, and is what it was.
    assert not Reply("GET", "/quickthaw/v1/capacity").value["Instances"]["Idle"]
    reply = invoke("heavy", {"all": True})
    assert reply.status == 200 and reply.value is True, (reply.status, reply.value)
    assert int(reply.headers["X-Quickthaw-Faults"]) > 0, reply.headers
    # The working set is the last to go.
    assert invoke("heavy").status == 200


def cold():
    """A snapd that has just started: nothing is in memory."""
    before = capacity_of("naps")
    assert before["Start"] == "cold-restore", before
    assert before["MissingPages"] > 0 and before["ResidentPages"] == 0, before
    assert before["ShellsReady"] > 0 and before["ConcurrencyLeft"] > 0, before


def warmed():
    after = capacity_of("naps")
    assert after["Start"] == "resident-restore", after
    assert after["MissingPages"] == 0 and after["ResidentPages"] > 0, after
    assert not instances(), "no instance is made"
    reply = invoke("naps")
    assert reply.headers["X-Quickthaw-Start"] == "resident-restore", reply.headers
    assert reply.headers["X-Quickthaw-Bytes-Read"] == "0", reply.headers
    assert capacity_of("naps")["Start"] == "warm", capacity_of("naps")
    assert capacity_of("naps")["Idle"] == 1
    # Many at once of several functions, on few shells: all are answered.
    many = at_once([(name, {"seconds": 0.1}) for name in ("naps", "other")] * 15)
    assert [status for status, _ in many] == [200] * 30, many
    assert capacity_of("naps")["TotalUs"] > 0
    log = Reply.__new__(Reply)
    connection = Connection()
    connection.request("GET", "/quickthaw/v1/functions/naps/logs")
    log = connection.getresponse().read().decode()
    report = ("\tDuration: ", " ms\tBilled Duration: ", " ms\tMemory Size: 128 MB\tMax Memory Used: ",
              " MB\tRestore Duration: ", " ms\tBilled Restore Duration: ")
    lines = [line for line in log.splitlines() if "REPORT RequestId: " in line]
    assert any(all(part in line for part in report) for line in lines), lines
    assert any("Restore" not in line for line in lines), lines  # the warm ones


def wait_missing(name, wanted, seconds):
    """Until some, or none, of a version's working set is missing. Return: whether that came."""
    for _ in range(int(20 * seconds)):
        if bool(capacity_of(name)["MissingPages"]) == wanted:
            return True
        time.sleep(0.05)
    return False


def foreseen():
    """snapd --memory-budget 24 --keep-warm 0: naps comes regularly, and others need its memory."""
    gap = 3 * SLOW
    for _ in range(5):
        assert invoke("naps").status == 200
        time.sleep(gap)
    for heavy in ("heavy1", "heavy2", "heavy3"):
        reply = invoke("naps")
        assert reply.status == 200
        assert wait_missing("naps", False, 20 * SLOW)
        before = Reply("GET", "/quickthaw/v1/stats").value["Starts"]
        assert Reply("POST", f"/quickthaw/v1/functions/{heavy}/warm?Whole=true").status == 200
        assert wait_missing("naps", True, 20 * SLOW), capacity_of("naps")
        # As long as memory is short it stays away.
        memory = Reply("GET", "/quickthaw/v1/capacity").value["Memory"]
        assert memory["UsedBytes"] > memory["BudgetBytes"] / 2, memory
        assert Reply("DELETE", f"{FUNCTIONS}/{heavy}").status == 204
        # Now there is room, and the next one is expected. On a slow machine it may be overdue.
        if wait_missing("naps", False, gap):
            break
    else:
        raise AssertionError(capacity_of("naps"))
    assert Reply("GET", "/quickthaw/v1/stats").value["Starts"] == before, "nobody has asked for it"
    assert capacity_of("naps")["Start"] == "resident-restore", capacity_of("naps")
    reply = invoke("naps")
    assert reply.headers["X-Quickthaw-Start"] == "resident-restore", reply.headers
    assert reply.headers["X-Quickthaw-Bytes-Read"] == "0", reply.headers


globals()[sys.argv[2]]()
