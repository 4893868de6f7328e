#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# hosts.bats - the emulated hardware-KVM host runs commands as if they ran here

# shellcheck disable=SC2016 # what is in single quotes is for the shell of the emulated host
# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

bats_require_minimum_version 1.5.0
load common

hwkvm=$ROOT/scripts/hwkvm

setup() {
	[ -z "${HWKVM:-}" ] || skip "this is the emulated host itself"
	if ! has_command qemu-system-x86_64 || [ ! -d "$ROOT/build/hwkvm/kernel" ]; then
		skip "the emulated host is not set up: run scripts/setup hwkvm"
	fi
	# A directory of this test's own, so that other runs do not count as what this one left.
	export HWKVM_DIR=$BATS_TEST_TMPDIR/hwkvm
	mkdir "$HWKVM_DIR"
	ln -s "$ROOT/build/hwkvm/kernel" "$ROOT/build/hwkvm/busybox" "$HWKVM_DIR/"
	[ ! -e "$ROOT/build/hwkvm/initrd" ] || ln -s "$ROOT/build/hwkvm/initrd" "$HWKVM_DIR/"
}

# require_host_here - skip where this machine is no host itself: nothing can move from it to another
require_host_here() {
	[ -c /dev/kvm ] || skip "this machine has no virtual machines of its own that could move"
}

no_run_is_left() {
	run compgen -G "$HWKVM_DIR/run.*"
	assert_failure
}

@test "hwkvm: output, exit status, working directory and results come back" {
	out=$BATS_TEST_TMPDIR/out
	cd "$BATS_TEST_TMPDIR"
	echo "a file of the caller" >here
	run --separate-stderr "$hwkvm" --out "$out" -- bash -c '
		cat here; echo "$1"; echo to-stderr >&2; echo lost >here; echo kept >"$HWKVM_OUT/result"; exit 7
	' bash "an argument 'with' \"quotes\" and spaces"
	assert_failure 7
	assert_equal "${lines[0]}" "a file of the caller"
	assert_equal "${lines[1]}" "an argument 'with' \"quotes\" and spaces"
	assert_equal "$stderr" "to-stderr"
	assert_equal "$(cat here)" "a file of the caller"
	assert_equal "$(cat "$out/result")" "kept"
}

@test "hwkvm: a virtual machine runs on its /dev/kvm, and what quickthaw needs is there" {
	# The first guest instructions: mov al, 42; out 0xf4, al; hlt - in real mode.
	cat >"$BATS_TEST_TMPDIR/kvm.c" <<-'END'
		#include <fcntl.h>
		#include <linux/kvm.h>
		#include <stdio.h>
		#include <string.h>
		#include <sys/ioctl.h>
		#include <sys/mman.h>

		int main(void)
		{
			static const unsigned char code[] = {0xb0, 0x2a, 0xe6, 0xf4, 0xf4};
			int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
			int vm = ioctl(kvm, KVM_CREATE_VM, 0);
			void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
			memcpy(page, code, sizeof(code));
			struct kvm_userspace_memory_region slot = {
				.guest_phys_addr = 0x1000,
				.memory_size = 4096,
				.userspace_addr = (unsigned long)page,
			};
			if (kvm < 0 || vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot))
				return 1;
			int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
			struct kvm_run *run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
						   PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
			struct kvm_sregs sregs;
			struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
			if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
				return 2;
			sregs.cs.base = 0;
			sregs.cs.selector = 0;
			if (ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs) ||
			    ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO)
				return 3;
			printf("port %x data %u\n", run->io.port,
			       ((unsigned char *)run)[run->io.data_offset]);
			if (ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_HLT)
				return 4;
			printf("halted\n");
			return 0;
		}
	END
	gcc -o "$BATS_TEST_TMPDIR/kvm" "$BATS_TEST_TMPDIR/kvm.c"
	run "$hwkvm" -- bash -c '
		"$1" && ls /dev/userfaultfd && cat /proc/sys/kernel/io_uring_disabled &&
		cut -d " " -f 1,2 /proc/modules | grep kvm_amd && grep -o -m 1 -w svm /proc/cpuinfo
	' bash "$BATS_TEST_TMPDIR/kvm"
	assert_success
	assert_output_has "port f4 data 42" "halted" "/dev/userfaultfd" "kvm_amd" "svm"
}

@test "hwkvm: a command that takes too long is stopped, and nothing is left" {
	run "$hwkvm" --timeout 2 -- sleep 600
	assert_failure 124
	assert_output_has "took longer than 2 s"
	no_run_is_left
}

