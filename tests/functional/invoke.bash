# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# invoke.bash - deploy, publish and invoke functions in tests; `load invoke` after `load common`

FUNCTIONS=/2015-03-31/functions
# Code of the functions that tests use.
SAMPLES=$ROOT/tests/functional/functions
export FUNCTIONS SAMPLES

# deploy NAME DIRECTORY [SNAPCTL-OPTION...]
deploy() {
	run snapctl deploy "$1" --dir "$2" --timeout $((20 * SLOW)) "${@:3}"
	assert_success
}

# publish NAME [SNAPCTL-OPTION...]
publish() {
	run snapctl publish "$@"
	assert_success
}

# invoke NAME [EVENT [CURL-OPTION...]] - sets code, headers and body of the reply, and invoked_at
invoke() {
	local headers_file=$BATS_TEST_TMPDIR/headers.$BASHPID
	# shellcheck disable=SC2034 # for tests that compare clocks
	invoked_at=$(date +%s.%N)
	body=$(http POST "$FUNCTIONS/$1/invocations" --dump-header "$headers_file" \
		--data "${2:-null}" "${@:3}") || fail "curl failed for $1"
	headers=$(tr -d '\r' <"$headers_file" | sed '/^HTTP.* 100 /d')
	code=$(sed -n '1s/^HTTP[^ ]* \([0-9]*\).*/\1/p' <<<"$headers")
	output=$headers$'\n'$body
}

# header NAME - of the last invoke
header() {
	sed -n "s/^$1: //Ip" <<<"$headers"
}

# value EXPRESSION [JSON] - of the last invoke's body as `v`, in Python's words
value() {
	python3 -c 'import json, sys
v = json.loads(sys.argv[2])
result = eval(sys.argv[1])
print(result if isinstance(result, str) else json.dumps(result))' "$1" "${2-$body}"
}

# assert_function_error TYPE [TEXT] - the last invoke got Lambda's error: 200, header, errorType
assert_function_error() {
	assert_equal "$code" 200
	assert_equal "$(header X-Amz-Function-Error)" Unhandled
	assert_equal "$(value 'v.get("errorType", "")')" "$1"
	[ -z "${2:-}" ] || [[ $body == *"$2"* ]] || fail "the error does not say: $2"
}

# assert_fine - the last invoke succeeded
assert_fine() {
	assert_equal "$code" 200
	assert_equal "$(header X-Amz-Function-Error)" ""
}

# are_gone PID... - does none of them run any more
are_gone() {
	local pid
	for pid; do
		[ ! -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || return 1
	done
}

# kill_snapd_9 - as `kill -9`, at once with respect to its children; sets children and old_pid
kill_snapd_9() {
	kill -STOP "$SNAPD_PID"
	children=$(pgrep -P "$SNAPD_PID" || true)
	old_pid=$SNAPD_PID
	kill -KILL "$SNAPD_PID"
	wait "$SNAPD_PID" 2>/dev/null || true
}

# assert_nothing_left - after kill_snapd_9 and a new start: no process, no cgroup, no half version
assert_nothing_left() {
	# shellcheck disable=SC2154,SC2086 # kill_snapd_9 sets children; one word each
	wait_until 5 are_gone $children || fail "a vmm survived snapd"
	output=$(find /sys/fs/cgroup -mindepth 1 -maxdepth 3 -path "*/quickthaw/$old_pid" 2>/dev/null)
	[ -z "$output" ] || fail "cgroups are left"
	assert_store_whole
}

no_temporary_file() {
	output=$(find "$SNAPD_DIR/state/functions" -mindepth 1 -name '.*' -o -name '*.tmp*')
	[ -z "$output" ]
}

# assert_store_whole - every directory of a version is a whole one, and no temporary file stays (while
# a working set is written there is one)
assert_store_whole() {
	local version
	wait_until 10 no_temporary_file || fail "temporary files are left"
	for version in "$SNAPD_DIR"/state/functions/*/versions/*; do
		[ -d "$version" ] || continue
		run "$BIN/snapshot" verify "$version/snapshot.qt"
		assert_success
		[ -s "$version/config.json" ] || fail "$version has no config.json"
	done
}
