#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# manuals.bats - what programs accept, what --help says and what manual pages say are the same

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

setup() {
	require_programs vmm snapd snapctl snapshot bench
}

# long_options - every --option in standard input, one a line
long_options() {
	grep -oE -e '--[a-z][a-z-]+' | sort -u
}

# commands_of PROGRAM - the commands that have a --help of their own
commands_of() {
	case $1 in
	snapctl) echo deploy publish invoke list logs warm rm events ;;
	snapshot) echo info verify pages diff ;;
	esac
}

# help_of PROGRAM - all of its help
help_of() {
	local command
	"$BIN/$1" --help || return
	for command in $(commands_of "$1"); do
		"$BIN/$1" "$command" --help || return
	done
}

page_of() {
	local page
	for page in "$ROOT/docs/man/$1".[1-8]; do
		[ ! -f "$page" ] || sed 's/\\-/-/g; s/\\f[A-Z]//g' "$page"
	done
}

# accepted_by PROGRAM - the long options in its tables
accepted_by() {
	local files
	case $1 in
	vmm) files=$ROOT/vmm/options.c ;;
	snapd) # its table makes --help too; examples/snapd.conf has all of its keys (test_config)
		sed -n 's/^#\([a-z-]*\) =.*/--\1/p' "$ROOT/examples/snapd.conf" | sort -u
		return
		;;
	snapctl) files=$(echo "$ROOT"/snapd/snapctl/*.[ch]) ;;
	snapshot) files=$(grep -l getopt_long "$ROOT"/snapshot-format/*.c) ;;
	bench) files=$ROOT/bench/main.c ;;
	esac
	# shellcheck disable=SC2086 # a list
	grep -hoE '"[a-z-]+", *(required_argument|no_argument|optional_argument)' $files |
		sed 's/^"\([a-z-]*\)".*/--\1/' | sort -u
}

@test "every program's help begins with its usage, and an unknown option exits 2" {
	local program
	for program in vmm snapd snapctl snapshot bench; do
		run "$BIN/$program" --help
		assert_success
		[[ ${output,,} == usage:* ]] || fail "$program: the help does not begin with its usage"
		assert_output_has "--help"
		run "$BIN/$program" --nonsense
		assert_failure 2
		assert_output_has "$program"
	done
}

@test "options in --help and in the manual page are the same, for every program" {
	local program
	for program in vmm snapd snapctl snapshot bench; do
		help_of "$program" | long_options >"$BATS_TEST_TMPDIR/help"
		page_of "$program" | long_options >"$BATS_TEST_TMPDIR/page"
		[ -s "$BATS_TEST_TMPDIR/help" ] || fail "$program --help names no option"
		output=$(diff "$BATS_TEST_TMPDIR/help" "$BATS_TEST_TMPDIR/page") ||
			fail "$program: options in --help (<) and its manual page (>) differ"
	done
}

@test "options that programs accept are all in --help" {
	local program
	for program in vmm snapd snapctl snapshot bench; do
		help_of "$program" | long_options >"$BATS_TEST_TMPDIR/help"
		accepted_by "$program" >"$BATS_TEST_TMPDIR/accepted"
		[ -s "$BATS_TEST_TMPDIR/accepted" ] || fail "$program: its table of options was not found"
		output=$(comm -23 "$BATS_TEST_TMPDIR/accepted" "$BATS_TEST_TMPDIR/help")
		[ -z "$output" ] || fail "$program: accepted, but not in --help"
	done
}

@test "manual pages are well-formed" {
	has_command groff || skip "needs groff to check manual pages"
	local page
	for page in "$ROOT"/docs/man/*.[1-8]; do
		run groff -man -Tutf8 -ww -z "$page"
		assert_success
		assert_equal "$output" ""
	done
}

@test "a mistake in snapd's configuration file is named with its line" {
	printf 'keep-warm = 5\nkeep-worm = 5\n' >"$BATS_TEST_TMPDIR/snapd.conf"
	run "$BIN/snapd" --config "$BATS_TEST_TMPDIR/snapd.conf"
	assert_failure 2
	assert_output_has "$BATS_TEST_TMPDIR/snapd.conf:2: unknown key 'keep-worm': did you mean 'keep-warm'?"
}
