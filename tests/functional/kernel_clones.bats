#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# kernel_clones.bats - kernel guests are captured, and their clones go on, each as one of its own

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common
load kernel

setup_file() {
	work=$BATS_FILE_TMPDIR
	capture_does
}

setup() {
	require_kvm
	work=$BATS_TEST_TMPDIR
}

@test "two busy vCPUs go on in every clone, and each clone is another one" {
	require_busybox
	make_initrd <<-'END'
		busy() { i=0; while :; do i=$((i + 1)); echo $i >$1.new; $b mv $1.new $1; done; }
		busy /a & busy /b &
		until [ -s /a ] && [ -s /b ]; do $b sleep 0.1; done
		printf '\001' | $b dd of=/dev/port bs=1 seek=244 conv=notrunc 2>/dev/null
		a=$($b cat /a); c=$($b cat /b)
		$b sleep 2
		echo "went on: $(($($b cat /a) > a)) $(($($b cat /b) > c))"
		echo "random: $($b head -c 16 /dev/urandom | $b hexdump -e '16/1 "%02x"')"
		$b dmesg | $b grep 'virtual machine fork'
		$b poweroff -f
	END
	run boot --vcpus 2 --capture "$work/busy.qt" --timeout 90
	assert_success
	run "$BIN/snapshot" info "$work/busy.qt"
	assert_success
	assert_output_has "kernel, x86-64"
	local clone
	for clone in 1 2; do
		echo "clone $clone"
		run "$BIN/vmm" restore --timeout $((10 * SLOW)) "$work/busy.qt"
		assert_success
		assert_output_has "went on: 1 1" "turned itself off"
		sed -n 's/^random: //p' <<<"$output" >>"$work/random"
	done
	[ "$(sort -u "$work/random" | grep -c .)" = 2 ] || fail "clones have the same random numbers"
	# What a clone is given has to be what was captured.
	truncate -s 1M "$work/disk"
	run "$BIN/vmm" restore --disk "$work/disk:ro" "$work/busy.qt"
	assert_failure 1
	assert_output_has "other devices"
	run "$BIN/vmm" pages "$work/busy.qt"
	assert_failure
	assert_output_has "kernel guest"
}

@test "a function in a Debian guest: boot, capture, and clones that answer" {
	require_images
	local dir=$images
	local disks=(--disk "$dir/python.erofs:ro" --disk "$dir/hello-python.erofs:ro")
	run "$BIN/vmm" boot --kernel "$dir/vmlinuz" --initrd "$dir/initramfs" --memory 256 "${disks[@]}" \
		--cmdline "console=ttyS0 panic=-1 pci=off quiet agent.task=/dev/vdb" --serial none \
		--timeout $((15 * SLOW)) --capture "$work/hello.qt" --env _HANDLER=app.handler \
		--env LAMBDA_TASK_ROOT=/var/task --invoke '{"name": "boot"}' \
		-- /usr/bin/python3 /var/runtime/bootstrap.py
	assert_success
	assert_output_has "Hello, boot!"
	[ "$(stat -c %s "$work/hello.qt")" -lt $((40 << 20)) ] || fail "the snapshot is over 40 MiB"
	local name clones=()
	for name in one two; do
		run "$BIN/vmm" restore "${disks[@]}" --serial none --timeout $((10 * SLOW)) \
			--invoke "{\"name\": \"$name\"}" --invoke '{"name": "again"}' "$work/hello.qt"
		assert_success
		assert_output_has "Hello, $name!" "Hello, again!"
		clones+=("$(sed -n "s/.*Hello, $name.*clone\": \"\([^\"]*\).*/\1/p" <<<"$output")")
	done
	[ "${clones[0]}" != "${clones[1]}" ] || fail "two clones made the same uuid"
}

@test "an hour later, a clone's clock is right within 50 ms" {
	require_images
	[ -n "${HWKVM:-}" ] || skip "the host's clock is changed for this: only the emulated host's is ours"
	date -s "+1 hour" >/dev/null
	# The guest asks for the host's time, as NTP does: the shortest way there and back is believed.
	python3 - "$work/v.sock_5000" <<-'END' 3>&- &
		import socket, struct, sys, time
		listener = socket.socket(socket.AF_UNIX)
		listener.bind(sys.argv[1])
		listener.listen()
		listener.settimeout(60)
		stream = listener.accept()[0]
		while stream.recv(1):
		    stream.sendall(struct.pack("<d", time.time()))
	END
	run clone --vsock "$work/v.sock" <<-'END'
		import socket, struct, time
		s = socket.socket(socket.AF_VSOCK)
		s.connect((2, 5000))
		best = None
		for _ in range(20):
		    begin = time.time()
		    s.sendall(b"?")
		    host = struct.unpack("<d", s.recv(8, socket.MSG_WAITALL))[0]
		    end = time.time()
		    if best is None or end - begin < best[0]:
		        best = (end - begin, host - (begin + end) / 2)
		result = {"trip": best[0], "off": best[1]}
	END
	local got=$output
	date -s "-1 hour" >/dev/null
	assert_success
	jq -e '(.off | fabs) < 0.05 + .trip / 2 and .trip < 1' <<<"$got" || fail "its clock: $got"
}

@test "a snapshot that needs what this CPU lacks is refused by name" {
	require_images
	cp "$BATS_FILE_TMPDIR/does.qt" "$work/needs.qt"
	# Bit 2 of leaf 7's EDX: only a Xeon Phi has it.
	python3 "$BATS_TEST_DIRNAME/tamper.py" header "$work/needs.qt" 112 04
	run "$BIN/vmm" restore --disk "$images/python.erofs:ro" --disk "$BATS_FILE_TMPDIR/does.erofs:ro" "$work/needs.qt"
	assert_failure 1
	assert_output_has "this host's CPU lacks avx512_4vnniw" "--cpu-baseline"
}

@test "a Node.js function with Debian's nodejs: boot, capture, clones with random numbers of their own" {
	require_images
	"$ROOT/scripts/build-rootfs" --dir "$BATS_TEST_DIRNAME/functions/node_handler" "$work/node.erofs"
	local disks=(--disk "$images/nodejs.erofs:ro" --disk "$work/node.erofs:ro")
	run boot_debian "${disks[@]}" --env _HANDLER=app.handler \
		--env AWS_LAMBDA_INITIALIZATION_TYPE=snap-start --capture "$work/node.qt" \
		-- /usr/bin/node /var/runtime/bootstrap.js
	assert_success
	local name
	for name in one two; do
		run "$BIN/vmm" restore "${disks[@]}" --serial none --timeout $((15 * SLOW)) \
			--invoke "{\"name\": \"$name\"}" --invoke '{"fail": "as told"}' "$work/node.qt"
		assert_failure
		assert_output_has "\"hello\":\"$name\"" '"node":"v' "TypeError" "as told"
		sed -n 's/^{"hello"/&/p' <<<"$output" >>"$work/answers"
	done
	local kind
	for kind in kernel uuid bytes int values key random kept; do
		run jq -r ".$kind" "$work/answers"
		assert_equal "$kind $(sort -u <<<"$output" | grep -c .)" "$kind 2"
	done
}
