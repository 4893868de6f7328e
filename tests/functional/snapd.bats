#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# snapd.bats - the daemon over its HTTP interface: starts of every kind, errors in Lambda's words,
# and what is left after it was killed

# shellcheck disable=SC2153,SC2154 # bats and common.bash set status, output, lines, SNAPD_PID

bats_require_minimum_version 1.5.0
load common

FUNCTIONS=/2015-03-31/functions

setup() {
	require_kvm
	require_root
	require_programs snapd vmm
}

teardown() {
	remove_snapd
	if [ -n "${SMALL_DISK:-}" ]; then
		umount "$SMALL_DISK" || true
	fi
}

# make_function NAME - the code of a function from standard input, as app.py in its own directory
make_function() {
	mkdir -p "$BATS_TEST_TMPDIR/$1"
	cat >"$BATS_TEST_TMPDIR/$1/app.py"
	chmod 755 "$BATS_TEST_TMPDIR/$1"
}

# create NAME [JSON-FIELDS] - CreateFunction from make_function's directory
create() {
	run http POST "$FUNCTIONS" --data \
		"{\"FunctionName\": \"$1\", \"Handler\": \"app.handler\", \"Timeout\": 20${2:+, $2},
		\"Code\": {\"Directory\": \"$BATS_TEST_TMPDIR/$1\"}}"
	assert_success
	assert_output_has '"State":"Active"'
}

publish() {
	run http POST "$FUNCTIONS/$1/versions" --data "${2:-}"
	assert_success
	assert_output_has '"State":"Active"' '"Version":"'
}

