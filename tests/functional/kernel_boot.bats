#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# kernel.bats - kernel guests: boot, bad ends, capture, clones; and the refusal where they cannot run

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

setup() {
	require_kvm
	require_programs vmm snapshot
	work=$BATS_TEST_TMPDIR
	if [[ $("$BIN/vmm" host) == *hardware* ]]; then
		hardware=1
	else
		hardware=
	fi
}

# require_hardware - skip the test where a whole kernel cannot run
require_hardware() {
	[ -n "$hardware" ] || skip "this host is of the kind PVM, which runs no whole kernel"
	# QEMU's TCG may deliver an interrupt of a nested guest twice when one of several emulated
	# CPUs is kicked for another's sake, and the guest's kernel hangs.
	[ -z "${HWKVM:-}" ] || [ "$(nproc)" = 1 ] ||
		skip "an emulated host with several CPUs loses their guests: --cpus 1"
	# Not the cloud kernel: it has no /dev/port, by which these guests say that they are ready.
	# shellcheck disable=SC2153 # common.bash sets it
	kernel=$(find "$ROOT"/build/hwkvm/kernel/boot -name 'vmlinuz-*' 2>/dev/null | head -n 1)
	[ -n "$kernel" ] || skip "no kernel to boot: run scripts/setup hwkvm"
}

# make_initrd - an initramfs of busybox; its /init is standard input
make_initrd() {
	local busybox=$ROOT/build/hwkvm/busybox/bin/busybox root=$work/root
	[ -x "$busybox" ] || skip "no busybox for the guest: run scripts/setup hwkvm"
	mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys"
	cp "$busybox" "$root/bin/"
	{
		echo '#!/bin/busybox sh'
		echo 'b=/bin/busybox'
		# shellcheck disable=SC2016 # for the guest's shell
		echo '$b mount -t proc proc /proc; $b mount -t devtmpfs dev /dev; $b mount -t sysfs sys /sys'
		echo 'exec >/dev/ttyS0 2>&1'
		cat
	} >"$root/init"
	chmod +x "$root/init"
	(cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

# boot OPTION... - the kernel with that initramfs
boot() {
	"$BIN/vmm" boot --kernel "$kernel" --initrd "$work/initrd" --memory 256 \
		--cmdline "console=ttyS0 panic=-1 pci=off quiet" --timeout $((10 * SLOW)) "$@"
}

@test "where ring 0 is emulated, boot refuses and says what to use instead" {
	[ -z "$hardware" ] || skip "this host runs kernel guests"
	run "$BIN/vmm" boot --kernel /dev/null
	assert_failure 2
	assert_output_has "PVM" "process guest" "vmm run"
}

@test "a kernel boots to userspace with all its vCPUs, and turns the machine off" {
	require_hardware
	make_initrd <<-'END'
		echo "userspace with $($b nproc) cpus, clock $($b cat /sys/devices/system/clocksource/*/current_clocksource)"
		$b ls /sys/bus/acpi/devices
		$b poweroff -f
	END
	run boot --vcpus 2
	assert_success
	assert_output_has "userspace with 2 cpus, clock kvm-clock" "QEMUVGID:00" "LNRO0005:00" \
		"turned itself off"
}

@test "images that are no kernels are refused by name" {
	require_hardware
	make_initrd </dev/null
	head -c 3000000 "$kernel" >"$work/cut"
	run "$BIN/vmm" boot --kernel "$work/cut" --memory 256
	assert_failure 1
	assert_output_has "$work/cut: truncated"
	printf '%56s' '' >"$work/arm64"
	printf 'ARM\x64%8192s' '' >>"$work/arm64"
	run "$BIN/vmm" boot --kernel "$work/arm64"
	assert_failure 1
	assert_output_has "another architecture: arm64"
	run "$BIN/vmm" boot --kernel "$work/missing"
	assert_failure
	assert_output_has "$work/missing"
	run "$BIN/vmm" boot --kernel "$kernel" --memory 32
	assert_failure 1
	assert_output_has "give it more than 32 MiB"
	truncate -s 300M "$work/large"
	run "$BIN/vmm" boot --kernel "$kernel" --initrd "$work/large" --memory 256
	assert_failure 1
	assert_output_has "the initrd does not fit"
	run "$BIN/vmm" boot --kernel "$kernel" --disk "$work/missing.img"
	assert_failure 1
	assert_output_has "$work/missing.img"
	run "$BIN/vmm" boot --kernel "$kernel" --net missing0
	assert_failure 1
	assert_output_has "missing0: there is no such TAP device"
}

@test "bad ends are told: a panic, a triple fault, a guest that is never ready" {
	require_hardware
	make_initrd <<<'exit 3'
	run boot
	assert_failure 1
	assert_output_has "the guest's kernel panicked: Kernel panic - not syncing: Attempted to kill init!"
	make_initrd <<<'while :; do echo 0123456789012345678901234567890123456789012345678901234567890; done'
	run boot --capture "$work/never.qt" --timeout 20 --serial none
	assert_failure 1
	assert_output_has "was not ready within 20 s"
	[ ! -e "$work/never.qt" ] || fail "a snapshot was left"
	# An ELF file whose PVH entry is an instruction that faults, and no table of handlers.
	python3 - "$work/fault" <<-'END'
		import struct, sys
		note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x1000000)
		head = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x1000000, 64, 0,
		                   0, 64, 56, 2, 0, 0, 0)
		load = struct.pack("<IIQQQQQQ", 1, 5, 0x2000, 0, 0x1000000, 4096, 4096, 4096)
		notes = struct.pack("<IIQQQQQQ", 4, 4, 0x1000, 0, 0, len(note), len(note), 4)
		image = (head + load + notes).ljust(0x1000, b"\0") + note.ljust(0x1000, b"\0") + b"\x0f\x0b" * 2048
		open(sys.argv[1], "wb").write(image)
	END
	run "$BIN/vmm" boot --kernel "$work/fault" --memory 64 --timeout 20
	assert_failure 1
	assert_output_has "triple fault"
}

@test "two busy vCPUs go on in every clone, and each clone is another one" {
	require_hardware
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
	require_hardware
	local dir=$ROOT/build/kernel image
	for image in vmlinuz initramfs python.erofs hello-python.erofs; do
		[ -e "$dir/$image" ] || skip "no $dir/$image: see docs/hacking.md, kernel guests"
	done
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
