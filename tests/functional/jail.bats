#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# jail.bats - the processes that snapd starts are jailed, seen from the host
#
# shellcheck disable=SC2030,SC2031 # each test is a subshell of its own
#
# What is possible from inside the jail is tried by tests/unit/test_sandbox.c.

load common

setup() {
	require_root
	require_kvm
}

teardown() {
	remove_snapd
}

has_vmm() {
	[ -n "$(vmm_pids)" ]
}

# status_of PID FIELD - one field of /proc/PID/status, spaces squeezed
status_of() {
	awk -F'\t' -v field="$2:" '$1 == field { $1 = ""; sub(/^ /, ""); print }' "/proc/$1/status"
}

is_filtered() {
	[ "$(status_of "$1" Seccomp)" = 2 ]
}

# start_vmm - start snapd and wait for a shell that has finished its own start. Sets VMM.
start_vmm() {
	start_snapd
	wait_until 20 has_vmm || fail "snapd made no shell"
	VMM=$(vmm_pids | head -n 1)
	wait_until 20 is_filtered "$VMM" || fail "vmm $VMM did not enter its system call filter"
}

# cgroups_of PID - the directories of jails that snapd PID made, on version 1 and 2 hosts
cgroups_of() {
	find /sys/fs/cgroup -mindepth 1 -maxdepth 3 -path "*/quickthaw/$1" 2>/dev/null
}

@test "a vmm is an unprivileged user without capabilities" {
	start_vmm
	local ids set groups
	# shellcheck disable=SC2046 # four ids are wanted
	set -- $(status_of "$VMM" Uid) $(status_of "$VMM" Gid)
	for ids; do
		assert_equal "$ids" $((0x70000000 + VMM))
	done
	groups=$(status_of "$VMM" Groups)
	assert_equal "${groups// /}" ""
	for set in CapInh CapPrm CapEff CapBnd CapAmb; do
		assert_equal "$(status_of "$VMM" $set)" 0000000000000000
	done
	assert_equal "$(status_of "$VMM" NoNewPrivs)" 1
}

@test "a vmm has namespaces of its own" {
	start_vmm
	local name
	for name in user mnt pid net ipc uts cgroup; do
		[ "$(readlink "/proc/$VMM/ns/$name")" != "$(readlink "/proc/$SNAPD_PID/ns/$name")" ] ||
			fail "the $name namespace is snapd's"
		[ "$(readlink "/proc/$VMM/ns/$name")" != "$(readlink "/proc/self/ns/$name")" ] ||
			fail "the $name namespace is the host's"
	done
	run awk 'NR > 2 { sub(/:.*/, ""); print $1 }' "/proc/$VMM/net/dev"
	assert_equal "$output" lo
}

@test "a vmm's root is one empty read-only mount" {
	start_vmm
	run cat "/proc/$VMM/mounts"
	assert_equal "${#lines[@]}" 1
	assert_output_has "quickthaw-empty / tmpfs ro,nosuid,nodev,noexec"
	assert_equal "$(find "/proc/$VMM/root/" -mindepth 1)" ""
}

@test "a vmm holds only the descriptors that it was given" {
	start_vmm
	local fd target
	for fd in "/proc/$VMM/fd/"*; do
		target=$(readlink "$fd") || continue
		case $target in
		socket:* | pipe:* | anon_inode:* | /memfd:* | /dev/kvm | /dev/userfaultfd | /dev/null) ;;
		"$SNAPD_LOG") ;;
		*) fail "descriptor ${fd##*/} is $target" ;;
		esac
	done
}

@test "a vmm cannot dump core, lock memory or start many processes" {
	start_vmm
	run cat "/proc/$VMM/limits"
	[[ $output =~ Max\ core\ file\ size\ +0\ +0 ]] || fail "core size"
	[[ $output =~ Max\ locked\ memory\ +0\ +0 ]] || fail "locked memory"
	[[ $output =~ Max\ processes\ +32\ +32 ]] || fail "processes"
	[[ $output =~ Max\ open\ files\ +1024\ +1024 ]] || fail "open files"
	[[ ! $output =~ Max\ address\ space\ +unlimited ]] || fail "address space"
}

@test "a vmm is in a memory cgroup of its own" {
	start_vmm
	[ -n "$(cgroups_of "$SNAPD_PID")" ] || skip "no memory cgroup on this host"
	grep -Eq "/quickthaw/$SNAPD_PID/[A-Za-z0-9_-]+$" "/proc/$VMM/cgroup" ||
		fail "it is in $(cat "/proc/$VMM/cgroup")"
}

@test "kill -9 of snapd ends every vmm, and the next start removes their cgroups" {
	start_vmm
	local pids pid old=$SNAPD_PID
	pids=$(vmm_pids)
	kill -KILL "$SNAPD_PID"
	wait "$SNAPD_PID" 2>/dev/null || true
	for pid in $pids; do
		wait_until 5 [ ! -e "/proc/$pid" ] || fail "vmm $pid is still there"
	done
	SNAPD_PID=
	start_snapd
	assert_equal "$(cgroups_of "$old")" ""
}

@test "a clean stop leaves no vmm and no cgroup" {
	start_vmm
	local pids pid old=$SNAPD_PID
	pids=$(vmm_pids)
	stop_snapd
	for pid in $pids; do
		wait_until 5 [ ! -e "/proc/$pid" ] || fail "vmm $pid is still there"
	done
	assert_equal "$(cgroups_of "$old")" ""
}

@test "snapd without root says what it lacks, why and what to do, and exits with 2" {
	require_programs snapd vmm
	local dir
	dir=$(mktemp -d)
	chown 65534 "$dir"
	run timeout 20 setpriv --reuid 65534 --clear-groups --inh-caps=-all "$BIN/snapd" \
		--state "$dir" --socket "$dir/s" --vmm "$BIN/vmm"
	rm -rf "$dir"
	assert_failure 2
	[[ $output == *root* || $output == */dev/kvm* ]] || fail "the reason is not there"
}

@test "snapd where user namespaces are forbidden says so and exits with 2" {
	require_programs snapd vmm
	local dir
	dir=$(mktemp -d)
	# shellcheck disable=SC2016 # for the inner shell
	run timeout 20 unshare --user --map-root-user --mount sh -c '
		echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"' sh "$BIN/snapd" \
		--state "$dir" --socket "$dir/s" --vmm "$BIN/vmm"
	rm -rf "$dir"
	assert_failure 2
	assert_output_has "cannot create namespaces" "user.max_user_namespaces"
}
