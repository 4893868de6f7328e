#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# rootfs.bats - images for kernel guests: from packages, a directory, an OCI image; and a boot of one
#
# The boot is in plain QEMU without KVM, so that it shows the kernel, the initramfs, the agent and the
# image on any machine, whatever the vmm does.

# shellcheck disable=SC2154 # bats sets status, output and lines

bats_require_minimum_version 1.5.0
load common

build_rootfs=$ROOT/scripts/build-rootfs
build_initramfs=$ROOT/scripts/build-initramfs
kernel=$ROOT/build/kernel

setup() {
	[ -z "${HWKVM:-}" ] || skip "images are made outside of the emulated host"
	if ! has_command mkfs.erofs || ! has_command mmdebstrap; then
		skip "what makes images is not installed: run scripts/setup kernel"
	fi
	cd "$BATS_TEST_TMPDIR" || return
}

# require_kernel - skip where the guests' kernel is not unpacked
require_kernel() {
	[ -e "$kernel/vmlinuz" ] || skip "no kernel for guests here: run scripts/setup kernel"
	require_programs agent
}

# listing IMAGE - its files, one path a line
listing() {
	dump.erofs -S "$1" >/dev/null || return
	fsck.erofs --extract=unpacked "$1" >/dev/null && (cd unpacked && find . | LC_ALL=C sort)
}

write_tree() {
	mkdir -p "$1/bin" "$1/empty"
	echo data >"$1/file"
	echo '#!/bin/sh' >"$1/bin/script"
	chmod 750 "$1/bin/script"
	ln -s /file "$1/bin/link"
	find "$1" -exec touch -h -d 2020-02-02 {} +
}

@test "each has --help, and wrong usage is exit status 2" {
	for script in "$build_rootfs" "$build_initramfs" "$ROOT/scripts/kernel-modules"; do
		run "$script" --help
		assert_success
		assert_output_has "usage: scripts/${script##*/}"
		run "$script" --nonsense
		assert_failure 2
	done
	run "$build_rootfs" --dir . --empty 3 out
	assert_failure 2
	run "$build_rootfs" --dir .
	assert_failure 2
}

@test "what is missing is said, and nothing is left" {
	mkdir out
	run "$build_rootfs" --dir nowhere out/a
	assert_failure 1
	assert_output_has "there is no directory nowhere"
	run "$build_rootfs" --packages nowhere out/a
	assert_failure 1
	assert_output_has "cannot read the list of packages nowhere"
	echo "# nothing" >list
	run "$build_rootfs" --packages list out/a
	assert_failure 1
	assert_output_has "list names no package"
	run "$build_rootfs" --oci . out/a
	assert_failure 1
	assert_output_has "no OCI image layout"
	run "$build_rootfs" --empty many out/a
	assert_failure 1
	run "$build_rootfs" --dir . --add nowhere:/x out/a
	assert_failure 1
	assert_output_has "there is no nowhere"
	run "$build_initramfs" --kernel . out/a
	assert_failure 1
	assert_output_has "run scripts/setup kernel"
	run ls out
	assert_equal "$output" ""
}

@test "a directory: the same files give the same bytes, wherever they are" {
	write_tree a
	mkdir deep
	cp -a a deep/b
	run "$build_rootfs" --dir a --add a/file:/opt/added one
	assert_success
	"$build_rootfs" --dir deep/b --add deep/b/file:/opt/added two
	cmp one two
	run listing one
	assert_success
	assert_output_has ./bin/link ./bin/script ./empty ./opt/added
	assert_equal "$(readlink unpacked/bin/link)" /file
	assert_equal "$(stat -c %a unpacked/bin/script)" 750
	assert_equal "$(cat unpacked/opt/added)" data
	"$build_rootfs" --compress --dir a compressed
	fsck.erofs compressed
}

@test "a directory: without root it is the same image" {
	[ "$(id -u)" = 0 ] || skip "only root can be somebody else"
	has_command fakeroot || skip "fakeroot is not installed"
	open=$(mktemp -d /tmp/quickthaw-rootfs.XXXXXX)
	chmod 777 "$open"
	write_tree "$open/a"
	"$build_rootfs" --dir "$open/a" root-made
	chown -R 65534:65534 "$open/a"
	run env -C / setpriv --reuid 65534 --regid 65534 --clear-groups \
		"$build_rootfs" --dir "$open/a" "$open/image"
	cmp root-made "$open/image" || same=no
	rm -rf "$open"
	[[ $output != *"$build_rootfs: Permission denied"* ]] ||
		skip "another user cannot reach this tree"
	assert_success
	assert_equal "${same:-yes}" yes
}

@test "an empty disk: ext4, always the same" {
	"$build_rootfs" --empty 16 one
	"$build_rootfs" --empty 16 two
	cmp one two
	e2fsck -fn one
	assert_equal "$(stat -c %s one)" $((16 << 20))
}

@test "an OCI image: layers, whiteouts and hard links; the same in any compression" {
	for compression in none gzip zstd; do
		python3 "$BATS_TEST_DIRNAME/oci_make.py" plain "$compression" "oci-$compression"
		run "$build_rootfs" --oci "oci-$compression" "$compression"
		assert_success
	done
	cmp none gzip
	cmp none zstd
	run listing none
	assert_success
	assert_output_has ./etc/kept ./etc/replaced ./opaque/new ./usr/bin/tool
	[ ! -e unpacked/etc/removed ]
	[ ! -e unpacked/opaque/old ]
	[ ! -e unpacked/etc/.wh.removed ]
	assert_equal "$(cat unpacked/etc/replaced)" "second"
	assert_equal "$(cat unpacked/usr/bin/same)" "tool"
}

