#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# events.bats - asynchronous invocations: accepted on disk, run, tried again, not lost by kill -9

# shellcheck disable=SC2034,SC2153,SC2154 # bats and common.bash set status, output, SNAPD_PID

bats_require_minimum_version 1.5.0
load common
load invoke

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
	OUT=$BATS_TEST_TMPDIR/out
	mkdir "$OUT"
}

teardown() {
	remove_snapd
}

# start_with_events [SNAPD-OPTION...] - retries follow at once, files below OUT may be destinations
start_with_events() {
	start_snapd --event-retry-delay 0 --destination-dir "$OUT" "$@"
}

# deploy_worker - a function that fails, or takes its time, when the event says so
deploy_worker() {
	mkdir "$BATS_TEST_TMPDIR/worker"
	chmod 755 "$BATS_TEST_TMPDIR/worker"
	cat >"$BATS_TEST_TMPDIR/worker/app.py" <<-'END'
		import time
		def handler(event, context):
		    time.sleep(event.get("sleep", 0))
		    if event.get("fail"):
		        raise ValueError("told to fail")
		    return {"id": context.aws_request_id}
	END
	deploy worker "$BATS_TEST_TMPDIR/worker" --publish
}

# send EVENT [CURL-OPTION...] - an asynchronous invocation; sets code, headers, body, id
send() {
	# Without Expect curl sends a large body at once, and there is one set of headers.
	invoke worker "$1" --header "X-Amz-Invocation-Type: Event" --header "Expect:" "${@:2}"
	id=$(header X-Amzn-RequestId)
}

# has_records FILE COUNT
has_records() {
	[ -f "$OUT/$1" ] && [ "$(wc -l <"$OUT/$1")" -ge "$2" ]
}

# starts - the request ids of the invocations that this snapd has started, one a line
starts() {
	http GET /quickthaw/v1/functions/worker/logs | sed -n 's/.* START RequestId: \([^ ]*\).*/\1/p'
}

# has_started COUNT
has_started() {
	[ "$(starts | wc -l)" -ge "$1" ]
}

# rows FILE - the request ids of the events in a database, one a line
rows() {
	python3 -c 'import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("SELECT request_id FROM event"): print(row[0])' "$1"
}

# queue_is_empty
queue_is_empty() {
	[ "$(value 'v["Depth"]' "$(http GET /quickthaw/v1/events)")" = 0 ]
}

@test "an event runs; one that fails is tried again, and each leaves its record" {
	local good bad
	start_with_events
	deploy_worker
	[ ! -e "$SNAPD_DIR/state/events.db" ] || fail "a database without an event"

	# What is refused is refused at once.
	run http PUT /2019-09-25/functions/worker/event-invoke-config --data \
		'{"DestinationConfig": {"OnFailure": {"Destination": "file:///etc/passwd"}}}'
	assert_output_has "is invalid" "--destination-dir"
	run http PUT /2019-09-25/functions/worker/event-invoke-config --data \
		"{\"DestinationConfig\": {\"OnSuccess\": {\"Destination\": \"file://$OUT/good\"},
		\"OnFailure\": {\"Destination\": \"file://$OUT/bad\"}}}"
	assert_output_has '"MaximumRetryAttempts":2' "file://$OUT/bad"
	send '{"n": '
	assert_equal "$code" 400
	[[ $headers == *InvalidRequestContentException* ]] || fail "another error"
	head -c 1048577 /dev/zero | tr '\0' 1 >"$BATS_TEST_TMPDIR/large"
	send "@$BATS_TEST_TMPDIR/large"
	assert_equal "$code" 413
	[[ $headers == *RequestTooLargeException* ]] || fail "another error"

	send '{"n": 1}'
	assert_equal "$code" 202
	assert_equal "$body" ""
	[[ $id =~ ^[0-9a-f-]{36}$ ]] || fail "no request id"
	good=$id
	send '{"fail": true, "n": 2}'
	assert_equal "$code" 202
	bad=$id
	wait_until 30 has_records good 1 || fail "no record of the event that succeeds"
	wait_until 30 has_records bad 1 || fail "no record of the event that fails"
	wait_until 10 queue_is_empty || fail "events stay in the queue"

	body=$(<"$OUT/good")
	assert_equal "$(value 'v["requestContext"]["requestId"]')" "$good"
	assert_equal "$(value 'v["requestContext"]["condition"]')" Success
	assert_equal "$(value 'v["responsePayload"]["id"]')" "$good"
	assert_equal "$(value 'v["responseContext"]["executedVersion"]')" 1
	assert_equal "$(value 'v["requestPayload"]')" '{"n": 1}'
	body=$(<"$OUT/bad")
	assert_equal "$(value 'v["version"]')" 1.0
	assert_equal "$(value 'v["requestContext"]["requestId"]')" "$bad"
	assert_equal "$(value 'v["requestContext"]["condition"]')" RetriesExhausted
	assert_equal "$(value 'v["requestContext"]["approximateInvokeCount"]')" 3
	assert_equal "$(value 'v["responseContext"]["functionError"]')" Unhandled
	assert_equal "$(value 'v["responsePayload"]["errorMessage"]')" "told to fail"

	# Three attempts of one, one of the other, each under the id that its caller was told.
	assert_equal "$(starts | grep -c "$bad")" 3
	assert_equal "$(starts | grep -c "$good")" 1
	run snapctl events
	assert_success
	assert_output_has "QUEUED" "worker" "(all)"
	run snapctl events --json
	assert_output_has '"Accepted":2' '"Succeeded":1' '"Retried":2' '"RetriesExhausted":1' '"Depth":0'

	# Synchronous invocations are what they were.
	invoke worker '{"n": 3}'
	assert_fine
	run snapctl rm worker
	assert_success
}

