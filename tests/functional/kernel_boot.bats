#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# kernel_boot.bats - kernel guests boot, or come to an end that is told

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common
load kernel

setup() {
	require_kvm
	require_programs vmm
	work=$BATS_TEST_TMPDIR
}

@test "where ring 0 is emulated, boot refuses and says what to use instead" {
	[[ $(why_no_kernels) == *PVM* ]] || skip "this host runs kernel guests"
	run "$BIN/vmm" boot --kernel /dev/null
	assert_failure 2
	assert_output_has "PVM" "process guest" "vmm run"
}

@test "a kernel boots to userspace with all its vCPUs, and turns the machine off" {
	require_busybox
	make_initrd <<-'END'
		echo "userspace with $($b nproc) cpus, clock $($b cat /sys/devices/system/clocksource/*/current_clocksource)"
		$b ls /sys/bus/acpi/devices
		$b poweroff -f
	END
	run boot --vcpus 3
	assert_success
	assert_output_has "userspace with 3 cpus, clock kvm-clock" "QEMUVGID:00" "LNRO0005:00" \
		"turned itself off"
}

@test "images that are no kernels are refused by name" {
	require_busybox
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
	require_busybox
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

@test "a serial port that is flooded costs the host no more than its limits" {
	require_busybox
	[ -z "${HWKVM:-}" ] || skip "3 MiB take minutes on an emulated host; test_kernel_devices has these limits, too"
	make_initrd <<-'END'
		i=0
		while [ $i -lt 12 ]; do $b head -c 262144 /dev/zero | $b tr '\\0' x; i=$((i + 1)); done
		echo; echo "the end of the flood"
		$b poweroff -f
	END
	boot --timeout $((30 * SLOW)) >"$work/console"
	# 1 MiB at once, 256 KiB a second, and what it says of the rest.
	grep -q dropped "$work/console" || fail "nothing says that output was dropped"
	[ "$(stat -c %s "$work/console")" -lt $((3 << 20)) ] || fail "all of it came through"
}

@test "an ELF kernel by PVH, four vCPUs, a baseline of the CPU, a disk that is written" {
	require_images
	"$ROOT/scripts/extract-vmlinux" "$images/vmlinuz" "$work/vmlinux"
	truncate -s 4M "$work/raw"
	printf '%s' 'what the host wrote' | dd of="$work/raw" conv=notrunc status=none
	cat >"$work/program.py" <<-'END'
		import fcntl, mmap, os, struct
		flags = open("/proc/cpuinfo").read().split("flags", 1)[1].split("\n", 1)[0].split()
		print("cpus", os.cpu_count(), "avx2" in flags, [f for f in ("sha_ni", "vaes", "pku") if f in flags])
		disk = os.open("/dev/vdb", os.O_RDWR | os.O_DIRECT)
		page = mmap.mmap(-1, 4096)
		os.preadv(disk, [page], 0)
		print("found", page[:19].decode())
		page[:16] = b"the guest's part"
		os.pwritev(disk, [page], 4096)
		page[:] = b"z" * 4096
		os.pwritev(disk, [page], 8192)
		os.fsync(disk)
		fcntl.ioctl(disk, 0x1277, struct.pack("QQ", 8192, 4096))  # BLKDISCARD
		os.preadv(disk, [page], 8192)
		print("discarded", page[:] == bytes(4096))
	END
	run "$BIN/vmm" boot --kernel "$work/vmlinux" --initrd "$images/initramfs" --memory 256 --vcpus 4 \
		--cpu-baseline x86-64-v3 --serial none --cmdline "console=ttyS0 panic=-1 pci=off quiet" \
		--timeout $((20 * SLOW)) --disk "$images/python.erofs:ro" --disk "$work/raw" \
		-- /usr/bin/python3 -c "$(cat "$work/program.py")"
	assert_success
	assert_output_has "cpus 4 True []" "found what the host wrote" "discarded True"
	run head -c 16 <(tail -c +4097 "$work/raw")
	assert_equal "$output" "the guest's part"
	cmp -n 4096 -i 8192:0 "$work/raw" /dev/zero
}
