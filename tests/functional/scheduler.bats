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