@test "kill -9 loses no event that was accepted, and none runs after its end was written" {
	start_with_events --event-concurrency 2 --shells 2
	deploy_worker
	# One process sends them all; one at a time runs.
	http POST "$FUNCTIONS/worker/invocations?n=[1-6]" --data '{"sleep": 3}' --include \
		--header "X-Amz-Invocation-Type: Event" | tr -d '\r' |
		sed -n 's/^X-Amzn-RequestId: //Ip' >"$BATS_TEST_TMPDIR/accepted"
	assert_equal "$(wc -l <"$BATS_TEST_TMPDIR/accepted")" 6
	wait_until 60 has_started 2 || fail "no event was started"
	kill_snapd_9
	# What SQLite finds after the kill, in a copy: a look would tidy up the log.
	mkdir "$BATS_TEST_TMPDIR/db"
	cp "$SNAPD_DIR"/state/events.db* "$BATS_TEST_TMPDIR/db/"
	rows "$BATS_TEST_TMPDIR/db/events.db" | sort >"$BATS_TEST_TMPDIR/left"
	# Some were over, some were not.
	[[ $(wc -l <"$BATS_TEST_TMPDIR/left") == [1-5] ]] || fail "nothing is tested"

	start_with_events --event-concurrency 2 --shells 2
	wait_until 60 queue_is_empty || fail "events stay in the queue"
	starts | sort >"$BATS_TEST_TMPDIR/started"
	# Exactly those that were not over, each once, and all of them had been accepted.
	output=$(diff "$BATS_TEST_TMPDIR/left" "$BATS_TEST_TMPDIR/started") ||
		fail "events in the database (<) and those that ran (>) differ"
	output=$(sort "$BATS_TEST_TMPDIR/accepted" | comm -13 - "$BATS_TEST_TMPDIR/started")
	assert_equal "$output" ""
	assert_nothing_left

	# Its database is damaged: it says so, keeps it, and serves.
	stop_snapd
	head -c 64 /dev/zero | dd of="$SNAPD_DIR/state/events.db" conv=notrunc status=none
	start_with_events
	grep -q 'events.db: damaged' "$SNAPD_LOG" || fail "the damage is not in the log"
	compgen -G "$SNAPD_DIR/state/events.db.damaged-*" >/dev/null || fail "the old one was not kept"
	send '{}'
	assert_equal "$code" 202
	wait_until 30 queue_is_empty || fail "the event stays in the queue"
}
