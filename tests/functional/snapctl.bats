#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# snapctl.bats - what people do with snapctl beyond the first commands (those are in demo.bats)

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

bats_require_minimum_version 1.5.0
load common
load invoke

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
	start_snapd
}

teardown() {
	remove_snapd
}

# teller TEXT - the code of a function that returns TEXT and its variable WHO, in a directory of its own
teller() {
	mkdir -p "$BATS_TEST_TMPDIR/teller"
	cat >"$BATS_TEST_TMPDIR/teller/tell.py" <<-END
		import os
		def go(event, context):
		    return {"text": "$1", "who": os.environ.get("WHO", ""),
		            "memory": context.memory_limit_in_mb, "event": event}
	END
	chmod 755 "$BATS_TEST_TMPDIR/teller"
}

deploy_teller() {
	run snapctl deploy teller --dir "$BATS_TEST_TMPDIR/teller" --handler tell.go --timeout 20 "$@"
	assert_success
}

# tells EXPRESSION [INVOKE-OPTION...] - of the function's answer
tells() {
	local expression=$1
	shift
	run --separate-stderr snapctl invoke teller "$@"
	assert_success
	value "$expression" "$output"
}

@test "deploy: settings and variables reach the function" {
	teller first
	deploy_teller --memory 200 --env WHO=me --env OTHER=a=b
	assert_output_has "deployed teller" "200 MiB" "20 s"
	assert_equal "$(tells 'v["who"] + str(v["memory"])')" me200
	assert_equal "$(tells 'v["event"]["a"]' '{"a": "x"}')" x
}

@test "deploy again: code and settings are replaced, published versions stay" {
	teller first
	deploy_teller --env WHO=one --publish
	assert_equal "$(tells 'v["text"] + v["who"]')" firstone
	teller second
	deploy_teller --env WHO=two
	assert_equal "$(tells 'v["text"] + v["who"]')" firstone
	deploy_teller --env WHO=two --publish
	assert_equal "$(tells 'v["text"] + v["who"]')" secondtwo
	assert_equal "$(tells 'v["text"] + v["who"]' --version 1)" firstone
	run snapctl list teller
	assert_success
	assert_equal "$(grep -c '^teller ' <<<"$output")" 3
}

@test "invoke: before a version is published, the code as it is boots" {
	teller first
	deploy_teller
	run --separate-stderr snapctl invoke teller
	assert_success
	[[ $stderr == "cold-boot start, "*" ms"* ]] || fail "it does not say how it started"
	run --separate-stderr snapctl invoke teller --start warm
	assert_success
}

@test "a version says where its snapshot is, and the file is there" {
	teller first
	deploy_teller --publish
	run snapctl list teller --json
	assert_success
	local path
	path=$(value 'v["Versions"][-1]["Snapshot"]["Path"]' "$output")
	run "$BIN/snapshot" verify "$path"
	assert_success
}

@test "--socket goes before QUICKTHAW_SOCKET" {
	QUICKTHAW_SOCKET=/nonexistent run "$BIN/snapctl" list --socket "$SNAPD_SOCKET"
	assert_success
	QUICKTHAW_SOCKET=$SNAPD_SOCKET run "$BIN/snapctl" list --socket /nonexistent
	assert_failure 3
}

@test "messages about options begin with the command" {
	run snapctl deploy teller --nonsense
	assert_failure 2
	assert_equal "${lines[0]}" "snapctl deploy: unrecognized option '--nonsense'"
	assert_equal "${lines[1]}" "Try 'snapctl deploy --help'."
}

@test "standard output is the result alone, also when the function fails" {
	teller first
	cat >>"$BATS_TEST_TMPDIR/teller/tell.py" <<-'END'
		def fail(event, context):
		    print("to the log")
		    raise ValueError("no good")
	END
	deploy_teller
	run snapctl deploy failer --dir "$BATS_TEST_TMPDIR/teller" --handler tell.fail --timeout 20
	assert_success
	run --separate-stderr snapctl invoke failer
	assert_failure 1
	assert_equal "$(value 'v["errorType"]' "$output")" ValueError
	[[ $stderr == *"snapctl logs"* ]]
	run --separate-stderr snapctl invoke failer --json
	assert_failure 1
	assert_equal "$(value 'v["FunctionError"]' "$output")" Unhandled
	assert_equal "$(value 'v["Payload"]["errorMessage"]' "$output")" "no good"
	run snapctl logs failer
	assert_output_has "to the log" "ValueError"
}
