# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# systemd.bash - a systemd of the test's own, with snapd's units and nothing else
#
# It is process 1 of a pid namespace, with mounts and a cgroup tree of its own: the host's systemd, if
# there is one, never hears of it. All that it starts ends with it.

# start_systemd [LINE...] - lines are added to [Service] of quickthaw.service. Sets SYSTEMD_DIR,
# SYSTEMD_PID (process 1 in there), SNAPD_LOG.
start_systemd() {
	local target hierarchy
	# Beside version 1, which then has the memory controller, version 2 is mounted elsewhere.
	hierarchy=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) ||
		skip "needs cgroup version 2 for a systemd of its own"
	[ -x /lib/systemd/systemd ] || skip "needs systemd"
	SYSTEMD_DIR=$(mktemp -d /tmp/quickthaw-systemd.XXXXXX)
	SNAPD_LOG=$SYSTEMD_DIR/snapd.log
	mkdir "$SYSTEMD_DIR/units"
	sed "s|@bindir@|$BIN|" "$ROOT/packaging/systemd/quickthaw.service.in" \
		>"$SYSTEMD_DIR/units/quickthaw.service"
	cp "$ROOT/packaging/systemd/quickthaw.socket" "$SYSTEMD_DIR/units"
	mkdir "$SYSTEMD_DIR/units/quickthaw.service.d"
	# There is no journal in there; and snapd shall find its files in the tree that it was built in.
	printf '%s\n' '[Service]' "StandardError=append:$SNAPD_LOG" "$@" \
		>"$SYSTEMD_DIR/units/quickthaw.service.d/test.conf"
	for target in sysinit basic sockets shutdown network multi-user default; do
		printf '[Unit]\nDescription=%s\nDefaultDependencies=no\nAllowIsolate=yes\n' $target \
			>"$SYSTEMD_DIR/units/$target.target"
	done
	echo 'Requires=quickthaw.socket' >>"$SYSTEMD_DIR/units/default.target"
	SYSTEMD_CGROUP=$hierarchy/quickthaw-systemd-$$
	mkdir "$SYSTEMD_CGROUP"
	! grep -qw memory "$hierarchy/cgroup.controllers" || echo +memory >"$hierarchy/cgroup.subtree_control"
	# shellcheck disable=SC2016 # for the shell in there
	setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child bash -c '
		echo 0 >"$1/cgroup.procs" && exec unshare --cgroup bash -c "
			mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /run &&
			umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
			mkdir -p /var/lib/quickthaw && mount -t tmpfs tmpfs /var/lib/quickthaw &&
			exec env -i container=test PATH=\"$PATH\" SYSTEMD_UNIT_PATH=\"$2/units\" \
				/lib/systemd/systemd --system --log-target=console --show-status=no"' \
		bash "$SYSTEMD_CGROUP" "$SYSTEMD_DIR" </dev/null >"$SYSTEMD_DIR/systemd.log" 2>&1 3>&- &
	SYSTEMD_OUTER=$!
	wait_until 20 systemd_listens || {
		cat "$SYSTEMD_DIR/systemd.log" >&2
		fail "systemd does not get as far as quickthaw.socket"
	}
}

systemd_listens() {
	SYSTEMD_PID=$(pgrep -P "$SYSTEMD_OUTER" -x systemd) && within test -S /run/quickthaw/snapd.sock
}

# within COMMAND... - run it beside that systemd
within() {
	nsenter -t "$SYSTEMD_PID" --mount --pid --cgroup env "PATH=$BIN:$PATH" "$@"
}

# stop_systemd - for teardown; shows logs when the test failed
stop_systemd() {
	[ -n "${SYSTEMD_DIR:-}" ] || return 0
	if [ -z "${BATS_TEST_COMPLETED:-}" ]; then
		tail -n 40 "$SYSTEMD_DIR"/*.log >&2
	fi
	# Process 1 of a pid namespace takes the rest with it.
	kill -KILL "$SYSTEMD_PID" 2>/dev/null || true
	wait "$SYSTEMD_OUTER" 2>/dev/null || true
	find "$SYSTEMD_CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
	rm -rf "$SYSTEMD_DIR"
	SYSTEMD_DIR=
}
