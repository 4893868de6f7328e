#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# limits.bats - memory, /tmp, payloads, descriptors, logs and time have bounds, and say so

# bats sets status, output, lines and stderr, and runs each test in a shell of its own
# shellcheck disable=SC2154,SC2030,SC2031

bats_require_minimum_version 1.5.0
load common
load invoke

MIB=1048576

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
	start_snapd
}

teardown() {
	remove_snapd
}

# create NAME JSON-FIELDS - CreateFunction of the sample, with what snapctl has no option for
create() {
	run http POST "$FUNCTIONS" --data "{\"FunctionName\": \"$1\", \"Handler\": \"app.handler\",
		\"Timeout\": 20, \"Code\": {\"Directory\": \"$SAMPLES/limits\"}, $2}"
	assert_success
	assert_output_has '"State":"Active"'
}

# invoke_file NAME FILE - with an event from a file; sets code, and the body is in $BATS_TEST_TMPDIR/body
invoke_file() {
	code=$(http POST "$FUNCTIONS/$1/invocations" --data-binary "@$2" --header 'Expect:' \
		--dump-header "$BATS_TEST_TMPDIR/headers" --output "$BATS_TEST_TMPDIR/body" \
		--write-out '%{http_code}')
	# shellcheck disable=SC2034 # header reads it
	headers=$(tr -d '\r' <"$BATS_TEST_TMPDIR/headers")
}

# argument_file BYTES - an event of exactly so many bytes
argument_file() {
	python3 -c 'import sys
n = int(sys.argv[1])
head, tail = "{\"argument\": \"", "\"}"
sys.stdout.write(head + "a" * (n - len(head) - len(tail)) + tail)' "$1" >"$BATS_TEST_TMPDIR/event"
}

@test "the memory limit is enforced at cold boot, after a restore and when warm" {
	deploy limits "$SAMPLES/limits" --memory 96
	invoke limits '{"keep": 200}' # $LATEST boots
	assert_function_error MemoryError || assert_function_error Runtime.OutOfMemory
	publish limits --train '{}'
	local kind
	for kind in cold resident; do
		invoke limits '{"keep": 200}' --header "X-Quickthaw-Start: $kind"
		assert_equal "$code" 200
		assert_equal "$(header X-Amz-Function-Error)" Unhandled
		[[ $body == *emory* ]]
	done
	invoke limits '{"keep": 40}' --header "X-Quickthaw-Start: resident"
	assert_fine
	assert_equal "$body" 40
	# Warm invocations add up, until the limit ends this instance; the next one is new.
	invoke limits '{"keep": 40}'
	assert_fine
	local i failed=
	for i in 1 2 3 4; do
		invoke limits '{"keep": 40}'
		if [ -n "$(header X-Amz-Function-Error)" ]; then
			failed=$i
			break
		fi
	done
	[ -n "$failed" ] || fail "200 MiB fit into 96"
	invoke limits '{"keep": 1}' --header "X-Quickthaw-Start: resident"
	assert_fine
	run snapctl logs limits
	assert_output_has "emory" "Memory Size: 96 MB"
	run grep -E -o "Max Memory Used: [0-9]+" <<<"$output"
	local used
	while read -r used; do
		[ "${used##* }" -le 96 ] || fail "more than the limit was used: $used"
	done <<<"$output"
}

@test "memory that one instance takes is not missing in another" {
	deploy limits "$SAMPLES/limits" --memory 128
	publish limits --train '{}'
	invoke limits '{"keep": 60}'
	assert_equal "$body" 60
	invoke limits '{"keep": 60}' --header "X-Quickthaw-Start: resident"
	assert_equal "$body" 60
	# What snapd counts for it is at least what it has filled with random bytes.
	run http GET /quickthaw/v1/stats
	assert_output_has '"State":"idle"'
}

@test "/tmp has its size: ENOSPC beyond it, and what is removed can be used again" {
	create limits '"MemorySize": 128, "EphemeralStorage": {"Size": 512}'
	publish limits
	invoke limits '{"tmp": 600}'
	assert_fine
	assert_equal "$(value 'v["errno"]')" 28
	assert_equal "$(value '480 <= v["mib"] <= 512')" true
	assert_equal "$(value 'v["again"]')" 0
	invoke limits '{"tmp": 300}' --header "X-Quickthaw-Start: warm"
	assert_equal "$(value 'v["errno"]')" 0
	create small '"EphemeralStorage": {"Size": 100}' || true
	assert_equal "$(http_status POST "$FUNCTIONS" --data "{\"FunctionName\": \"x\",
		\"Handler\": \"a.b\", \"EphemeralStorage\": {\"Size\": 100000},
		\"Code\": {\"Directory\": \"$SAMPLES/limits\"}}")" 400
}

