#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# python.bats - the host's own python3 and freshly compiled C programs run in a guest

# shellcheck disable=SC2154 # bats sets status, output and lines

bats_require_minimum_version 1.5.0

setup() {
	load common
	require_kvm
	require_programs vmm
	GUEST=$BATS_TEST_DIRNAME/guest
}

# vmm_run [OPTION...] -- PROGRAM [ARGUMENT...] - in a guest that sees tests/functional/guest
vmm_run() {
	run timeout $((60 * SLOW)) "$BIN/vmm" run --runtime "$GUEST" "$@"
}

python() {
	has_command /usr/bin/python3 || skip "no /usr/bin/python3 on this host"
	vmm_run -- /usr/bin/python3 "/var/runtime/$1"
}

# compiled NAME [GCC-OPTION...] - build guest/NAME.c and run it in a guest
compiled() {
	local name=$1
	shift
	has_command gcc || skip "no gcc on this host"
	gcc -O1 -pthread "$@" "$GUEST/$name.c" -o "$BATS_TEST_TMPDIR/$name"
	run timeout $((60 * SLOW)) "$BIN/vmm" run --task "$BATS_TEST_TMPDIR" -- "/var/task/$name"
}

@test "python: threading, queue, concurrent.futures" {
	python t_threading.py
	assert_success
	assert_output_has "threading ok"
}

@test "python: signal handlers, alarms, KeyboardInterrupt" {
	python t_signal.py
	assert_success
	assert_output_has "signal ok"
}

@test "python: asyncio with streams on loopback" {
	python t_asyncio.py
	assert_success
	assert_output_has "asyncio ok"
}

@test "python: socketserver, http.server, select and epoll" {
	python t_servers.py
	assert_success
	assert_output_has "servers ok"
}

@test "python: sqlite3, ssl, zipfile, tempfile, hashlib, decimal, ctypes" {
	python t_library.py
	assert_success
	assert_output_has "library ok"
}

@test "python: exit status, stderr and an uncaught exception" {
	vmm_run -- /usr/bin/python3 -c 'import sys; sys.exit(7)'
	assert_failure 7
	vmm_run -- /usr/bin/python3 -c 'raise ValueError("on purpose")'
	assert_failure 1
	assert_output_has "ValueError: on purpose"
}

@test "c: threads, static, dynamic and not position-independent" {
	for how in -static -pie -no-pie; do
		compiled threads "$how"
		assert_success
		assert_output_has "threads ok"
	done
}

@test "c: signals, faults and alternate stacks, static and dynamic" {
	for how in -static -pie; do
		compiled signals "$how"
		assert_success
		assert_output_has "signals ok"
	done
}

@test "c: poll, select, epoll, timerfd, eventfd" {
	compiled events
	assert_success
	assert_output_has "events ok"
}

@test "c: stream, datagram and unix sockets" {
	compiled sockets
	assert_success
	assert_output_has "sockets ok"
}

@test "a fatal fault is reported with registers, mapping and memory map" {
	compiled signals -static
	run timeout $((60 * SLOW)) "$BIN/vmm" run --task "$BATS_TEST_TMPDIR" -- /var/task/signals segv
	assert_failure 139
	assert_output_has "killed by signal 11 (SEGV): write at 0x1234 (unmapped)" "rip " \
		"memory map:" "/var/task/signals"
}

@test "a hostile signal frame kills the guest and nothing else" {
	compiled signals -static
	run timeout $((60 * SLOW)) "$BIN/vmm" run --task "$BATS_TEST_TMPDIR" -- /var/task/signals bad-frame
	assert_failure 139
	assert_output_has "bad signal frame"
}

@test "abort ends with its signal" {
	compiled signals -static
	run timeout $((60 * SLOW)) "$BIN/vmm" run --task "$BATS_TEST_TMPDIR" -- /var/task/signals abort
	assert_failure 134
	assert_output_has "killed by signal 6 (ABRT)"
}

@test "a guest whose tasks all wait for nothing is ended, not left hanging" {
	vmm_run -- /usr/bin/python3 -c 'import threading; threading.Event().wait()'
	assert_failure 1
	assert_output_has "deadlock"
}

@test "a capture in the middle of threads, sockets, timers and signals goes on after a restore" {
	local file=$BATS_TEST_TMPDIR/captured.qt
	has_command /usr/bin/python3 || skip "no /usr/bin/python3 on this host"
	run timeout $((120 * SLOW)) "$BIN/vmm" run --task "$GUEST/captured" --runtime "$ROOT/guest" \
		--env AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001 --env _HANDLER=app.handler \
		--capture "$file" -- /usr/bin/python3 /var/runtime/bootstrap.py
	assert_success
	for _ in 1 2; do
		run timeout $((60 * SLOW)) "$BIN/vmm" restore --task "$GUEST/captured" \
			--runtime "$ROOT/guest" --invoke '{}' "$file"
		assert_success
		assert_output_has "all of it went on"
	done
}
