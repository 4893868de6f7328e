#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# systemd.bats - snapd under a real systemd: its units as they are installed, sandbox and all

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common
load systemd
load kernel

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
}

teardown() {
	stop_systemd
}

property() {
	within systemctl show -P "$1" quickthaw.service
}

is_active() {
	[ "$(property ActiveState)" = active ]
}

is_another() {
	is_active && [ "$(property MainPID)" != "$1" ]
}

no_vmm() {
	[ -z "$(within pgrep -x vmm || true)" ]
}

# instance_pid - as the host sees it
instance_pid() {
	within curl -s --max-time $((30 * SLOW)) --unix-socket /run/quickthaw/snapd.sock \
		http://localhost/quickthaw/v1/stats | jq '.Instances[] | select(.State == "idle").Pid'
}

# assert_kept_over_restart - the unit that was restarted has the instance of hello that it had
assert_kept_over_restart() {
	local pid
	pid=$(instance_pid)
	within systemctl restart quickthaw.service
	assert_equal "$(instance_pid)" "$pid"
	run within snapctl invoke hello '{"name": "again"}'
	assert_success
	assert_output_has again "warm start"
}

@test "a client starts snapd by the socket; it serves in its sandbox, and a hung one is replaced" {
	local pid
	start_systemd WatchdogSec=20
	assert_equal "$(property ActiveState)" inactive
	# Nobody has started it: the first request does, and is answered.
	run within curl -s --max-time $((30 * SLOW)) --unix-socket /run/quickthaw/snapd.sock \
		http://localhost/healthz
	assert_success
	assert_equal "$output" ok
	wait_until 20 is_active || fail "systemd was not told that snapd serves"
	assert_equal "$(property StatusText)" "serving on /run/quickthaw/snapd.sock"
	# All that snapd does works with what the unit leaves it: namespaces, KVM, cgroups, files.
	run within snapctl deploy hello --dir "$EXAMPLES/hello-python" \
		--timeout 60 --publish
	assert_success
	run within snapctl invoke hello '{"name": "you"}'
	assert_success
	assert_output_has you
	# (With version 1 of cgroups there is no memory controller in there.)
	run grep -iE 'warn|error' <(grep -v "no memory cgroup on this host" "$SNAPD_LOG")
	assert_equal "$output" ""
	# Restarted, as by an upgrade: the instance is the same, and so are the templates.
	assert_kept_over_restart
	grep -q "1 templates" "$SNAPD_LOG" || fail "no template was kept"
	# Stopped in its tracks it gives no signs of life: another one takes its place.
	pid=$(property MainPID)
	within kill -STOP "$pid"
	wait_until 60 is_another "$pid" || fail "the watchdog did not replace a snapd that hangs"
	run within snapctl list
	assert_success
	assert_output_has hello
	# Stopped for good: what was kept goes, and so do the instances.
	within systemctl stop quickthaw.service
	wait_until 20 no_vmm || fail "instances outlive a unit that is stopped"
	assert_equal "$(property Result)" success
}

@test "kernel guests run in the sandbox of the unit, and serve on after a restart" {
	require_images
	start_systemd ExecStart= "ExecStart=$BIN/snapd --kernel-guests $images --shells 1 --init-timeout 300 \
		--publish-wait 600 --queue-timeout 300 --keep-warm 3000"
	run within snapctl deploy hello --dir "$EXAMPLES/hello-python" --guest kernel --memory 256 --timeout 200 --publish
	assert_success
	run within snapctl invoke hello '{"name": "you"}'
	assert_success
	assert_output_has you
	assert_kept_over_restart
	run grep -iE 'warn|error' <(grep -v "no memory cgroup on this host" "$SNAPD_LOG")
	assert_equal "$output" ""
	within systemctl stop quickthaw.service
	wait_until 20 no_vmm || fail "instances outlive a unit that is stopped"
}
