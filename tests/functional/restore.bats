#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# restore.bats - what a function sees after a restore: unique clones, continuous time, hooks, files,
# environment, logs; and what survives a restart of snapd

# bats sets status, output, lines and stderr, and runs each test in a shell of its own
# shellcheck disable=SC2154,SC2030,SC2031

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

# ---------------------------------------------------------------- clones

# assert_all_differ FILE... - no value of one clone's answer occurs in another's
assert_all_differ() {
	run python3 - "$@" <<-'END'
		import collections, json, sys
		answers = [json.load(open(name)) for name in sys.argv[1:]]
		for kind in answers[0]["values"]:
		    values = collections.Counter(a["values"][kind] for a in answers)
		    same = [v for v, n in values.items() if n > 1]
		    if same:
		        print(f"{kind}: {same} in {len(answers)} clones")
		if any(a["calls"] != 1 for a in answers):
		    print("an instance served twice")
	END
	assert_success
	assert_equal "$output" ""
}

@test "clones made one after the other differ in every kind of random value" {
	deploy clones "$SAMPLES/clones" --memory 256
	publish clones
	local i kind files=()
	for kind in cold cold resident resident resident resident; do
		invoke clones '{}' --header "X-Quickthaw-Start: $kind"
		assert_fine
		i=$((i + 1))
		echo "$body" >"$BATS_TEST_TMPDIR/$i"
		files+=("$BATS_TEST_TMPDIR/$i")
	done
	assert_all_differ "${files[@]}"
}

@test "clones that run at the same moment are instances of their own, and differ" {
	deploy clones "$SAMPLES/clones" --memory 256
	publish clones --train '{}'
	local i jobs="" files=()
	for i in 1 2 3 4 5 6; do
		http POST "$FUNCTIONS/clones/invocations" --data '{"sleep": 1}' \
			--output "$BATS_TEST_TMPDIR/$i" 3>&- &
		jobs+=" $!"
		files+=("$BATS_TEST_TMPDIR/$i")
	done
	# shellcheck disable=SC2086 # one word each
	wait $jobs
	assert_all_differ "${files[@]}"
	# Each of them is still there, and goes on as the instance that it is.
	invoke clones '{}' --header "X-Quickthaw-Start: warm"
	assert_fine
	assert_equal "$(value 'v["calls"]')" 2
}

# ---------------------------------------------------------------- time

# assert_times - of the last invoke of function clocks
assert_times() {
	run python3 -c '
import json, sys, time
v = json.loads(sys.argv[1])
before, after, start, end = v["before"], v["after"], v["start"], v["end"]
for name in ("monotonic", "perf_counter", "boottime", "raw", "coarse"):
    if not before[name] <= after[name] <= start[name] <= end[name]:
        print(f"{name} goes back: {before[name]} {after[name]} {start[name]} {end[name]}")
    if after[name] - before[name] > 5:
        print(f"{name} jumps by {after[name] - before[name]} s over the restore")
    if not 0.25 < end[name] - start[name] < 5:
        print(f"{name}: a sleep of 0.3 s took {end[name] - start[name]} s")
for name in ("process_time", "thread_time"):
    if after[name] < before[name] or end[name] < start[name]:
        print(f"{name} goes back")
# Between the request and now, as this machine has them; a clock may be a few ms off.
asked, here = float(sys.argv[2]) - 0.05, time.time() + 0.05
if not asked <= start["time"] <= end["time"] <= here or after["time"] < before["time"]:
    print("wall time is", start["time"], "to", end["time"], "but it is", asked, "to", here)
if v["fired"] or v["backwards"]:
    print("fired", v["fired"], "backwards", v["backwards"])
if not 10000 < v["remaining_ms"] < 20000:
    print("remaining time", v["remaining_ms"])
' "$body" "$invoked_at"
	assert_success
	assert_equal "$output" ""
}

@test "monotonic time neither goes back nor jumps over a restore, wall time is right" {
	deploy clocks "$SAMPLES/clocks" --timeout 20
	publish clocks
	invoke clocks '{"sleep": 0.3}' --header "X-Quickthaw-Start: cold"
	assert_fine
	assert_times
	sleep 6 # a jump would be longer than what assert_times allows
	for kind in cold resident; do
		invoke clocks '{"sleep": 0.3}' --header "X-Quickthaw-Start: $kind"
		assert_fine
		assert_times
	done
	stop_snapd
	start_snapd
	invoke clocks '{"sleep": 0.3}'
	assert_fine
	assert_times
}

