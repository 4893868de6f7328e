#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# restart.bats - snapd ends, by whatever cause, and the next one goes on with its instances
#
# The service manager's part is keeper.py's. Tests do much in one snapd, since a start takes long.

# bats sets status, output, lines and stderr, and runs each test in a shell of its own
# shellcheck disable=SC2154,SC2030,SC2031

load common
load invoke
load keeper

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
}

teardown() {
	if [ -n "${KEEPER_PID:-}" ]; then
		stop_keeper || true
	fi
	remove_snapd
}

# instances STATE - pids of the instances in this state
instances() {
	http GET /quickthaw/v1/stats | python3 -c 'import json, sys
for i in json.load(sys.stdin)["Instances"]:
    if i["State"] == sys.argv[1]: print(i["Pid"])' "$1"
}

# descriptors - how many descriptors snapd has of each kind that instances and templates are made of
descriptors() {
	local kind
	for kind in userfaultfd pidfd quickthaw-template quickthaw-resident quickthaw-record; do
		echo "$kind $(find "/proc/$SNAPD_PID/fd" -lname "*$kind*" 2>/dev/null | wc -l)"
	done
}

# stored PATTERN - how many descriptors the keeper has under names like that
stored() {
	grep -c -x "$1" "$KEEPER/stored" || true
}

# own_cgroups [PATTERN] - the cgroups of snapds that this test's keeper has started, or what is in them
own_cgroups() {
	local pid
	for pid in "${KEEPER_SNAPDS[@]}"; do
		find /sys/fs/cgroup -maxdepth 4 -type d -path "*/quickthaw/$pid${1:-}"
	done
}

shells_are_ready() {
	[ "$(instances shell | wc -l)" = 2 ] && [ -z "$(instances ending)" ]
}

waits_for_page() {
	grep -q handle_userfault "/proc/$1/wchan"
}

log_has() {
	run snapctl logs lasting
	[[ $output == *"$1"* ]]
}

# ---------------------------------------------------------------- tests

@test "instances and templates outlive snapd: killed, killed while one waits for a page, restarted" {
	start_keeper --shells 2 --keep-warm 3000
	deploy lasting "$SAMPLES/lasting" --memory 256
	publish lasting --train '{}'
	invoke lasting '{}'
	assert_fine
	local first before
	first=$(header X-Quickthaw-Pid)
	assert_equal "$(value 'v["count"]')" 1
	wait_until 20 shells_are_ready
	before=$(descriptors)
	assert_equal "$(stored 'i[0-9]*')" 9
	assert_equal "$(stored 't[0-9]*')" 3

	# Killed: the idle instance answers, the same process, and has its files still.
	kill_and_wait KILL
	invoke lasting '{"import": "html.parser"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Pid)" "$first"
	assert_equal "$(header X-Quickthaw-Start)" warm
	assert_equal "$(value 'v["count"]')" 2
	assert_equal "$(value 'v["module"]')" html.parser
	assert_equal "$(value 'v["task"]')" '["app.py"]'
	# What was in memory is: the next start reads nothing, in a shell of the snapd before.
	invoke lasting '{}' --header "X-Quickthaw-Start: resident"
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" resident-restore
	assert_equal "$(header X-Quickthaw-Bytes-Read)" 0
	wait_until 20 shells_are_ready

	# Killed while a guest waits for a page that nobody brings: the next snapd brings it. The
	# answer has lost its caller; the instance has not lost its life.
	http POST "$FUNCTIONS/lasting/invocations" --data '{"id": "lost", "sleep": 1, "touch": 1}' \
		--output /dev/null 2>/dev/null 3>&- &
	local request=$!
	wait_until 10 log_has "begins lost" || fail "the invocation does not begin"
	kill -STOP "$SNAPD_PID"
	wait_until 20 waits_for_page "$first" || fail "the guest touches no page that is not there"
	kill_and_wait KILL
	wait "$request" || true
	wait_until 20 log_has "ends lost" || fail "the guest hangs"
	invoke lasting '{"touch": 1}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Pid)" "$first"
	assert_equal "$(value 'v["count"]')" 4
	assert_equal "$(value 'v["id"]')" null
	grep -q "the answer to request .* is discarded" "$SNAPD_LOG"

	# Restarted: who waits for an answer gets it, and then it ends.
	http POST "$FUNCTIONS/lasting/invocations" --data '{"id": "kept", "sleep": 1}' \
		--output "$BATS_TEST_TMPDIR/kept" 3>&- &
	request=$!
	wait_until 10 log_has "begins kept" || fail "the invocation does not begin"
	kill_and_wait TERM
	wait "$request"
	assert_equal "$(value 'v["count"]' "$(cat "$BATS_TEST_TMPDIR/kept")")" 5
	invoke lasting '{}'
	assert_equal "$(header X-Quickthaw-Pid)" "$first"
	assert_equal "$(value 'v["count"]')" 6

	# Nothing has leaked in the course of it.
	wait_until 20 shells_are_ready
	assert_equal "$(descriptors)" "$before"
	assert_equal "$(stored 'i[0-9]*')" 9
	assert_equal "$(stored 't[0-9]*')" 3
	assert_equal "$(stored 'record.*')" 1
	assert_equal "$(stored 'cgroups')" "$(own_cgroups | wc -l)"
	assert_equal "$(own_cgroups '/i*' | wc -l)" 3

	# Stopped: what nobody keeps ends, and the next start clears away the rest.
	local pids
	pids=$(instances idle; instances shell)
	stop_keeper
	# shellcheck disable=SC2086 # one word each
	wait_until 10 are_gone $pids || fail "an instance outlives its keeper"
	start_snapd
	assert_equal "$(own_cgroups)" ""
}