# invoke NAME [CURL-OPTION...] - headers and body of the reply
invoke() {
	local name=$1
	shift
	run http POST "$FUNCTIONS/$name/invocations" --include "$@"
	assert_success
	output=${output//$'\r'/}
}

# header NAME - of the last invoke
header() {
	sed -n "s/^$1: //Ip" <<<"$output"
}

hello() {
	make_function hello <<-'END'
		import os, random, secrets, uuid
		print("init")
		def handler(event, context):
		    print("handling", event.get("name"))
		    return {"hello": event.get("name"), "uuid": str(uuid.uuid4()),
		            "random": random.random(), "urandom": os.urandom(8).hex(),
		            "secrets": secrets.token_hex(8), "request": context.aws_request_id}
	END
	create hello
}

# ---------------------------------------------------------------- start

@test "snapd: --help teaches, and mistakes are explained" {
	run "$BIN/snapd" --help
	assert_success
	assert_output_has "--state" "--socket" "--shells" "--keep-warm" "Example:"
	run "$BIN/snapd" --shells none
	assert_failure 2
	assert_output_has "--shells none" "1 to 64"
	run "$BIN/snapd" --what
	assert_failure 2
	run "$BIN/snapd" serve
	assert_failure 2
	run "$BIN/snapd" --vmm /nonexistent --state "$BATS_TEST_TMPDIR/s" \
		--socket "$BATS_TEST_TMPDIR/sock" --runtime-dir "$ROOT/guest"
	assert_failure 2
	assert_output_has "/nonexistent" "--vmm"
	run "$BIN/snapd" --vmm "$BIN/vmm" --state "$BATS_TEST_TMPDIR/s" \
		--socket "$BATS_TEST_TMPDIR/sock" --runtime-dir "$BATS_TEST_TMPDIR"
	assert_failure 2
	assert_output_has "bootstrap.py" "--runtime-dir"
}

# hidden_dev DEVICE... - snapd on a machine that has only these of its devices
hidden_dev() {
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount bash -c '
		snapd=$1 dir=$2; shift 2
		mkdir "$dir/dev"
		for d in null "$@"; do touch "$dir/dev/$d"; mount --bind "/dev/$d" "$dir/dev/$d"; done
		mount --rbind "$dir/dev" /dev
		exec "$snapd" --state "$dir/state" --socket "$dir/sock"
	' bash "$BIN/snapd" "$BATS_TEST_TMPDIR" "$@"
}

@test "snapd: without /dev/kvm it says so and exits 2" {
	run hidden_dev userfaultfd
	assert_failure 2
	assert_output_has "/dev/kvm: not there" "load kvm_intel"
	assert_equal "${#lines[@]}" 1
}

@test "snapd: without userfaultfd it says so and exits 2" {
	run hidden_dev kvm
	assert_failure 2
	assert_output_has "/dev/userfaultfd: not there" "paged in"
	assert_equal "${#lines[@]}" 1
}

@test "snapd: without permission it says so and exits 2" {
	run setpriv --reuid 65534 --regid 65534 --clear-groups "$BIN/snapd" \
		--state "$BATS_TEST_TMPDIR/s" --socket "$BATS_TEST_TMPDIR/sock"
	assert_failure 2
	assert_output_has "/dev/kvm: no permission" "as root"
}

@test "snapd: a second one on the same state or socket refuses" {
	start_snapd
	run "$BIN/snapd" --state "$SNAPD_DIR/state" --socket "$SNAPD_DIR/other.sock" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest"
	assert_failure 2
	assert_output_has "another snapd serves from this directory"
	run "$BIN/snapd" --state "$SNAPD_DIR/state2" --socket "$SNAPD_SOCKET" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest"
	assert_failure 2
	assert_output_has "another snapd serves there"
	[ "$(http_status GET /healthz)" = 200 ]
}

# ---------------------------------------------------------------- starts of every kind

@test "snapd: cold boot, publish, cold and resident restore, warm" {
	start_snapd
	hello
	invoke hello --data '{"name": "a"}'
	assert_equal "$(header X-Quickthaw-Start)" cold-boot
	# shellcheck disable=SC2016
	assert_equal "$(header X-Amz-Executed-Version)" '$LATEST'
	assert_output_has '"hello": "a"'

	publish hello '{"TrainingPayload": {"name": "training"}}'
	assert_output_has '"FileBytes"'
	for kind in cold resident resident; do
		invoke hello --data '{"name": "b"}' --header "X-Quickthaw-Start: $kind"
		assert_equal "$(header X-Quickthaw-Start)" "$kind-restore"
		assert_equal "$(header X-Amz-Executed-Version)" 1
		assert_output_has '"hello": "b"'
		[ "$(header X-Quickthaw-Pid)" -gt 1 ]
	done
	# The working set is known: a resident restore has next to nothing to fault on.
	[ "$(header X-Quickthaw-Faults)" -lt 30 ]
	assert_equal "$(header X-Amz-Function-Error)" ""

	invoke hello --data '{"name": "c"}'
	pid=$(header X-Quickthaw-Pid)
	# Little of it is its own, also where copies save faults. (The template's pages count as private
	# while no other instance has mapped them, and as dirty always.)
	[ "$(awk '/^Anonymous/ { kib += $2 } END { print kib }' "/proc/$pid/smaps_rollup")" -lt 4096 ]
	invoke hello --data '{"name": "d"}' --header "X-Quickthaw-Start: warm"
	assert_equal "$(header X-Quickthaw-Start)" warm
	assert_equal "$(header X-Quickthaw-Pid)" "$pid"
	assert_output_has '"hello": "d"'
	assert_output_has "\"request\": \"$(header X-Amzn-RequestId)\""

	run http GET /quickthaw/v1/functions/hello/logs
	assert_output_has "handling d" "START RequestId" "END RequestId" "Billed Duration" \
		"Max Memory Used" "Restore Duration" "Init Duration"
}

@test "snapd: a first invocation is recorded when there was no training" {
	start_snapd
	hello
	publish hello
	invoke hello --data '{"name": "a"}' --header "X-Quickthaw-Start: cold"
	is_recorded() {
		http GET /quickthaw/v1/stats | grep -q '"WorkingSet":true'
	}
	wait_until 10 is_recorded
	faults=$(header X-Quickthaw-Faults)
	invoke hello --data '{"name": "a"}' --header "X-Quickthaw-Start: cold"
	assert_output_has '"hello": "a"'
	[ "$(header X-Quickthaw-Faults)" -lt $((faults / 2)) ]
}

@test "snapd: clones differ, and two invocations at once get two instances" {
	start_snapd
	make_function slow <<-'END'
		import os, random, secrets, time, uuid
		def handler(event, context):
		    time.sleep(1)
		    return " ".join([str(uuid.uuid4()), str(random.random()), os.urandom(8).hex(),
		                     secrets.token_hex(8)])
	END
	create slow
	publish slow
	pids=
	for i in 1 2 3; do
		http POST "$FUNCTIONS/slow/invocations" --data '{}' >"$BATS_TEST_TMPDIR/out.$i" 3>&- &
		pids+=" $!"
	done
	sleep 0.5
	run http GET /quickthaw/v1/stats
	# shellcheck disable=SC2086 # not snapd, which is a job of this shell too
	wait $pids
	assert_equal "$(grep -o '"State":"\(invoking\|restoring\)"' <<<"$output" | wc -l)" 3
	# Every word of every answer is different.
	words=$(tr -d '"' <"$BATS_TEST_TMPDIR/out.1" && echo && tr -d '"' <"$BATS_TEST_TMPDIR/out.2" &&
		echo && tr -d '"' <"$BATS_TEST_TMPDIR/out.3")
	assert_equal "$(tr ' ' '\n' <<<"$words" | sort -u | wc -l)" 12
}

@test "snapd: large payloads, and too large ones" {
	start_snapd
	make_function size <<-'END'
		def handler(event, context):
		    return "x" * event["answer"]
	END
	create size '"MemorySize": 512'
	publish size
	head -c 1500000 /dev/zero | tr '\0' 'a' >"$BATS_TEST_TMPDIR/pad"
	{
		printf '{"answer": 3000000, "pad": "'
		cat "$BATS_TEST_TMPDIR/pad"
		printf '"}'
	} >"$BATS_TEST_TMPDIR/large"
	run --keep-empty-lines http POST "$FUNCTIONS/size/invocations" --data-binary "@$BATS_TEST_TMPDIR/large"
	assert_equal "${#output}" 3000002
	output=

	invoke size --data '{"answer": 6291457}'
	assert_output_has "413" "Function.ResponseSizeTooLarge"
	head -c 6291457 /dev/zero >"$BATS_TEST_TMPDIR/huge"
	run http_status POST "$FUNCTIONS/size/invocations" --data-binary "@$BATS_TEST_TMPDIR/huge"
	assert_equal "$output" 413
	invoke size --data '{"answer": 3}'
	assert_output_has '"xxx"'
}

# ---------------------------------------------------------------- bad functions

@test "snapd: a handler that raises, exits, crashes, hangs or eats memory gets Lambda's error" {
	start_snapd
	make_function bad <<-'END'
		import ctypes, os, sys, time
		def handler(event, context):
		    what = event.get("what")
		    if what == "raise":
		        raise ValueError("no good")
		    if what == "exit":
		        os._exit(1)
		    if what == "crash":
		        ctypes.string_at(8)
		    if what == "hang":
		        while True:
		            pass
		    if what == "memory":
		        block = []
		        while True:
		            block.append(b"x" * (1 << 20))
		    return "fine"
	END
	# What raises must not take so long, and what hangs is waited for.
	limit=$((SLOW > 1 ? 15 : 2))
	create bad "\"Timeout\": $limit"
	publish bad
	invoke bad --data '{}'
	pid=$(header X-Quickthaw-Pid)

	invoke bad --data '{"what": "raise"}' --header "X-Quickthaw-Start: resident"
	assert_output_has "200 OK" "X-Amz-Function-Error: Unhandled" '"errorType": "ValueError"' \
		"no good"
	invoke bad --data '{"what": "exit"}' --header "X-Quickthaw-Start: resident"
	assert_output_has "200 OK" "X-Amz-Function-Error: Unhandled" "Runtime.ExitError" \
		"Runtime exited with error: exit status 1"
	invoke bad --data '{"what": "crash"}' --header "X-Quickthaw-Start: resident"
	assert_output_has "Runtime.ExitError" "signal: segmentation fault"
	invoke bad --data '{"what": "hang"}' --header "X-Quickthaw-Start: resident"
	assert_output_has "X-Amz-Function-Error: Unhandled" "Task timed out after $limit.00 seconds"
	# A function of its own, with more time: touching memory is slow on some hosts.
	cp -r "$BATS_TEST_TMPDIR/bad" "$BATS_TEST_TMPDIR/greedy"
	create greedy '"MemorySize": 64'
	publish greedy
	invoke greedy --data '{"what": "memory"}' --header "X-Quickthaw-Start: resident"
	assert_output_has "X-Amz-Function-Error: Unhandled" "emory"

	# The instance from before has noticed nothing.
	invoke bad --data '{}'
	assert_equal "$(header X-Quickthaw-Pid)" "$pid"
	assert_output_has '"fine"'
	run http GET /quickthaw/v1/functions/bad/logs
	assert_output_has "no good" "Task timed out"
}

@test "snapd: a function that cannot be loaded is not published" {
	start_snapd
	make_function broken <<-'END'
		import nothing_of_that_name
	END
	create broken
	run http POST "$FUNCTIONS/broken/versions" --include
	assert_output_has "400" "SnapStartException" "nothing_of_that_name"
	run http GET "$FUNCTIONS/broken/versions"
	[[ $output != *'"Version":"1"'* ]]
	assert_equal "$(find "$SNAPD_DIR/state/functions/broken/versions" -mindepth 1 | wc -l)" 0
	invoke broken --data '{}'
	assert_output_has "X-Amz-Function-Error: Unhandled" "nothing_of_that_name"
}

# ---------------------------------------------------------------- the interface

@test "snapd: wrong requests get Lambda's errors" {
	start_snapd
	hello
	assert_equal "$(http_status GET "$FUNCTIONS/nothing")" 404
	assert_equal "$(http_status POST "$FUNCTIONS/nothing/invocations")" 404
	assert_equal "$(http_status POST "$FUNCTIONS/hello/invocations?Qualifier=7")" 404
	assert_equal "$(http_status GET "$FUNCTIONS/../../etc/passwd" --path-as-is)" 404
	assert_equal "$(http_status GET /nothing)" 404
	assert_equal "$(http_status PATCH "$FUNCTIONS/hello")" 405
	assert_equal "$(http_status POST "$FUNCTIONS" --data 'no json')" 400
	assert_equal "$(http_status POST "$FUNCTIONS" --data '{"FunctionName": "../x", "Handler": "a.b"}')" 400
	assert_equal "$(http_status POST "$FUNCTIONS" --data \
		"{\"FunctionName\": \"hello\", \"Handler\": \"a.b\", \"Code\": {\"Directory\": \"/tmp\"}}")" 409
	assert_equal "$(http_status POST "$FUNCTIONS" --data \
		"{\"FunctionName\": \"x\", \"Handler\": \"a.b\", \"Code\": {\"Directory\": \"/nonexistent\"}}")" 400
	assert_equal "$(http_status POST "$FUNCTIONS/hello/invocations" --header 'X-Quickthaw-Start: never')" 400
	run http GET "$FUNCTIONS/nothing" --include
	assert_output_has "x-amzn-ErrorType: ResourceNotFoundException" '"Type":"User"' '"Message":'
	run http GET "$FUNCTIONS/hello"
	assert_output_has '"Configuration"' '"FunctionName":"hello"'
	run http GET "$FUNCTIONS"
	assert_output_has '"Functions":[{'
	assert_equal "$(http_status POST "$FUNCTIONS/hello/invocations" --header 'X-Amz-Invocation-Type: DryRun')" 204
	assert_equal "$(http_status DELETE "$FUNCTIONS/hello")" 204
	assert_equal "$(http_status GET "$FUNCTIONS/hello")" 404
	[ ! -e "$SNAPD_DIR/state/functions/hello" ]
}

@test "snapd: new code is served after it was replaced and published" {
	start_snapd
	hello
	publish hello
	echo 'def handler(event, context): return "second"' >"$BATS_TEST_TMPDIR/hello/app.py"
	run http PUT "$FUNCTIONS/hello/code" --data "{\"Directory\": \"$BATS_TEST_TMPDIR/hello\"}"
	assert_output_has '"FunctionName":"hello"'
	invoke hello --data '{"name": "old"}'
	assert_output_has '"hello": "old"'
	publish hello
	invoke hello --data '{}'
	assert_output_has '"second"'
	invoke "hello:1" --data '{"name": "old"}'
	assert_output_has '"hello": "old"'
}

# ---------------------------------------------------------------- what is left

@test "snapd: functions and snapshots survive a restart" {
	start_snapd
	hello
	publish hello '{"TrainingPayload": {}}'
	stop_snapd
	assert_equal "$(pgrep -c -f "vmm shell --id .*$SNAPD_DIR" || true)" 0
	start_snapd
	invoke hello --data '{"name": "again"}'
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
	assert_output_has '"hello": "again"'
	publish hello # nothing has changed: as with Lambda, that is version 1
	assert_output_has '"Version":"1"'
	publish hello '{"EvenIfUnchanged": true}'
	assert_output_has '"Version":"2"'
}

@test "snapd: kill -9 while publishing and serving leaves no process and no half version" {
	start_snapd
	hello
	publish hello
	http POST "$FUNCTIONS/hello/versions" --data '{"EvenIfUnchanged": true}' >/dev/null 2>&1 3>&- &
	http POST "$FUNCTIONS/hello/invocations" --data '{}' >/dev/null 2>&1 3>&- &
	sleep 0.1
	pids=$(vmm_pids)
	[ -n "$pids" ]
	kill -9 "$SNAPD_PID"
	none_lives() {
		local pid
		for pid in $pids; do
			[ ! -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" || return 1
		done
	}
	wait_until 5 none_lives || fail "vmm processes survived snapd"
	start_snapd
	run find "$SNAPD_DIR/state" -name '.*tmp*' -o -path '*/versions/2'
	assert_equal "$output" ""
	invoke hello --data '{"name": "again"}'
	assert_output_has '"hello": "again"'
}

@test "snapd: a killed vmm costs its own invocation only" {
	start_snapd
	make_function slow <<-'END'
		import time
		def handler(event, context):
		    time.sleep(event.get("s", 0))
		    return "fine"
	END
	create slow
	publish slow
	invoke slow --data '{}' # recorded: from now on nothing ends by itself
	http POST "$FUNCTIONS/slow/invocations" --include --data '{"s": 5}' \
		--header 'X-Quickthaw-Start: resident' >"$BATS_TEST_TMPDIR/out" 3>&- &
	request=$!
	sleep 1
	pid=$(http GET /quickthaw/v1/stats | tr '{' '\n' | sed -n 's/.*"Pid":\([0-9]*\),"State":"\(invoking\|restoring\)".*/\1/p')
	kill -9 "$pid"
	wait "$request"
	grep -q "500" "$BATS_TEST_TMPDIR/out"
	grep -q "ServiceException" "$BATS_TEST_TMPDIR/out"
	invoke slow --data '{}'
	assert_output_has '"fine"'
}

@test "snapd: a damaged snapshot ends the instance with file, section and offset" {
	start_snapd
	hello
	publish hello
	make_function other <<-'END'
		def handler(event, context):
		    return "other"
	END
	create other
	publish other
	stop_snapd
	file=$SNAPD_DIR/state/functions/hello/versions/1/snapshot.qt
	# Data, all over the file: whichever page comes first is in a bad chunk.
	python3 -c 'import sys
with open(sys.argv[1], "r+b") as file:
    for at in range(65536, file.seek(0, 2) - 65536, 1500):
        file.seek(at)
        file.write(b"X")' "$file"
	start_snapd
	invoke hello --data '{}'
	assert_output_has "500" "ServiceException" "hello/versions/1/snapshot.qt" "offset"
	# Metadata: refused before anything runs.
	printf 'XXXX' | dd of="$file" bs=1 seek=0 conv=notrunc status=none
	invoke hello --data '{}' --header 'X-Quickthaw-Start: cold'
	assert_output_has "500" "hello/versions/1/snapshot.qt"
	truncate -s 1000 "$file"
	invoke hello --data '{}' --header 'X-Quickthaw-Start: cold'
	assert_output_has "500" "hello/versions/1/snapshot.qt"
	invoke other --data '{}'
	assert_output_has '"other"'
}

@test "snapd: a full disk fails the publication and nothing else" {
	SMALL_DISK=$BATS_TEST_TMPDIR/disk
	mkdir "$SMALL_DISK"
	mount -t tmpfs -o size=9m none "$SMALL_DISK"
	SNAPD_DIR=$SMALL_DISK/snapd
	start_snapd
	hello
	publish hello
	run http POST "$FUNCTIONS/hello/versions" --include --data '{"EvenIfUnchanged": true}'
	assert_output_has "500" "No space left"
	run find "$SNAPD_DIR/state" -name '.*tmp*' -o -path '*/versions/2'
	assert_equal "$output" ""
	invoke hello --data '{"name": "still"}'
	assert_equal "$(header X-Amz-Executed-Version)" 1
	assert_output_has '"hello": "still"'
	stop_snapd
}
