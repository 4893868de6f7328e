#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# demo.bats - the first command of the README, and snapctl as people use it

# bats sets status, output, lines and stderr, and runs each test in a shell of its own
# shellcheck disable=SC2154,SC2030,SC2031

bats_require_minimum_version 1.5.0
load common
load invoke

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl bench
}

teardown() {
	remove_snapd
}

# ---------------------------------------------------------------- make demo

@test "make demo: a table of all cases beside the bare process, exit 0, nothing left" {
	cd "$ROOT"
	run timeout $((120 * SLOW)) env BUILD="${BUILD:-build}" scripts/demo
	assert_success
	assert_output_has "cold boot " "cold restore " "resident restore " "warm " "bare python3" \
		"P50" "P99" "PAGES FAULTED" "BYTES READ" "snapshot " "in use at capture" \
		"private memory " "REPORT RequestId"
	run find "${BUILD:-build}" -maxdepth 1 -name 'demo.*'
	assert_equal "$output" ""
	run pgrep -f "snapd --state ${BUILD:-build}/demo\."
	assert_equal "$output" ""
}

@test "make help lists what there is" {
	run make -C "$ROOT" --no-print-directory help
	assert_success
	assert_output_has "make demo" "make test" "make bench" "make lint" "make format" "make fuzz" \
		"make install" "make test-hwkvm" "compile_commands.json"
}

# ---------------------------------------------------------------- snapctl

@test "snapctl: every command has --help, and mistakes are explained with exit status 2" {
	local command
	run "$BIN/snapctl" --help
	assert_success
	for command in deploy publish invoke list logs warm rm; do
		assert_output_has "  $command "
	done
	for command in deploy publish invoke list logs warm rm; do
		run "$BIN/snapctl" $command --help
		assert_success
		assert_output_has "Usage: snapctl $command" "--socket" "--json"
		run "$BIN/snapctl" $command --nonsense
		assert_failure 2
		run "$BIN/snapctl" $command a b c d
		assert_failure 2
	done
	for command in deploy publish invoke logs warm rm; do
		run "$BIN/snapctl" $command
		assert_failure 2
		assert_output_has "name"
	done
	run "$BIN/snapctl"
	assert_failure 2
	run "$BIN/snapctl" nothing
	assert_failure 2
	assert_output_has "nothing" "--help"
	run "$BIN/snapctl" deploy x --dir /nonexistent --socket /nonexistent
	assert_failure
	run "$BIN/snapctl" deploy x --dir "$EXAMPLES/hello-python" --timeout soon
	assert_failure 2
	assert_output_has "soon"
	run "$BIN/snapctl" deploy x --dir "$EXAMPLES/hello-python" --env novalue
	assert_failure 2
	assert_output_has "novalue"
}

@test "snapctl: without snapd it says what to do, exit status 3" {
	local command
	for command in "list" "publish x" "invoke x {}" "logs x" "warm x" "rm x" "deploy x --dir $EXAMPLES/hello-python"; do
		# shellcheck disable=SC2086 # words
		run "$BIN/snapctl" $command --socket "$BATS_TEST_TMPDIR/none.sock"
		assert_failure 3
		assert_output_has "$BATS_TEST_TMPDIR/none.sock" "snapd"
	done
}

@test "snapctl: deploy, publish, invoke, list, logs, rm for people" {
	start_snapd
	run snapctl list
	assert_success
	run snapctl deploy hello --dir "$EXAMPLES/hello-python" --memory 256 --timeout 10
	assert_success
	assert_output_has hello
	run snapctl publish hello --train "@$EXAMPLES/hello-python/event.json"
	assert_success
	assert_output_has "1"
	run --separate-stderr snapctl invoke hello '{"name": "people"}'
	assert_success
	assert_equal "$(value 'v["message"]' "$output")" "Hello, people!"
	[[ $stderr == *ms* ]]
	run --separate-stderr snapctl invoke hello '{"name": "people"}' --quiet
	assert_success
	assert_equal "$stderr" ""
	echo '{"name": "file"}' >"$BATS_TEST_TMPDIR/event"
	run --separate-stderr snapctl invoke hello "@$BATS_TEST_TMPDIR/event"
	assert_equal "$(value 'v["message"]' "$output")" "Hello, file!"
	run --separate-stderr snapctl invoke hello - <"$BATS_TEST_TMPDIR/event"
	assert_equal "$(value 'v["message"]' "$output")" "Hello, file!"
	local start
	for start in boot cold resident; do
		run --separate-stderr snapctl invoke hello --start $start
		assert_success
		[[ $stderr == *$start* ]]
	done
	run snapctl invoke hello --version 1
	assert_success
	run snapctl list
	assert_output_has hello
	run snapctl list hello
	assert_output_has 1
	run snapctl logs hello
	assert_output_has "REPORT RequestId"
	run snapctl rm hello
	assert_success
	run snapctl list --json
	assert_equal "$(value 'v["Functions"]' "$output")" "[]"
}

@test "snapctl: --json is JSON for every command" {
	start_snapd
	run --separate-stderr snapctl deploy hello --dir "$EXAMPLES/hello-python" --json
	assert_equal "$(value 'v["FunctionName"]' "$output")" hello
	run --separate-stderr snapctl publish hello --json
	assert_equal "$(value 'v["Version"]' "$output")" 1
	assert_equal "$(value 'v["State"]' "$output")" Active
	run --separate-stderr snapctl invoke hello '{"name": "json"}' --json
	assert_success
	value 'v' "$output" | grep -q "Hello, json!"
	run --separate-stderr snapctl list --json
	assert_equal "$(value 'v["Functions"][0]["FunctionName"]' "$output")" hello
	run --separate-stderr snapctl list hello --json
	assert_equal "$(value 'len(v["Versions"])' "$output")" 2
	run --separate-stderr snapctl logs hello --json
	assert_success
	value 'v' "$output" | grep -q REPORT
	run --separate-stderr snapctl rm hello --json
	assert_success
	[ -z "$output" ] || value 'v' "$output"
	run --separate-stderr snapctl invoke hello --json
	assert_failure 1
	value 'v' "$output" | grep -q "Function not found"
}

@test "snapctl: exit status 1 for errors of functions and of snapd, with the reason" {
	start_snapd
	local command name
	for command in "publish x" "invoke x {}" "logs x" "warm x" "rm x" "list x"; do
		# shellcheck disable=SC2086 # words
		run snapctl $command
		assert_failure 1
		assert_output_has "x"
	done
	for name in 'a b' '../x' 'ä' '' "$(printf 'a%.0s' {1..65})"; do
		run snapctl deploy "$name" --dir "$EXAMPLES/hello-python"
		assert_failure
		run snapctl invoke "$name"
		assert_failure
		run snapctl rm "$name"
		assert_failure
	done
	run ls -A "$SNAPD_DIR/state/functions"
	assert_equal "$output" ""
	run snapctl deploy x --dir "$BATS_TEST_TMPDIR/none"
	assert_failure
	assert_output_has "$BATS_TEST_TMPDIR/none"
	deploy faulty "$SAMPLES/faulty"
	run snapctl invoke faulty '{"what": "raise"}'
	assert_failure 1
	assert_output_has "Custom" "no good"
	run snapctl invoke faulty '{not json'
	assert_failure 1
	run snapctl invoke faulty "@$BATS_TEST_TMPDIR/none"
	assert_failure
	assert_output_has "$BATS_TEST_TMPDIR/none"
	run snapctl invoke faulty --version 7
	assert_failure 1
	run snapctl invoke faulty --start sometimes
	assert_failure
	run snapctl invoke faulty '{"what": "nothing"}'
	assert_success
}
