#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# soak.bats - nothing is lost, nothing runs twice, nothing is left; `make soak` for the long form

# shellcheck disable=SC2154 # bats sets status, output and lines

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

@test "every invocation is answered once while instances come, go and are killed" {
	start_snapd --shells 2 --keep-warm 1
	run python3 "$BATS_TEST_DIRNAME/soak.py" "$SNAPD_PID" "$SNAPD_SOCKET" "$BIN/snapctl" \
		"$SAMPLES/lasting" "${SOAK_INVOCATIONS:-80}" "${SOAK_FUNCTIONS:-2}" 3 "${SOAK_KILLS:-4}"
	echo "# ${lines[-1]}" >&3
	assert_success
	assert_output_has "0 errors"
}
