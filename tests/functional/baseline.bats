#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# baseline.bats - a snapshot goes only where the CPU has what its guest saw

# shellcheck disable=SC2154 # bats sets status and output

load common
load invoke

setup() {
	require_kvm
	require_root
	require_programs snapd snapctl snapshot vmm
}

teardown() {
	remove_snapd
}

# cpu_features FILE - the words that a snapshot requires, as decimal numbers
cpu_features() {
	python3 -c 'import struct, sys
with open(sys.argv[1], "rb") as file:
    print(*struct.unpack_from("<8Q", file.read(144), 80))' "$1"
}

@test "snapd --cpu-baseline: snapshots need no more of the CPU than the baseline has" {
	local word
	start_snapd --cpu-baseline x86-64-v3
	deploy hello "$EXAMPLES/hello-python"
	publish hello
	invoke hello:1 '{"name": "you"}'
	assert_fine
	snapshot=$SNAPD_DIR/state/functions/hello/versions/1/snapshot.qt
	run cpu_features "$snapshot"
	assert_success
	read -ra word <<<"$output"
	# psABI level 3 of leaf 7: FSGSBASE, BMI1, AVX2, BMI2. Then state: x87, SSE, AVX.
	assert_equal "${word[2]}" $((1 << 0 | 1 << 3 | 1 << 5 | 1 << 8))
	assert_equal "${word[3]} ${word[4]}" "0 0"
	assert_equal "${word[7]}" 7
}

@test "snapd --cpu-baseline: an unknown one is refused with the known ones, exit status 2" {
	run "$BIN/snapd" --cpu-baseline pentium --state "$BATS_TEST_TMPDIR/state"
	assert_failure 2
	assert_output_has "--cpu-baseline pentium: give one of host|x86-64-v3"
}

made_again() {
	http GET /2015-03-31/functions/hello/configuration?Qualifier=1 | jq -e '.Snapshot.Status == "Ready"'
}

@test "a snapshot which needs what this CPU lacks: vmm refuses it by name, snapd boots and makes it again" {
	start_snapd --cpu-baseline x86-64-v3
	deploy hello "$EXAMPLES/hello-python"
	publish hello
	stop_snapd
	snapshot=$SNAPD_DIR/state/functions/hello/versions/1/snapshot.qt
	# Bit 2 of leaf 7's EDX: only a Xeon Phi has it.
	python3 "$BATS_TEST_DIRNAME/tamper.py" header "$snapshot" 112 04
	run "$BIN/vmm" restore --task "$EXAMPLES/hello-python" --runtime "$ROOT/guest" --invoke 1 "$snapshot"
	assert_failure
	assert_output_has "this host's CPU lacks avx512_4vnniw"
	start_snapd
	invoke hello:1 '{"name": "you"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-boot
	grep -q "hello/versions/1/snapshot.qt: this host's CPU lacks avx512_4vnniw, which" "$SNAPD_LOG"
	wait_until 60 made_again
	invoke hello:1 '{"name": "you"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
}
