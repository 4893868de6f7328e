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
	# An instruction that faults, and no table of handlers.
	make_pvh_kernel "$work/fault" 0f0b
	run "$BIN/vmm" boot --kernel "$work/fault" --memory 64 --timeout 20
	assert_failure 1
	assert_output_has "triple fault"
}

@test "a guest that floods its serial port ends at its time, and costs no more than the limits" {
	require_hardware
	# mov $0x3f8,%edx; mov $0x1000000,%esi; mov $0x1000,%ecx; cld; rep outsb; jmp to the second one
	make_pvh_kernel "$work/flood" baf8030000be00000001b900100000fcf36eebf1
	# The console is a pipe that nobody reads.
	run python3 - "$work" "$BIN/vmm" boot --kernel "$work/flood" --memory 64 --timeout 20 --vsock "$work/v.sock" <<-'END'
		import fcntl, os, re, socket, subprocess, sys, time
		work, command = sys.argv[1], sys.argv[2:]
		console, end = os.pipe()
		fcntl.fcntl(end, 1031, 4096)  # F_SETPIPE_SZ
		vmm = subprocess.Popen(command, stdout=end, stderr=subprocess.PIPE, text=True)
		os.close(end)
		while not os.path.exists(work + "/v.sock") and vmm.poll() is None:
		    time.sleep(0.1)
		time.sleep(15)
		# The thread that serves the devices still answers: this guest has no driver to be called.
		client = socket.socket(socket.AF_UNIX)
		client.settimeout(60)
		client.connect(work + "/v.sock")
		client.sendall(b"CONNECT 1\n")
		print("answer:", client.recv(100))
		print("running:", vmm.poll() is None)
		status = open(f"/proc/{vmm.pid}/status").read()
		print("megabytes:", int(re.search("VmHWM:\\s*(\\d+)", status)[1]) >> 10)
		print(vmm.communicate()[1], "status:", vmm.returncode)
	END
	assert_success
	assert_output_has "answer: b''" "running: True" "status: 1" "was not done within 20 s: stopped" \
		"bytes of the console were dropped"
	[ "$(sed -n 's/^megabytes: //p' <<<"$output")" -lt 32 ] || fail "it took memory"
	[ ! -e "$work/v.sock" ] || fail "its socket is left"
	# A file takes all that comes: so much at once, and so much a second from then on.
	# shellcheck disable=SC2016 # for that shell
	run bash -c '"$@" >"$0"' "$work/console" "$BIN/vmm" boot --kernel "$work/flood" --memory 64 --timeout 3
	assert_failure 1
	[ "$(stat -c %s "$work/console")" -gt 4096 ] || fail "nothing came through"
	[ "$(stat -c %s "$work/console")" -lt $(((1 << 20) + 5 * (256 << 10))) ] || fail "all of it came through"
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
