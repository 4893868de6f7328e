# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# keeper.bash - a snapd that keeper.py starts again when it ends, and keeps descriptors for

# bats runs each test in a shell of its own
# shellcheck disable=SC2031

keeper_has_started_another() {
	local pid
	pid=$(cat "$KEEPER/pid" 2>/dev/null) && [ "$pid" != "${1:-}" ] && SNAPD_PID=$pid
}

# wait_for_snapd [OLD-PID] - the keeper's snapd, another one than that, serves; adds its pid to KEEPER_SNAPDS
wait_for_snapd() {
	wait_until 20 keeper_has_started_another "${1:-}" || fail "the keeper starts no snapd"
	KEEPER_SNAPDS+=("$SNAPD_PID")
	wait_until 20 snapd_is_ready || {
		cat "$SNAPD_LOG" >&2
		fail "snapd does not become ready"
	}
}

# start_keeper [SNAPD-OPTION...] - like start_snapd, by a keeper that starts it again when it ends
start_keeper() {
	SNAPD_DIR=$(mktemp -d "/tmp/quickthaw-test.XXXXXX")
	SNAPD_SOCKET=$SNAPD_DIR/snapd.sock
	SNAPD_LOG=$SNAPD_DIR/snapd.log
	KEEPER=$SNAPD_DIR/keeper
	mkdir -p "$SNAPD_DIR/state" "$KEEPER"
	setpriv --pdeathsig TERM python3 "$BATS_TEST_DIRNAME/keeper.py" "$KEEPER" \
		"$(command -v setpriv)" --pdeathsig KILL "$BIN/snapd" \
		--state "$SNAPD_DIR/state" --socket "$SNAPD_SOCKET" --vmm "$BIN/vmm" \
		--runtime-dir "$ROOT/guest" "$@" </dev/null >>"$SNAPD_LOG" 2>&1 3>&- &
	KEEPER_PID=$!
	wait_for_snapd
}

# stop_keeper - snapd ends, and the keeper, with all that it keeps
stop_keeper() {
	touch "$KEEPER/stop"
	kill -TERM "$SNAPD_PID" 2>/dev/null || true
	wait_until 20 are_gone "$SNAPD_PID" "$KEEPER_PID" || {
		kill -KILL "$SNAPD_PID" "$KEEPER_PID" 2>/dev/null
		fail "snapd or its keeper does not end"
	}
	wait "$KEEPER_PID" 2>/dev/null || true
	KEEPER_PID=
	SNAPD_PID=
}

# kill_and_wait SIGNAL - end snapd; the keeper starts another
kill_and_wait() {
	local old=$SNAPD_PID
	kill -"$1" "$old"
	wait_for_snapd "$old"
}