@test "hwkvm: killed while it boots, it leaves nothing running" {
	"$hwkvm" -- sleep 600 3>&- &
	pid=$!
	wait_until 10 pgrep -P "$pid" -f qemu-system >/dev/null
	qemu=$(pgrep -P "$pid" -f qemu-system)
	kill -TERM "$pid"
	status=0
	wait "$pid" || status=$?
	assert_failure 143
	[ ! -e "/proc/$qemu" ] || grep -q '^State:.Z' "/proc/$qemu/status"
	no_run_is_left
}

@test "hwkvm: without QEMU it says what to do" {
	mkdir "$BATS_TEST_TMPDIR/bin"
	for tool in bash dirname find; do
		ln -s "$(command -v $tool)" "$BATS_TEST_TMPDIR/bin/"
	done
	PATH=$BATS_TEST_TMPDIR/bin run "$hwkvm" -- true
	assert_failure 2
	assert_output_has "qemu-system-x86_64 is not installed: run scripts/setup hwkvm"
}

@test "hwkvm: without a command it prints its usage" {
	run "$hwkvm"
	assert_failure 2
	assert_output_has "usage: scripts/hwkvm"
}

# write_move_scripts - ./capture FILE and ./restore FILE NAME, to be run on either host
write_move_scripts() {
	cat >capture <<-END
		#!/bin/sh
		exec "$BIN/vmm" run --cpu-baseline x86-64-v3 --task "$EXAMPLES/hello-python" \\
			--runtime "$ROOT/guest" --env _HANDLER=app.handler --env LAMBDA_TASK_ROOT=/var/task \\
			--capture "\$1" -- /usr/bin/python3 /var/runtime/bootstrap.py
	END
	cat >restore <<-END
		#!/bin/sh
		exec "$BIN/vmm" restore --task "$EXAMPLES/hello-python" --runtime "$ROOT/guest" \\
			--invoke "{\"name\": \"\$2\"}" "\$1"
	END
	chmod +x capture restore
}

@test "a snapshot made on this host is restored on hardware KVM, and the other way round" {
	require_host_here
	require_programs vmm
	cd "$BATS_TEST_TMPDIR"
	write_move_scripts
	run ./capture here.qt
	assert_success
	run "$hwkvm" --out "$PWD/out" -- bash -ec '
		"$1/vmm" host
		./restore here.qt there
		./capture there.qt
		cp there.qt "$HWKVM_OUT"
	' bash "$BIN"
	assert_success
	assert_output_has "Hello, there!" "hardware"
	run ./restore out/there.qt "and back"
	assert_success
	assert_output_has "Hello, and back!"
}

# write_serve_script DIR - ./serve publish NAME and ./serve invoke NAME WHO, with a snapd that has its
# state in DIR; to be run on either host
write_serve_script() {
	{
		printf '#!/bin/bash\nset -e\nexport BATS_TEST_DIRNAME=%q BUILD=%q SNAPD_DIR=%q\n' \
			"$BATS_TEST_DIRNAME" "${BUILD:-build}" "$1"
		cat <<-'END'
			. "$BATS_TEST_DIRNAME/common.bash"
			start_snapd --cpu-baseline x86-64-v3
			trap stop_snapd EXIT
			case $1 in
			publish) snapctl deploy "$2" --dir "$EXAMPLES/hello-python" --timeout 30 --publish ;;
			invoke) snapctl invoke "$2" "{\"name\": \"$3\"}" ;;
			esac
		END
	} >serve
	chmod +x serve
}

@test "what snapd publishes on this host it restores on hardware KVM, and the other way round" {
	require_host_here
	require_root
	require_programs snapd snapctl vmm
	cd "$BATS_TEST_TMPDIR"
	export SNAPD_DIR=$BATS_TEST_TMPDIR/q
	mkdir "$SNAPD_DIR"
	write_serve_script "$SNAPD_DIR"
	run ./serve publish here
	assert_success
	run "$hwkvm" --out "$PWD/out" -- bash -ec '
		./serve invoke here there
		./serve publish there
		cp -a "$1/state/functions/there" "$HWKVM_OUT"
	' bash "$SNAPD_DIR"
	assert_success
	assert_output_has "cold-restore" "Hello, there!"
	cp -a out/there "$SNAPD_DIR/state/functions/"
	run ./serve invoke there "and back"
	assert_success
	assert_output_has "cold-restore" "Hello, and back!"
}
