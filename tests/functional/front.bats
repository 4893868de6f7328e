#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# front.bats - snapd's front door, with clients that nobody here wrote

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

teardown() {
	[ -z "${SERVER_PID:-}" ] || kill "$SERVER_PID" 2>/dev/null || true
	remove_snapd
}

@test "what botocore signs is accepted, in the header and presigned; what another key signs is not" {
	local server=$ROOT/${BUILD:-build}/tests/test_http
	[ -x "$server" ] || fail "$server is not built: run make unit-tests"
	python3 -c 'import botocore' 2>/dev/null || fail "there is no botocore: run scripts/setup test"
	mkfifo "$BATS_TEST_TMPDIR/stdin"
	"$server" --serve <"$BATS_TEST_TMPDIR/stdin" >"$BATS_TEST_TMPDIR/port" 3>&- &
	SERVER_PID=$!
	exec 4>"$BATS_TEST_TMPDIR/stdin"
	wait_until 20 test -s "$BATS_TEST_TMPDIR/port"
	run python3 "$ROOT/tests/functional/front_sign.py" "$(cat "$BATS_TEST_TMPDIR/port")"
	exec 4>&-
	assert_success
	assert_equal "$output" "36 requests"
}

@test "snapd listens on TCP only with a keys file that nobody else can read" {
	require_programs snapd
	run "$BIN/snapd" --listen 127.0.0.1:0
	assert_failure 2
	assert_output_has "--listen 127.0.0.1:0: whoever reaches a TCP port could run code here" "--keys"
	echo "AKIATEST secretsecretsecret" >"$BATS_TEST_TMPDIR/keys"
	chmod 644 "$BATS_TEST_TMPDIR/keys"
	run "$BIN/snapd" --listen 127.0.0.1:0 --keys "$BATS_TEST_TMPDIR/keys"
	assert_failure 2
	assert_output_has "$BATS_TEST_TMPDIR/keys: mode 0644 lets others read" "chmod 0600"
}

@test "over TCP: invoke with the log's tail, streamed responses, function URLs, new keys" {
	require_kvm
	load invoke
	echo "AKIATEST secretsecretsecret" >"$BATS_TEST_TMPDIR/keys"
	chmod 600 "$BATS_TEST_TMPDIR/keys"
	start_snapd --listen 127.0.0.1:9101 --url-listen 127.0.0.1:9102 --unsigned-status \
		--keys "$BATS_TEST_TMPDIR/keys" --socket-mode 660
	assert_equal "$(stat -c %a "$SNAPD_SOCKET")" 660
	deploy stream "$SAMPLES/stream"
	publish stream
	run python3 "$ROOT/tests/functional/front_clients.py" 9101 9102 "$SNAPD_PID" "$BATS_TEST_TMPDIR/keys"
	assert_success
	assert_equal "$output" $'invoke\nstream\nurl\nkeys'
	[[ $(vmm_pids) ]] || fail "there is no instance left"
}

@test "IPv6, the socket's group, and no more than four uploads in memory at a time" {
	require_kvm
	load invoke
	local port group
	echo "AKIATEST secretsecretsecret" >"$BATS_TEST_TMPDIR/keys"
	chmod 600 "$BATS_TEST_TMPDIR/keys"
	group=$(getent group | awk -F: '$3 > 0 { print $1; exit }')
	start_snapd --listen '[::1]:0' --keys "$BATS_TEST_TMPDIR/keys" --socket-mode 660 --socket-group "$group"
	assert_equal "$(stat -c '%G %a' "$SNAPD_SOCKET")" "$group 660"
	port=$(sed -n 's/.*serving on \[::1\]:\([0-9]*\).*/\1/p' "$SNAPD_LOG")
	run curl -sS --max-time 60 "http://[::1]:$port/healthz"
	assert_equal "$output" ok
	run curl -sS --max-time 60 -o /dev/null -w '%{http_code}' "http://[::1]:$port/2015-03-31/functions"
	assert_equal "$output" 403
	run python3 "$ROOT/tests/functional/front_uploads.py" "$SNAPD_SOCKET"
	assert_success
	assert_equal "$output" "four of five"
	stop_snapd
	# shellcheck disable=SC2153 # start_snapd sets it
	run "$BIN/snapd" --state "$SNAPD_DIR/state" --socket "$SNAPD_SOCKET" --socket-group no-such-group
	assert_failure 2
	assert_output_has no-such-group
}

@test "snapd --take-over: a TCP port refuses nobody meanwhile, and serves on" {
	require_kvm
	load invoke
	local options=(--listen 127.0.0.1:9103 --keys "$BATS_TEST_TMPDIR/keys" --shells 2)
	echo "AKIATEST secretsecretsecret" >"$BATS_TEST_TMPDIR/keys"
	chmod 600 "$BATS_TEST_TMPDIR/keys"
	start_snapd "${options[@]}"
	# New connections all the time, until one fails.
	(while curl -sS --max-time 60 http://127.0.0.1:9103/healthz; do
		echo
		[ ! -e "$BATS_TEST_TMPDIR/stop" ] || exit 0
	done >"$BATS_TEST_TMPDIR/answers" 2>&1) 3>&- &
	local client=$!
	wait_until 10 grep -q ok "$BATS_TEST_TMPDIR/answers"
	setpriv --pdeathsig TERM "$BIN/snapd" --take-over --state "$SNAPD_DIR/state" --socket "$SNAPD_SOCKET" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest" "${options[@]}" </dev/null >>"$SNAPD_LOG" 2>&1 3>&- &
	SNAPD_PID=$!
	wait_until 20 grep -q "take-over: another snapd serves" "$SNAPD_LOG" || fail "nobody takes over"
	: >"$BATS_TEST_TMPDIR/answers"
	wait_until 10 grep -q ok "$BATS_TEST_TMPDIR/answers" || fail "nobody answers at the port"
	touch "$BATS_TEST_TMPDIR/stop"
	wait "$client" || fail "a connection was refused: $(tail -n 1 "$BATS_TEST_TMPDIR/answers")"
}
