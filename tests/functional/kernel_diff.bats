#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# kernel_diff.bats - diff snapshots of kernel guests: a function's layer on its runtime's base, and on that

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

images=$ROOT/build/kernel

setup() {
	require_kvm
	require_programs vmm snapshot
	[[ $("$BIN/vmm" host) == *hardware* ]] ||
		skip "this host is of the kind PVM, which runs no whole kernel"
	[ -z "${HWKVM:-}" ] || [ "$(nproc)" = 1 ] ||
		skip "an emulated host with several CPUs loses their guests: --cpus 1"
	local image
	for image in vmlinuz initramfs python.erofs; do
		[ -e "$images/$image" ] || skip "no $images/$image: see docs/hacking.md, kernel guests"
	done
	cd "$BATS_TEST_TMPDIR" || return
}

# restore FILE OPTION... [-- PROGRAM...] - a clone of it
restore() {
	"$BIN/vmm" restore "$1" --disk "$images/python.erofs:ro" --serial none --timeout $((15 * SLOW)) "${@:2}"
}

# A runtime with a function that remembers its calls.
# shellcheck disable=SC2016 # for the guest's shell
program='printf "calls = []\ndef handler(event, context):\n    calls.append(event[\"n\"])\n    return {\"calls\": calls}\n" >/tmp/app.py
exec /usr/bin/python3 /var/runtime/bootstrap.py'

@test "a chain of three in a Debian guest: the runtime's base, a function on it, and that after a call" {
	run "$BIN/vmm" boot --kernel "$images/vmlinuz" --initrd "$images/initramfs" --memory 256 \
		--disk "$images/python.erofs:ro" --cmdline "console=ttyS0 panic=-1 pci=off quiet" \
		--serial none --timeout $((15 * SLOW)) --capture base.qt
	assert_success
	run restore base.qt --env _HANDLER=app.handler --env LAMBDA_TASK_ROOT=/tmp \
		--invoke '{"n": "one"}' --capture function.qt --diff -- /bin/sh -c "$program"
	assert_success
	assert_output_has '{"calls": ["one"]}' "as in base.qt"
	run restore function.qt --invoke '{"n": "two"}' --capture called.qt --diff
	assert_success
	assert_output_has '{"calls": ["one", "two"]}' "as in function.qt"
	ls -l ./*.qt
	[ "$(stat -c %s called.qt)" -lt "$(($(stat -c %s base.qt) / 4))" ] ||
		fail "the diff after one call is over a quarter of the base"

	# Each of the three goes on from where it was captured.
	run restore called.qt --invoke '{"n": "three"}'
	assert_success
	assert_output_has '{"calls": ["one", "two", "three"]}'
	run restore function.qt --invoke '{"n": "other"}'
	assert_success
	assert_output_has '{"calls": ["one", "other"]}'
	run "$BIN/snapshot" verify called.qt
	assert_success
	assert_output_has "in 3 files"

	# One file without a base is the same guest.
	run "$BIN/snapshot" flatten called.qt flat.qt
	assert_success
	run "$BIN/snapshot" diff called.qt flat.qt
	assert_success
	rm base.qt function.qt called.qt
	run restore flat.qt --invoke '{"n": "flat"}'
	assert_success
	assert_output_has '{"calls": ["one", "two", "flat"]}'
}

@test "a base without a function: one that is restored from it has its code in a drive that was empty" {
	mkdir code
	printf 'def handler(event, context):\n    return {"of": "%s"}\n' "its own disk" >code/app.py
	"$ROOT/scripts/build-rootfs" --dir code code.erofs
	run "$BIN/vmm" boot --kernel "$images/vmlinuz" --initrd "$images/initramfs" --memory 256 \
		--disk "$images/python.erofs:ro" --disk none --serial none --timeout $((15 * SLOW)) --capture base.qt \
		--cmdline "console=ttyS0 panic=-1 pci=off quiet agent.task=/dev/vdb"
	assert_success
	run restore base.qt --disk code.erofs:ro --env _HANDLER=app.handler --env LAMBDA_TASK_ROOT=/var/task \
		--invoke '{}' --capture function.qt --diff -- /usr/bin/python3 /var/runtime/bootstrap.py
	assert_success
	assert_output_has '{"of": "its own disk"}'
	run restore function.qt --disk code.erofs:ro --invoke '{}'
	assert_success
	assert_output_has '{"of": "its own disk"}'
	# From then on it is that disk or none.
	run restore function.qt --disk none --invoke '{}'
	assert_failure 1
	assert_output_has "disk none: 0 bytes" "at the capture it was 4096 bytes"
	# A program that is not to be found, and a drive in which nothing comes.
	run restore base.qt --disk code.erofs:ro -- /no/such/program
	assert_failure 1
	assert_output_has "could not be started: No such file or directory"
	run restore base.qt --disk none -- /bin/true
	assert_failure 1
	assert_output_has "could not be started: No medium found"
}

@test "a guest that runs a program is given no other" {
	run "$BIN/vmm" boot --kernel "$images/vmlinuz" --initrd "$images/initramfs" --memory 256 \
		--disk "$images/python.erofs:ro" --cmdline "console=ttyS0 panic=-1 pci=off quiet" \
		--serial none --timeout $((15 * SLOW)) --capture busy.qt --env _HANDLER=app.handler \
		--env LAMBDA_TASK_ROOT=/tmp -- /bin/sh -c "$program"
	assert_success
	run restore busy.qt -- /bin/true
	assert_failure 1
	assert_output_has "busy.qt: its guest runs a program already"
}
