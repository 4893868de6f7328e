#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# nodes.bats - HAProxy in front of three snapd nodes, each in a network namespace of its own

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

# Their names are the test's own; the addresses exist in these namespaces and nowhere else.
NODES="1 2 3"

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl
	local command
	for command in haproxy ip nsenter; do
		has_command "$command" || fail "there is no $command: run scripts/setup service"
	done
	modprobe veth 2>/dev/null || true
	ip link add qt-probe type veth peer name qt-probe2 2>/dev/null ||
		skip "this kernel has no veth, or lets nobody add one: no network namespaces to connect"
	ip link del qt-probe
	SNAPD_DIR=$(mktemp -d /tmp/quickthaw-nodes.XXXXXX)
	PIDS=()
}

teardown() {
	local pid n
	for pid in "${PIDS[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in "${PIDS[@]}"; do
		wait "$pid" 2>/dev/null || true
	done
	for n in $NODES; do
		ip netns del "qt-node$n" 2>/dev/null || true
	done
	if [ -z "${BATS_TEST_COMPLETED:-}" ] && [ -n "${SNAPD_DIR:-}" ]; then
		tail -n 20 "$SNAPD_DIR"/*.log >&2
	fi
	rm -rf "${SNAPD_DIR:-}"
}

# connect_node N - a namespace, and a cable to it: 10.77.N.1 here, 10.77.N.2 there
connect_node() {
	local n=$1
	ip netns add "qt-node$n"
	ip link add "qt-host$n" type veth peer name eth0 netns "qt-node$n"
	ip addr add "10.77.$n.1/30" dev "qt-host$n"
	ip link set "qt-host$n" up
	ip -n "qt-node$n" addr add "10.77.$n.2/30" dev eth0
	ip -n "qt-node$n" link set eth0 up
}

# start_node N - snapd in its namespace, with the state directory node-N
start_node() {
	local n=$1
	setpriv --pdeathsig TERM nsenter "--net=/run/netns/qt-node$n" "$BIN/snapd" \
		--state "$SNAPD_DIR/node-$n" --socket "$SNAPD_DIR/node-$n.sock" --vmm "$BIN/vmm" \
		--runtime-dir "$ROOT/guest" --shells 1 --listen "10.77.$n.2:8080" \
		--keys "$SNAPD_DIR/keys" </dev/null >>"$SNAPD_DIR/node-$n.log" 2>&1 3>&- &
	PIDS+=($!)
	NODE_PID[n]=$!
}

node_is_ready() {
	[ "$(curl -s --unix-socket "$SNAPD_DIR/node-$1.sock" http://localhost/readyz)" = ready ]
}

@test "a function has its node; when the node dies, its functions move, and no others" {
	local n
	local -a NODE_PID
	echo "AKIATEST secretsecretsecret" >"$SNAPD_DIR/keys"
	chmod 600 "$SNAPD_DIR/keys"
	for n in $NODES; do
		connect_node "$n"
	done
	# Deployed and published at one node, then copied as a backup would be: all three know the same.
	start_node 1
	wait_until 20 node_is_ready 1 || fail "node 1 does not become ready"
	QUICKTHAW_SOCKET=$SNAPD_DIR/node-1.sock "$BIN/snapctl" deploy hello \
		--dir "$EXAMPLES/hello-python" \
		--timeout 60 --publish
	kill "${NODE_PID[1]}"
	wait "${NODE_PID[1]}" || true
	cp -a "$SNAPD_DIR/node-1" "$SNAPD_DIR/node-2"
	cp -a "$SNAPD_DIR/node-1" "$SNAPD_DIR/node-3"
	for n in $NODES; do
		start_node "$n"
	done
	for n in $NODES; do
		wait_until 20 node_is_ready "$n" || fail "node $n does not become ready"
	done
	# The example, with these addresses.
	sed -E 's/bind :8080/bind 127.0.0.1:18090/; s/server node([0-9]) .*/server node\1 10.77.\1.2:8080/' \
		"$EXAMPLES/haproxy.cfg" >"$SNAPD_DIR/haproxy.cfg"
	haproxy -db -f "$SNAPD_DIR/haproxy.cfg" </dev/null >"$SNAPD_DIR/haproxy.log" 2>&1 3>&- &
	PIDS+=($!)
	run python3 "$ROOT/tests/functional/nodes_client.py" http://127.0.0.1:18090 \
		"node1=${NODE_PID[1]}" "node2=${NODE_PID[2]}" "node3=${NODE_PID[3]}"
	assert_success
	assert_output_has "moved and answered"
}