# ---------------------------------------------------------------- hooks

@test "hooks before the snapshot and after the restore run once, in their order" {
	deploy hooks "$SAMPLES/hooks"
	publish hooks
	local all='["init", "before 2", "before 1", "after 1", "after 2"]'
	for kind in cold resident; do
		invoke hooks '{}' --header "X-Quickthaw-Start: $kind"
		assert_fine
		assert_equal "$body" "$all"
	done
	invoke hooks '{}'
	invoke hooks '{}' --header "X-Quickthaw-Start: warm"
	assert_equal "$body" "$all"
	run snapctl logs hooks
	assert_output_has "hook: before 1" "hook: after 2"
}

@test "a hook that fails or hangs ends the publication or the invocation, and says so" {
	deploy before "$SAMPLES/hooks" --env HOOK=before
	run snapctl publish before
	assert_failure 1
	assert_output_has "Runtime.BeforeSnapshotError" "before 1 failed"
	deploy after "$SAMPLES/hooks" --env HOOK=after
	publish after
	invoke after '{}'
	assert_function_error Runtime.AfterRestoreError "after 1 failed"
	run snapctl logs after
	assert_output_has "after 1 failed"
	deploy hangs "$SAMPLES/hooks" --timeout 2 --env HOOK=after-hang
	publish hangs
	# Lambda gives hooks after a restore 10 seconds; a function's own limit ends them here at the latest.
	invoke hangs '{}'
	assert_equal "$code" 200
	assert_equal "$(header X-Amz-Function-Error)" Unhandled
	deploy fine "$SAMPLES/hooks"
	publish fine
	invoke fine
	assert_fine
}

# ---------------------------------------------------------------- surroundings

@test "environment, context, working directory and code are as in Lambda" {
	deploy inside "$SAMPLES/inside" --memory 192 --env COLOUR=blue --env "SENTENCE=a = b, c"
	publish inside
	invoke inside '{}' --header "X-Amz-Client-Context: $(printf '{"custom": {"k": "v"}}' | base64 -w0)"
	assert_fine
	assert_equal "$(value 'v["env"]["COLOUR"]')" blue
	assert_equal "$(value 'v["env"]["SENTENCE"]')" "a = b, c"
	assert_equal "$(value 'v["env"]["AWS_LAMBDA_FUNCTION_NAME"]')" inside
	assert_equal "$(value 'v["env"]["AWS_LAMBDA_FUNCTION_VERSION"]')" 1
	assert_equal "$(value 'v["env"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]')" 192
	assert_equal "$(value 'v["env"]["AWS_LAMBDA_INITIALIZATION_TYPE"]')" snap-start
	assert_equal "$(value 'v["env"]["LAMBDA_TASK_ROOT"]')" /var/task
	assert_equal "$(value 'v["env"]["_HANDLER"]')" app.handler
	assert_equal "$(value 'v["init"]["env"]["COLOUR"]')" blue
	# Nothing of snapd's own environment.
	assert_equal "$(value '[k for k in v["env"] if k.startswith(("BATS", "SNAPD", "QUICKTHAW"))]')" "[]"
	assert_equal "$(value 'v["cwd"]')" /var/task
	assert_equal "$(value 'v["task"]')" '["app.py"]'
	assert_equal "$(value 'v["context"]["function_name"]')" inside
	assert_equal "$(value 'v["context"]["function_version"]')" 1
	assert_equal "$(value 'v["context"]["memory_limit_in_mb"]')" 192
	assert_equal "$(value 'v["context"]["aws_request_id"]')" "$(header X-Amzn-RequestId)"
	assert_equal "$(value 'v["context"]["invoked_function_arn"]')" \
		arn:aws:lambda:local:000000000000:function:inside:1
	assert_equal "$(value "0 < v['remaining_ms'] <= 20000 * $SLOW")" true
	assert_equal "$(value 'v["client_context"]')" '{"k": "v"}'
	invoke inside '{}' --header "X-Quickthaw-Start: warm"
	assert_equal "$(value 'v["context"]["aws_request_id"]')" "$(header X-Amzn-RequestId)"
	assert_equal "$(value 'v["client_context"]')" null
}