handed_over() {
	[ "$(grep -c "take-over: another snapd serves" "$SNAPD_LOG")" = "$1" ]
}

# take_over [SNAPD-OPTION...] - another snapd on the same state; sets SNAPD_PID
take_over() {
	local old=$SNAPD_PID times
	times=$(grep -c "take-over: another snapd serves" "$SNAPD_LOG" || true)
	# shellcheck disable=SC2153 # start_snapd sets it
	setpriv --pdeathsig TERM "$BIN/snapd" --take-over --state "$SNAPD_DIR/state" \
		--socket "$SNAPD_SOCKET" --vmm "$BIN/vmm" --runtime-dir "$ROOT/guest" "$@" \
		</dev/null >>"$SNAPD_LOG" 2>&1 3>&- &
	SNAPD_PID=$!
	wait_until 20 handed_over $((times + 1)) || {
		cat "$SNAPD_LOG" >&2
		fail "snapd $SNAPD_PID does not take over from $old"
	}
}

# die_taking_over - in the place of an heir: get everything, and end without having served
die_taking_over() {
	python3 - "$SNAPD_DIR/state/handover.sock" <<-'END'
		import socket, struct, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		s.settimeout(120)
		s.connect(sys.argv[1])
		s.send(struct.pack("8s32s", b"QTTAKE01", b"request"))
		names = []
		while not names or names[-1] not in ("", "end"):
		    message, fds, _, _ = socket.recv_fds(s, 64, 8)
		    names.append(message[8:].rstrip(b"\0").decode())
		print(*names)
	END
}

serves() {
	[ "$(http GET /quickthaw/v1/stats | sed -n 's/.*"Pid":\([0-9]*\),"RssKiB.*/\1/p')" = "$1" ]
}

@test "snapd --take-over: nobody notices, and who has handed over guards its instances" {
	start_snapd --shells 2 --keep-warm 3000
	deploy lasting "$SAMPLES/lasting" --memory 256
	publish lasting --train '{}'
	invoke lasting '{}'
	assert_fine
	local idle old=$SNAPD_PID pids
	idle=$(header X-Quickthaw-Pid)

	# An heir that dies before it serves: this one goes on, with all that it had.
	run die_taking_over
	assert_success
	assert_output_has listen lock record.1 end
	invoke lasting '{}'
	assert_equal "$(header X-Quickthaw-Pid)" "$idle"
	assert_equal "$(http_status POST "$FUNCTIONS/lasting/invocations" --data '{}' \
		--header "X-Amz-Invocation-Type: Event")" 202

	# An invocation under way is answered by the old one; another instance serves it, for the idle
	# one is to be handed over.
	http POST "$FUNCTIONS/lasting/invocations" --data '{"id": "slow", "sleep": 6}' \
		--header "X-Quickthaw-Start: resident" --output "$BATS_TEST_TMPDIR/slow" 3>&- &
	local request=$!
	wait_until 10 log_has "begins slow" || fail "the invocation does not begin"
	take_over --shells 2 --keep-warm 3000
	serves "$SNAPD_PID" || fail "the old snapd still answers"
	invoke lasting '{"import": "html.parser"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" warm
	assert_equal "$(header X-Quickthaw-Pid)" "$idle"
	assert_equal "$(value 'v["count"]')" 4
	invoke lasting '{}' --header "X-Quickthaw-Start: resident"
	assert_equal "$(header X-Quickthaw-Start)" resident-restore
	assert_equal "$(header X-Quickthaw-Bytes-Read)" 0
	wait "$request"
	run cat "$BATS_TEST_TMPDIR/slow"
	assert_output_has '"id": "slow"'

	# Once more: the second hands over what it had from the first.
	take_over --shells 2 --keep-warm 3000
	invoke lasting '{}'
	assert_equal "$(header X-Quickthaw-Pid)" "$idle"
	assert_equal "$(value 'v["count"]')" 5
	[ -e "/proc/$old" ] || fail "nobody guards the first instances"

	# Killed: the kernel ends all instances, of every generation, and their guards end.
	pids=$(instances idle; instances shell)
	[ "$(wc -l <<<"$pids")" -ge 3 ]
	kill -KILL "$SNAPD_PID"
	# shellcheck disable=SC2086 # one word each
	wait_until 10 are_gone $pids "$old" || fail "an instance outlives its snapd"
	wait "$SNAPD_PID" 2>/dev/null || true
	SNAPD_PID=
	start_snapd
	invoke lasting '{}'
	assert_fine
}
