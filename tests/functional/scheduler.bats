#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# scheduler.bats - who is served, who waits, who is told to come back; what is kept and what goes

# shellcheck disable=SC2153,SC2154 # bats and common.bash set status, output, SNAPD_PID

bats_require_minimum_version 1.5.0
load common
load invoke

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
}

teardown() {
	remove_snapd
}

# functions NAME... - the same code by each name, published and trained
functions() {
	local name
	for name; do
		deploy "$name" "$SAMPLES/naps" --timeout 120
		publish "$name" --train '{}'
	done
}

# check CASE - a function of scheduler.py
check() {
	run python3 "$BATS_TEST_DIRNAME/scheduler.py" "$SNAPD_SOCKET" "$1"
	assert_success
}

@test "scheduler: reserved and account concurrency, 429 with Lambda's reasons" {
	start_snapd --account-concurrency 4
	functions naps other
	check concurrency
}

@test "scheduler: who waits for too long is told so; idle instances make room; functions take turns" {
	start_snapd --max-instances 1 --queue-timeout $((3 * SLOW))
	functions naps other
	check queue
	stop_snapd
	start_snapd --max-instances 1
	check fairness
}

@test "scheduler: provisioned instances wait, serve first, and are made again" {
	start_snapd --keep-warm 0
	functions naps
	check provisioned
}

@test "scheduler: over the memory budget idle instances and templates go, and pages come back" {
	start_snapd --memory-budget 24 --shells 1
	deploy heavy "$SAMPLES/heavy" --timeout 120
	publish heavy --train '{}'
	check eviction
}

@test "scheduler: snapctl warm, and what capacity predicts" {
	start_snapd
	functions naps other
	stop_snapd
	start_snapd
	check cold
	run snapctl warm naps
	assert_success
	assert_output_has "naps:1" "resident-restore"
	check warmed
	run snapctl warm naps:7
	assert_failure 1
	assert_output_has "Function not found" "naps:7"
}

@test "scheduler: what comes regularly is loaded again before it comes" {
	local name
	start_snapd --memory-budget 24 --keep-warm 0 --shells 1
	functions naps
	for name in heavy1 heavy2 heavy3; do
		deploy "$name" "$SAMPLES/heavy" --timeout 120
		publish "$name" --train '{}'
	done
	check foreseen
}

# stall PERCENT SECONDS - as /proc/pressure/memory would tell of it
stall() {
	local us end=$((SECONDS + $2))
	us=$(sed -n 's/.*total=//p' "$BATS_TEST_TMPDIR/pressure")
	while ((SECONDS < end)); do
		us=$((us + $1 * 1000))
		printf 'some avg10=0.00 avg60=0.00 avg300=0.00 total=%s\n' "$us" >"$BATS_TEST_TMPDIR/pressure"
		sleep 0.1
	done
}

# start_under_pressure [SNAPD-OPTION...] - a snapd to which the kernel says what stall writes
start_under_pressure() {
	[ -e /proc/pressure/memory ] || skip "this kernel does not tell of pressure"
	echo 'some avg10=0.00 avg60=0.00 avg300=0.00 total=1' >"$BATS_TEST_TMPDIR/pressure"
	# shellcheck disable=SC2016,SC2034 # for the inner shell; start_snapd reads it
	SNAPD_BEFORE=(unshare --mount bash -c '
		mount --make-rprivate / && mount --bind "$1" /proc/pressure/memory || exit
		shift
		exec "$@"
	' bash "$BATS_TEST_TMPDIR/pressure")
	start_snapd "$@"
}

idle_instances() {
	http GET /quickthaw/v1/stats | jq '[.Instances[] | select(.State == "idle")] | length'
}

@test "scheduler: when the kernel says that memory is short, idle instances end" {
	start_under_pressure --keep-warm 3000
	functions naps
	invoke naps '{}'
	assert_fine
	assert_equal "$(idle_instances)" 1
	stall 2 7
	assert_equal "$(idle_instances)" 1
	stall 50 12
	assert_equal "$(idle_instances)" 0
	grep -q "memory is short: instance" "$SNAPD_LOG"
	invoke naps '{}'
	assert_fine
}