@test "a request of exactly 6 MiB is served, one byte more is refused" {
	deploy limits "$SAMPLES/limits" --memory 256
	publish limits --train '{}'
	argument_file $((6 * MIB))
	invoke_file limits "$BATS_TEST_TMPDIR/event"
	assert_equal "$code" 200
	assert_equal "$(cat "$BATS_TEST_TMPDIR/body")" $((6 * MIB - 16))
	argument_file $((6 * MIB + 1))
	invoke_file limits "$BATS_TEST_TMPDIR/event"
	assert_equal "$code" 413
	assert_equal "$(header x-amzn-ErrorType)" RequestTooLargeException
	local size
	for size in 65535 65536 65537; do
		argument_file $size
		invoke_file limits "$BATS_TEST_TMPDIR/event"
		assert_equal "$(cat "$BATS_TEST_TMPDIR/body")" $((size - 16))
	done
}

@test "a response of exactly 6 MiB is served, one byte more is Lambda's error" {
	deploy limits "$SAMPLES/limits" --memory 256
	publish limits --train '{}'
	local size
	for size in 65536 65537 $((6 * MIB - 1)) $((6 * MIB)); do
		echo "{\"result\": $size}" >"$BATS_TEST_TMPDIR/event"
		invoke_file limits "$BATS_TEST_TMPDIR/event"
		assert_equal "$code" 200
		assert_equal "$(header X-Amz-Function-Error)" ""
		assert_equal "$(stat -c %s "$BATS_TEST_TMPDIR/body")" $size
	done
	local pid
	pid=$(header X-Quickthaw-Pid)
	invoke limits "{\"result\": $((6 * MIB + 1))}"
	assert_output_has Function.ResponseSizeTooLarge
	invoke limits "{\"result\": $((20 * MIB))}"
	assert_output_has Function.ResponseSizeTooLarge
	# The instance is not to blame for its result's size: it goes on.
	invoke limits '{"result": 5}'
	assert_fine
	assert_equal "$body" '"xxx"'
	assert_equal "$(header X-Quickthaw-Pid)" "$pid"
}

@test "a function that prints megabytes is served, and its newest lines are kept" {
	deploy limits "$SAMPLES/limits" --memory 128
	publish limits
	invoke limits '{"log": 8}'
	assert_fine
	assert_equal "$body" '"logged"'
	run snapctl logs limits
	assert_success
	assert_output_has "zzz" "REPORT RequestId: $(header X-Amzn-RequestId)"
	[ ${#output} -lt $((4 * MIB)) ] || fail "the log has no bound"
	# snapd does not keep what was printed.
	[ "$(awk '/^VmRSS/ { print $2 }' "/proc/$SNAPD_PID/status")" -lt 40000 ]
}

@test "a function can open some descriptors, and no more" {
	deploy limits "$SAMPLES/limits"
	publish limits
	invoke limits '{"files": 500}'
	assert_equal "$(value 'v["errno"]')" 0
	invoke limits '{"files": 5000}'
	assert_fine
	assert_equal "$(value 'v["errno"]')" 24
	assert_equal "$(value 'v["opened"] >= 1000')" true
}

@test "settings outside their limits are refused with a reason" {
	local fields
	for fields in '"MemorySize": 63' '"MemorySize": 10241' '"MemorySize": "big"' '"Timeout": 0' \
		'"Timeout": 901' '"Timeout": -1' '"Runtime": "cobol"' '"Environment": {"Variables": {"A": 1}}' \
		'"Environment": {"Variables": {"1A": "x"}}' '"Environment": {"Variables": []}'; do
		run http POST "$FUNCTIONS" --include --data "{\"FunctionName\": \"x\",
			\"Handler\": \"app.handler\", \"Code\": {\"Directory\": \"$SAMPLES/limits\"}, $fields}"
		assert_output_has " 400 " 'Exception' '"Message":"'
		# Lambda's three kinds: what a value may be, what kind it is of, what it means.
		grep -q 'x-amzn-ErrorType: \(Validation\|Serialization\|InvalidParameterValue\)' <<<"$output"
	done
	assert_equal "$(http_status GET "$FUNCTIONS/x")" 404
}
