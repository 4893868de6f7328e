#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# memory.bats - programs are loaded, and have the memory that Linux would give them

load common

setup_file() {
	load common
	has_command gcc || skip "needs gcc to build guest programs"
	TASK=$BATS_FILE_TMPDIR/task
	mkdir -p "$TASK"
	local source=$BATS_TEST_DIRNAME/guest
	gcc -O1 -o "$TASK/random" "$source/mm_random.c"
	gcc -O1 -o "$TASK/dynamic" "$source/mm_use.c"
	gcc -O1 -no-pie -o "$TASK/fixed" "$source/mm_use.c"
	gcc -O1 -static -o "$TASK/static" "$source/mm_use.c"
	gcc -O1 -static-pie -o "$TASK/static-pie" "$source/mm_use.c"
	export TASK
}

setup() {
	require_kvm
	require_programs vmm
}

# guest MIB PROGRAM [ARG...] - run a program of /var/task with a memory limit
guest() {
	local mib=$1 program=$2
	shift 2
	timeout $((120 * SLOW)) "$BIN/vmm" run --memory "$mib" --task "$TASK" -- "/var/task/$program" "$@"
}

# script NAME LINE... - an executable text file
script() {
	printf '%s\n' "${@:2}" >"$TASK/$1"
	chmod +x "$TASK/$1"
}

@test "random operations on mappings do what Linux does" {
	local seed want
	for seed in 1 2 3; do
		want=$("$TASK/random" 2000 $seed)
		run guest 256 random 2000 $seed
		assert_success
		assert_equal "$output" "$want"
	done
}

@test "static, dynamic, fixed and position-independent programs run" {
	local program
	for program in dynamic fixed static static-pie; do
		run guest 64 $program one "two words" ""
		assert_success
		assert_output_has "0=/var/task/$program" "1=one" "2=two words" "3=" \
			"execfn=/var/task/$program" "secure=0 page=4096 platform=x86_64 random=1"
	done
}

@test "a script runs its interpreter with one argument" {
	script outer "#! /var/task/static   one and only " "text"
	run guest 64 outer a b
	assert_success
	assert_output_has "0=/var/task/static" "1=one and only" "2=/var/task/outer" "3=a" "4=b"
	script nested "#!/var/task/outer" "text"
	run guest 64 nested
	assert_success
	assert_output_has "1=one and only" "2=/var/task/outer" "3=/var/task/nested"
	script loop "#!/var/task/loop" "text"
	run guest 64 loop
	assert_failure
	assert_output_has "scripts run each other"
}

@test "what cannot run is refused with the reason" {
	run guest 64 missing
	assert_failure
	assert_output_has "No such file"
	run guest 64 .
	assert_failure
	echo text >"$TASK/text"
	run guest 64 text
	assert_failure
	assert_output_has "not executable"
	chmod +x "$TASK/text"
	run guest 64 text
	assert_failure
	assert_output_has "neither an ELF program nor a script"
	script nowhere "#!/no/such/interpreter"
	run guest 64 nowhere
	assert_failure
	assert_output_has "/no/such/interpreter: No such file"
	# Class and machine of an ARM64 program, then of a 32-bit one.
	cp "$TASK/static" "$TASK/foreign"
	printf '\xb7' | dd of="$TASK/foreign" bs=1 seek=18 conv=notrunc status=none
	run guest 64 foreign
	assert_failure
	assert_output_has "ARM64 program"
	printf '\x03' | dd of="$TASK/foreign" bs=1 seek=18 conv=notrunc status=none
	run guest 64 foreign
	assert_failure
	assert_output_has "32-bit x86 program"
	head -c 100 "$TASK/static" >"$TASK/foreign"
	run guest 64 foreign
	assert_failure
	assert_output_has "cut short"
}

@test "the memory limit holds, and what is freed can be used again" {
	run guest 64 static fill 60
	assert_success
	assert_output_has "done"
	run guest 64 static fill 66
	assert_failure
	assert_output_has "out of memory"
	run guest 64 static churn 300
	assert_success
	assert_output_has "done"
}

@test "reservations cost nothing until they are touched" {
	run guest 64 static reserve 100
	assert_success
	assert_output_has "done"
}

@test "the stack grows to 8 MiB and no further" {
	run guest 64 static recurse 7000
	assert_success
	assert_output_has "done"
	run guest 64 static recurse 9000
	assert_failure 139
	assert_output_has SEGV
}