@test "/tmp is each clone's own, with what was there at the capture" {
	deploy inside "$SAMPLES/inside"
	publish inside
	invoke inside '{"write": "first"}' --header "X-Quickthaw-Start: cold"
	assert_equal "$(value 'v["init"]["tmp"]')" "[]"
	assert_equal "$(value 'v["tmp"]')" '["from-init"]'
	invoke inside '{"write": "second"}' # stays, as the warm one of below
	invoke inside '{}' --header "X-Quickthaw-Start: resident"
	assert_equal "$(value 'v["tmp"]')" '["from-init"]'
	invoke inside '{"write": "third"}'
	invoke inside '{}' --header "X-Quickthaw-Start: warm"
	assert_equal "$(value 'v["tmp"]')" '["from-init", "second", "third"]'
	[ ! -e /tmp/from-init ]
}

@test "a function cannot write its code or the system, leave its root, or reach the network" {
	deploy inside "$SAMPLES/inside"
	publish inside
	local secret=$BATS_TEST_TMPDIR/secret
	echo secret >"$secret"
	invoke inside "{\"outside\": \"/var/task/../../../../../../../..$secret\"}"
	assert_fine
	assert_equal "$(value 'sorted(set(v["refused"].values()), key=str)')" '["OSError"]' ||
		assert_equal "$(value 'None in v["refused"].values()')" false
	assert_equal "$(value 'v["remove"] is None')" false
	assert_equal "$(value 'v["outside"]')" FileNotFoundError
	assert_equal "$(value 'v["network"] is None')" false
	[ -e "$SNAPD_DIR/state/functions/inside/versions/1/package/tree/app.py" ]
}

@test "what a function prints is in its log, with START, END and REPORT" {
	deploy inside "$SAMPLES/inside" --memory 192
	publish inside
	invoke inside '{"name": "somebody"}'
	local id
	id=$(header X-Amzn-RequestId)
	run snapctl logs inside
	assert_success
	assert_output_has "line of init" "line of somebody" "error line" "START RequestId: $id Version: 1" \
		"END RequestId: $id" "REPORT RequestId: $id" "Memory Size: 192 MB" "Restore Duration:"
	[[ $(grep "REPORT RequestId: $id" <<<"$output") =~ \
		Duration:\ [0-9.]+\ ms.*Billed\ Duration:\ [0-9]+\ ms.*Max\ Memory\ Used:\ [1-9][0-9]*\ MB ]]
	# In order: START, what it printed, END, REPORT.
	assert_equal "$(grep -n -E "START RequestId: $id|line of somebody|END RequestId: $id|REPORT RequestId: $id" \
		<<<"$output" | sed -E 's/.*(START|somebody|END|REPORT).*/\1/' | tr '\n' ' ')" "START somebody END REPORT "
}

# ---------------------------------------------------------------- restarts

@test "functions, versions and their settings survive restarts of snapd" {
	deploy one "$SAMPLES/inside" --memory 192 --env COLOUR=blue
	publish one
	deploy one "$SAMPLES/hooks"
	publish one
	deploy two "$EXAMPLES/hello-python"
	snapctl list --json >"$BATS_TEST_TMPDIR/before"
	local i
	for i in 1 2; do
		stop_snapd
		start_snapd
		run snapctl list --json
		assert_success
		assert_equal "$(value 'sorted((f["FunctionName"], f["MemorySize"], f["Timeout"], f["Handler"]) for f in v["Functions"])' "$output")" \
			"$(value 'sorted((f["FunctionName"], f["MemorySize"], f["Timeout"], f["Handler"]) for f in v["Functions"])' "$(cat "$BATS_TEST_TMPDIR/before")")"
		run snapctl list one --json
		assert_equal "$(value 'sorted(f["Version"] for f in v["Versions"])' "$output")" \
			"[\"\$LATEST\", \"1\", \"2\"]"
	done
	invoke one:1 '{}'
	assert_equal "$(value 'v["env"]["COLOUR"]')" blue
	assert_equal "$(value 'v["context"]["function_version"]')" 1
	invoke one '{}'
	assert_equal "$(value 'v[0]')" init
	invoke two '{"name": "boot"}'
	assert_equal "$(header X-Quickthaw-Start)" cold-boot
	assert_fine
	# Numbers are not given twice.
	run --separate-stderr snapctl publish one --json
	assert_equal "$(value 'v["Version"]' "$output")" 3
	# A damaged configuration costs its own function only.
	stop_snapd
	echo '{' >"$SNAPD_DIR/state/functions/two/config.json"
	start_snapd
	grep -q "two: config.json" "$SNAPD_LOG"
	invoke one '{}'
	assert_fine
	assert_equal "$(http_status POST "$FUNCTIONS/two/invocations")" 404
}