@test "an OCI image that is hostile or damaged is refused, and nothing outside is touched" {
	for kind in parent symlink digest missing hardlink; do
		python3 "$BATS_TEST_DIRNAME/oci_make.py" "$kind" gzip "oci-$kind"
		run "$build_rootfs" --oci "oci-$kind" image
		assert_failure 1
		assert_output_has "flatten-oci: oci-$kind:"
		[ ! -e image ]
	done
	[ ! -e /tmp/quickthaw-escaped ]
}

@test "an OCI image: what a later layer does to one name of a file is not done to the other" {
	for kind in replaced removed; do
		python3 "$BATS_TEST_DIRNAME/oci_make.py" "$kind" none "oci-$kind"
		run "$build_rootfs" --oci "oci-$kind" image
		assert_success
		rm -rf unpacked
		run listing image
		assert_success
		assert_equal "$(cat unpacked/usr/bin/same)" tool
		assert_equal "$(cat unpacked/usr/bin/tool 2>/dev/null)" \
			"$([ "$kind" = removed ] || echo another)"
	done
}

@test "an OCI image: where its links lead is inside of it, also for what is added" {
	mkdir outside more more/deep
	echo mine >outside/file
	echo added >more/file
	echo added >more/deep/file
	python3 "$BATS_TEST_DIRNAME/oci_make.py" outside none oci
	run "$build_rootfs" --oci oci --add more:/opt/more --add more/file:/opt/lib/one --add more:/srv image
	assert_success
	assert_equal "$(cd outside && find . -type f -exec cat {} + && find . | sort | xargs)" \
		$'mine\n. ./file'
	run listing image
	assert_success
	assert_output_has ".$PWD/outside/more/deep/file" ".$PWD/outside/lib/one" ".$PWD/outside/task" \
		./srv/deep/file
	assert_equal "$(cat unpacked/srv/file)" added
	python3 "$BATS_TEST_DIRNAME/oci_make.py" circle none oci-circle
	run "$build_rootfs" --oci oci-circle --add more:/opt/more image-circle
	assert_failure 1
	assert_output_has "/opt/more is behind too many symbolic links"
	[ ! -e image-circle ]
}

@test "packages: installed with what they depend on, always the same" {
	curl -sfI --max-time 20 http://deb.debian.org/debian/dists/bookworm/Release >/dev/null ||
		skip "Debian's mirror cannot be reached from here"
	echo "netbase # the smallest package that has a file to look for" >list
	run "$build_rootfs" --packages list one
	assert_success
	"$build_rootfs" --packages list two
	cmp one two
	run listing one
	assert_success
	assert_output_has ./etc/services ./usr/bin/bash ./var/task ./usr/share/doc/netbase/copyright
	[ ! -e unpacked/usr/share/man ]
}

@test "an initramfs: the agent and the modules, always the same" {
	require_kernel
	"$build_initramfs" one
	sleep 1 # the clock is not part of it
	"$build_initramfs" two
	cmp one two
	run cpio -it --quiet <one
	assert_output_has init modules/order modules/virtio_blk.ko modules/erofs.ko modules/overlay.ko \
		modules/vmw_vsock_virtio_transport.ko
}

@test "bench boots, captures and restores kernel guests in QEMU, without KVM too" {
	require_kernel
	require_programs bench
	has_command qemu-system-x86_64 || skip "QEMU is not installed: run scripts/setup hwkvm"
	[ -e "$kernel/python.erofs" ] && [ -e "$kernel/hello-python.erofs" ] ||
		skip "no images of functions here: make guest-images"
	mkdir -p build
	ln -s "$kernel" build/kernel
	run "$BIN/bench" kernel --tcg --boots 1 --colds 1 --clones 1 --build build --source "$ROOT"
	assert_success
	jq -e '[.rows[] | select(.system == "qemu-microvm")] | length == 6 and all(.p50 > 0)' \
		build/bench/kernel.json
	run ls build/bench
	assert_equal "$output" kernel.json
}

# boot_guest COMMAND... - boot root.erofs in QEMU and let its agent run COMMAND; prints what it printed
boot_guest() {
	timeout 300 python3 "$BATS_TEST_DIRNAME/agent_host.py" --kernel "$kernel/vmlinuz" \
		--initrd initramfs --root root.erofs "${boot_options[@]}" -- "$@"
}

@test "kernel, initramfs, agent and image boot in plain QEMU, and the agent does what it is told" {
	require_kernel
	has_command qemu-system-x86_64 || skip "QEMU is not installed: run scripts/setup hwkvm"
	"$build_initramfs" initramfs
	# A root file system of one program that needs no other.
	gcc -static -O1 -o program "$BATS_TEST_DIRNAME/guest/inside_kernel.c"
	mkdir -p root/bin root/etc task
	cp program root/bin/program
	echo from-image >root/etc/hostname
	echo "the code" >task/code
	"$build_rootfs" --dir root root.erofs
	"$build_rootfs" --dir task task.erofs
	"$build_rootfs" --empty 16 upper.ext4
	boot_options=(--task task.erofs)
	run boot_guest /bin/program
	assert_success
	assert_output_has "hostname from-image" "task: the code" "root is writable" "tmp is writable" \
		"loopback is up" "exited 0" "prepared" "resumed: clock within 1 s" \
		"hostname clone-1" "no machine is left"
	boot_options=(--task task.erofs --upper upper.ext4)
	run boot_guest /bin/program
	assert_success
	assert_output_has "root is writable" "exited 0"
	debugfs -R "cat /data/written" upper.ext4 2>/dev/null | grep -q "by the guest"
}
