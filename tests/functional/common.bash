# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# common.bash - what functional tests share: paths, capabilities of the host, a snapd of their own
#
# A test file says `load common` first. Tests ask the host for a capability, never for a version.

ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BIN=$ROOT/${BUILD:-build}/bin
EXAMPLES=$ROOT/examples
export ROOT BIN EXAMPLES
# Bounds of waits in seconds, stretched on the emulated host. They catch hangs and measure nothing.
SLOW=${HWKVM:+10}
SLOW=${SLOW:-1}

# ---------------------------------------------------------------- the host

# require_kvm - skip the test where /dev/kvm is not usable
require_kvm() {
	{ [ -c /dev/kvm ] && (exec 9<>/dev/kvm) 2>/dev/null; } ||
		skip "KVM: /dev/kvm cannot be opened on this host"
}

# require_root - skip the test where the jail cannot be set up
require_root() {
	[ "$(id -u)" = 0 ] || skip "needs root for the namespaces of the jail"
}

# require_programs - fail (not skip) where build/bin lacks a program: make builds it first
require_programs() {
	local name
	for name in "$@"; do
		[ -x "$BIN/$name" ] || fail "$BIN/$name is not built: run make"
	done
}

# has_command NAME
has_command() {
	command -v "$1" >/dev/null
}

# ---------------------------------------------------------------- assertions

# fail MESSAGE... - end the test, with the output of the last `run`
fail() {
	{
		echo "$*"
		[ -z "${output:-}" ] || printf 'output was:\n%s\n' "$output"
		[ -z "${stderr:-}" ] || printf 'stderr was:\n%s\n' "$stderr"
	} >&2
	return 1
}

# assert_success / assert_failure [STATUS] - of the last `run`
assert_success() {
	# shellcheck disable=SC2154 # bats sets it
	[ "$status" = 0 ] || fail "exit status $status, not 0"
}

assert_failure() {
	if [ $# -gt 0 ]; then
		[ "$status" = "$1" ] || fail "exit status $status, not $1"
	else
		[ "$status" != 0 ] || fail "exit status 0, but a failure was expected"
	fi
}

# assert_output_has TEXT... - each of them occurs in the output of the last `run`
assert_output_has() {
	local text
	for text in "$@"; do
		[[ ${output:-} == *"$text"* ]] || fail "the output does not have: $text"
	done
}

# assert_equal GOT WANTED
assert_equal() {
	[ "$1" = "$2" ] || fail "got '$1', wanted '$2'"
}

# wait_until SECONDS COMMAND... - poll until COMMAND succeeds; fails when it never does
wait_until() {
	local tries=$(($1 * SLOW * 20)) i
	shift
	for ((i = 0; i < tries; i++)); do
		if "$@"; then
			return 0
		fi
		sleep 0.05
	done
	return 1
}

# ---------------------------------------------------------------- a snapd of one's own

# http METHOD PATH [CURL-OPTION...] - one request to the test's snapd; prints the body
http() {
	local method=$1 path=$2
	shift 2
	curl --silent --show-error --max-time $((60 * SLOW)) --unix-socket "$SNAPD_SOCKET" \
		--request "$method" "$@" "http://localhost$path"
}

# http_status METHOD PATH [CURL-OPTION...] - prints only the status code
http_status() {
	http "$@" --output /dev/null --write-out '%{http_code}'
}

snapd_is_ready() {
	[ -S "$SNAPD_SOCKET" ] && [ "$(http_status GET /healthz 2>/dev/null)" = 200 ]
}

snapd_is_gone() {
	[ ! -e "/proc/$SNAPD_PID" ] || grep -q '^State:.Z' "/proc/$SNAPD_PID/status" 2>/dev/null
}

snapd_ready_or_gone() {
	snapd_is_ready || snapd_is_gone
}

# start_snapd [SNAPD-OPTION...] - start snapd and wait until it serves. Sets SNAPD_DIR (kept if it is
# set already, to start again on the same state), SNAPD_SOCKET, SNAPD_PID, SNAPD_LOG. The words of
# the array SNAPD_BEFORE are a command that executes it.
start_snapd() {
	require_programs snapd vmm
	# A socket's path has at most 107 bytes: bats' own directories may be too deep for that.
	SNAPD_DIR=${SNAPD_DIR:-$(mktemp -d "/tmp/quickthaw-test.XXXXXX")}
	SNAPD_SOCKET=$SNAPD_DIR/snapd.sock
	SNAPD_LOG=$SNAPD_DIR/snapd.log
	mkdir -p "$SNAPD_DIR/state"
	# fd 3 is bats' own: a daemon that held it would keep bats from ending. The death signal
	# ends snapd with the test, also when that is killed.
	setpriv --pdeathsig TERM "${SNAPD_BEFORE[@]}" "$BIN/snapd" --state "$SNAPD_DIR/state" --socket "$SNAPD_SOCKET" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest" "$@" \
		</dev/null >>"$SNAPD_LOG" 2>&1 3>&- &
	SNAPD_PID=$!
	export SNAPD_DIR SNAPD_SOCKET SNAPD_LOG SNAPD_PID
	if ! wait_until 20 snapd_ready_or_gone || ! snapd_is_ready; then
		cat "$SNAPD_LOG" >&2
		fail "snapd did not become ready"
	fi
}

# stop_snapd - end snapd with SIGTERM; fails when it has to be killed. Keeps SNAPD_DIR.
stop_snapd() {
	local status=0
	[ -n "${SNAPD_PID:-}" ] || return 0
	kill -TERM "$SNAPD_PID" 2>/dev/null || true
	if ! wait_until 10 snapd_is_gone; then
		kill -KILL "$SNAPD_PID" 2>/dev/null || true
		cat "$SNAPD_LOG" >&2
		fail "snapd did not stop at SIGTERM" || status=1
	fi
	wait "$SNAPD_PID" 2>/dev/null || true
	SNAPD_PID=
	return $status
}

# remove_snapd - for teardown: stop it and remove its state; shows its log when the test failed
remove_snapd() {
	local status=0
	[ -n "${SNAPD_DIR:-}" ] || return 0
	stop_snapd || status=1
	if [ -z "${BATS_TEST_COMPLETED:-}" ] && [ -s "$SNAPD_LOG" ]; then
		echo "snapd's log:" >&2
		tail -n 60 "$SNAPD_LOG" >&2
	fi
	rm -rf "$SNAPD_DIR"
	SNAPD_DIR=
	return $status
}

# snapctl ARG... - the built snapctl, speaking to the test's snapd
snapctl() {
	QUICKTHAW_SOCKET=$SNAPD_SOCKET "$BIN/snapctl" "$@"
}

# vmm_pids - the instances of the test's snapd, one pid a line
vmm_pids() {
	pgrep -P "$SNAPD_PID" -x vmm || true
}
