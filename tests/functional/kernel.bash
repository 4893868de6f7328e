# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# kernel.bash - kernel guests for tests: of busybox, and of Debian with the agent inside
#
# Each boot of a Debian guest takes many seconds on an emulated host, a restore few: a file's tests
# share one snapshot of a function that does what its event says (functions/does).

# shellcheck disable=SC2154 # common.bash and bats set what is used here
# shellcheck disable=SC2153

images=$ROOT/build/kernel

# why_no_kernels - why a whole kernel cannot run here, or nothing
why_no_kernels() {
	if [ ! -c /dev/kvm ] || ! (exec 9<>/dev/kvm) 2>/dev/null; then
		echo "KVM: /dev/kvm cannot be opened on this host"
	elif [[ $("$BIN/vmm" host) != *hardware* ]]; then
		echo "this host is of the kind PVM, which runs no whole kernel"
	elif [ -n "${HWKVM:-}" ] && [ "$(nproc)" != 1 ]; then
		# QEMU's TCG may deliver an interrupt of a nested guest twice when one of several
		# emulated CPUs is kicked for another's sake, and the guest's kernel hangs.
		echo "an emulated host with several CPUs loses their guests: --cpus 1"
	fi
}

# why_no_images - which of what Debian guests are made of is not there, or nothing
why_no_images() {
	local name
	for name in vmlinuz initramfs python.erofs hello-python.erofs nodejs.erofs; do
		[ -e "$images/$name" ] || echo "no $images/$name: run make guest-images"
	done | head -n 1
}

# require_hardware - skip the test where a whole kernel cannot run
require_hardware() {
	local why
	require_programs vmm snapshot
	why=$(why_no_kernels)
	[ -z "$why" ] || skip "$why"
}

require_images() {
	local why
	require_hardware
	why=$(why_no_images)
	[ -z "$why" ] || skip "$why"
}

# ---------------------------------------------------------------- busybox

# require_busybox - what busybox guests are made of; sets kernel
require_busybox() {
	require_hardware
	# Not the cloud kernel: it has no /dev/port, by which these guests say that they are ready.
	kernel=$(find "$ROOT"/build/hwkvm/kernel/boot -name 'vmlinuz-*' 2>/dev/null | head -n 1)
	[ -n "$kernel" ] || skip "no kernel to boot: run scripts/setup hwkvm"
	[ -x "$ROOT/build/hwkvm/busybox/bin/busybox" ] || skip "no busybox for the guest: run scripts/setup hwkvm"
}

# make_initrd - an initramfs of busybox; its /init is standard input
make_initrd() {
	local root=$work/root
	mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys"
	cp "$ROOT/build/hwkvm/busybox/bin/busybox" "$root/bin/"
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

# make_pvh_kernel FILE CODE - an ELF kernel of one page at 16 MiB, entered by PVH (in 32-bit mode) at its
# start: these bytes, in hexadecimal, and zeros
make_pvh_kernel() {
	python3 - "$@" <<-'END'
		import struct, sys
		note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x1000000)
		head = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x1000000, 64, 0,
		                   0, 64, 56, 2, 0, 0, 0)
		load = struct.pack("<IIQQQQQQ", 1, 5, 0x2000, 0, 0x1000000, 4096, 4096, 4096)
		notes = struct.pack("<IIQQQQQQ", 4, 4, 0x1000, 0, 0, len(note), len(note), 4)
		image = (head + load + notes).ljust(0x1000, b"\0") + note.ljust(0x1000, b"\0")
		open(sys.argv[1], "wb").write(image + bytes.fromhex(sys.argv[2]).ljust(0x1000, b"\0"))
	END
}

# ---------------------------------------------------------------- Debian, with the agent

# boot_debian OPTION... - Debian's cloud kernel with the agent; disks and a program are options
boot_debian() {
	"$BIN/vmm" boot --kernel "$images/vmlinuz" --initrd "$images/initramfs" --memory 256 --serial none \
		--cmdline "console=ttyS0 panic=-1 pci=off quiet agent.task=/dev/vdb" \
		--timeout $((15 * SLOW)) --env PATH=/usr/bin:/bin --env LAMBDA_TASK_ROOT=/var/task "$@"
}

# capture_does OPTION... - for setup_file: the snapshot $BATS_FILE_TMPDIR/does.qt of a function that
# does what its event says, with these devices too
capture_does() {
	[ -z "$(why_no_kernels)$(why_no_images)" ] || return 0
	"$ROOT/scripts/build-rootfs" --dir "$BATS_TEST_DIRNAME/functions/does" "$BATS_FILE_TMPDIR/does.erofs"
	boot_debian --disk "$images/python.erofs:ro" --disk "$BATS_FILE_TMPDIR/does.erofs:ro" "$@" \
		--env _HANDLER=app.handler --env AWS_LAMBDA_INITIALIZATION_TYPE=snap-start \
		--capture "$BATS_FILE_TMPDIR/does.qt" \
		-- /usr/bin/python3 /var/runtime/bootstrap.py
}

# clone OPTION... - a clone of that snapshot that runs standard input, Python; prints what that leaves
# in `result`, as JSON
clone() {
	"$BIN/vmm" restore --disk "$images/python.erofs:ro" --disk "$BATS_FILE_TMPDIR/does.erofs:ro" "$@" \
		--serial none --timeout $((15 * SLOW)) --invoke "$(jq -Rs '{run: .}')" "$BATS_FILE_TMPDIR/does.qt"
}
