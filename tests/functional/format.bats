#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# format.bats - the snapshot tool, the golden snapshots, and the specification read by another program

bats_require_minimum_version 1.5.0
load common

GOLDEN=$ROOT/tests/golden/version-1.snapshot

setup() {
	require_programs snapshot
	PATH=$BIN:$PATH
	cp "$GOLDEN" "$BATS_TEST_TMPDIR/a.snapshot"
	cd "$BATS_TEST_TMPDIR" || return
}

# poke OFFSET BYTES - overwrite bytes of a.snapshot, given as for printf
poke() {
	# shellcheck disable=SC2059 # the escapes are the point
	printf "$2" | dd of=a.snapshot bs=1 seek="$1" conv=notrunc status=none
}

@test "snapshot and each command have --help" {
	run snapshot --help
	assert_success
	assert_output_has info verify pages diff flatten --json
	for command in info verify pages diff flatten; do
		run snapshot "$command" --help
		assert_success
		assert_output_has "usage: snapshot $command"
	done
}

@test "wrong usage is exit status 2" {
	run snapshot
	assert_failure 2
	run snapshot inspect a.snapshot
	assert_failure 2
	assert_output_has "no command 'inspect'"
	run snapshot info
	assert_failure 2
	run snapshot info missing.snapshot
	assert_failure 2
	assert_output_has "missing.snapshot: No such file or directory"
}

@test "golden snapshot of version 1: info" {
	run snapshot info "$GOLDEN"
	assert_success
	assert_output_has "format version 1" "guest         process" "2023-11-14T22:13:20Z" \
		"256 pages of 4 KiB, 64 in the template, 13 stored" '"function": "golden"'
}

@test "golden snapshot of version 1: verify" {
	for golden in "$ROOT"/tests/golden/*.snapshot; do
		run snapshot verify "$golden"
		assert_success
		assert_output_has "good: "
	done
}

@test "golden snapshot of version 1: pages" {
	run snapshot pages "$GOLDEN"
	assert_success
	assert_output_has "4 hot, 9 cold, 51 zero" "0 |---###-  -          #  "
}

@test "golden diff of version 1: info, pages and verify see the chain" {
	local diff=$ROOT/tests/golden/version-1-diff.snapshot
	run snapshot info "$diff"
	assert_success
	assert_output_has "3 pages stored here, 10 in its bases, 51 zero" "version-1.snapshot, 24576 bytes"
	run snapshot info --json "$diff"
	assert_success
	assert_output_has '"base_pages": 10' '"zero_pages": 51'
	run snapshot pages "$diff"
	assert_success
	assert_output_has "1 hot, 2 cold, 10 in its bases, 51 zero" "0 |===#  =  =          =      "
	run snapshot verify "$diff"
	assert_success
	assert_output_has "good: 7 chunks in 2 files, 13 pages"
}

@test "a diff whose base is missing, changed or damaged: both files are named" {
	cp "$ROOT/tests/golden/version-1-diff.snapshot" d.snapshot
	run snapshot info d.snapshot
	assert_failure 1
	assert_output_has "d.snapshot: base at offset 4160: it is a diff on version-1.snapshot: No such file" \
		"put that file beside it"
	cp d.snapshot version-1.snapshot
	run snapshot verify d.snapshot
	assert_failure 1
	assert_output_has "version-1.snapshot is another snapshot than the one this was made on"
	cp "$GOLDEN" version-1.snapshot
	run snapshot verify d.snapshot
	assert_success
	poke $((0x3001)) '\377'
	cp a.snapshot version-1.snapshot
	run snapshot verify d.snapshot
	assert_failure 1
	assert_output_has "version-1.snapshot: chunk at offset 12288: chunk 2: checksum does not match"
}

@test "flatten: one file with the same memory, working set and metadata" {
	cp "$ROOT/tests/golden/version-1-diff.snapshot" d.snapshot
	cp "$GOLDEN" version-1.snapshot
	run snapshot flatten d.snapshot flat.snapshot
	assert_success
	assert_output_has "flat.snapshot: 2 files as one"
	rm version-1.snapshot
	run snapshot verify flat.snapshot
	assert_success
	assert_output_has "13 pages"
	cp "$GOLDEN" version-1.snapshot
	run snapshot diff d.snapshot flat.snapshot
	assert_success
	assert_output_has "13 same, 0 changed, 0 only" "metadata      same" "working set   same"
	run snapshot flatten --json d.snapshot flat.snapshot
	assert_success
	assert_output_has '"files": 2'
	# A diff on what was flattened takes the new file for the old one.
	mv flat.snapshot d.snapshot
	run snapshot info --json d.snapshot
	assert_success
	assert_output_has "$(snapshot info --json "$ROOT/tests/golden/version-1-diff.snapshot" |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["files"][0]["identity"])')"
}

@test "flatten never touches what it reads, and leaves nothing behind where it cannot write" {
	cp "$ROOT/tests/golden/version-1-diff.snapshot" d.snapshot
	cp "$GOLDEN" version-1.snapshot
	ln -s version-1.snapshot link.snapshot
	for out in d.snapshot version-1.snapshot ./version-1.snapshot link.snapshot; do
		run snapshot flatten d.snapshot "$out"
		assert_failure 2
		assert_output_has "give the new file another name"
	done
	cmp version-1.snapshot "$GOLDEN"
	run snapshot flatten d.snapshot missing/flat.snapshot
	assert_failure 2
	assert_output_has "missing/flat.snapshot: No such file"
	poke $((0x3001)) '\377'
	cp a.snapshot version-1.snapshot
	echo old >flat.snapshot
	run snapshot flatten d.snapshot flat.snapshot
	assert_failure 1
	assert_output_has "version-1.snapshot: chunk at offset"
	assert_equal "$(cat flat.snapshot)" old
	assert_equal "$(find . -name '*tmp*' | wc -l)" 0
}

@test "an independent parser reads the same from a diff" {
	snapshot info --json "$ROOT/tests/golden/version-1-diff.snapshot" >info.json
	snapshot pages --json "$ROOT/tests/golden/version-1-diff.snapshot" >pages.json
	run python3 "$ROOT/tests/functional/format_parser.py" \
		"$ROOT/tests/golden/version-1-diff.snapshot" info.json pages.json
	assert_success
	assert_output_has "pages: same"
}

@test "an independent parser reads the same from the file" {
	snapshot info --json a.snapshot >info.json
	snapshot pages --json a.snapshot >pages.json
	run python3 "$ROOT/tests/functional/format_parser.py" a.snapshot info.json pages.json
	assert_success
}

@test "the worked example of the specification is the golden snapshot" {
	# Lines of the document such as "0x1050  14 00 ...": compared with the file whose name came last, byte for
	# byte.
	local compared=0 offset bytes file=
	while read -r offset bytes; do
		if [ -z "$bytes" ]; then
			file=$ROOT/$offset
			continue
		fi
		assert_equal "$(od -An -v -tx1 -w64 -j "$((offset))" -N "$(wc -w <<<"$bytes")" "$file" | xargs)" "$bytes"
		compared=$((compared + 1))
	done < <(grep -oE '^0x[0-9a-f]{4}  [0-9a-f]{2}( [0-9a-f]{2})*|tests/golden/version-1[-a-z]*\.snapshot' \
		"$ROOT/docs/snapshot-format.md")
	[ "$compared" -ge 20 ] || fail "only $compared lines in the document"
}

@test "damaged chunk: verify names file, chunk and offset, exit status 1" {
	poke $((0x2010)) '\377'
	run snapshot verify a.snapshot
	assert_failure 1
	assert_output_has "a.snapshot: chunk at offset 8192: chunk 0: checksum does not match" \
		"1 of 5 chunks"
	run --separate-stderr snapshot verify --json a.snapshot
	assert_failure 1
	[ "$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["bad"])' "$output")" = 1 ]
}

@test "damaged header and damaged section are refused" {
	poke 48 '\377'
	run snapshot info a.snapshot
	assert_failure 1
	assert_output_has "a.snapshot: header at offset 4080: checksum does not match"
	cp "$GOLDEN" a.snapshot
	poke 4100 '\377'
	run snapshot info a.snapshot
	assert_failure 1
	assert_output_has "a.snapshot: state at offset 4096: checksum does not match"
}

@test "cut, foreign and empty files are refused" {
	truncate -s 20000 a.snapshot
	run snapshot verify a.snapshot
	assert_failure 1
	assert_output_has "it is cut short"
	run snapshot info /bin/ls
	assert_failure 1
	assert_output_has "not a quickthaw snapshot"
	: >a.snapshot
	run snapshot info a.snapshot
	assert_failure 1
	run snapshot info /dev/null
	assert_failure 1
}

@test "diff: 0 for the same, 1 for others" {
	run snapshot diff a.snapshot "$GOLDEN"
	assert_success
	assert_output_has "13 same, 0 changed" "state         same"
	run snapshot diff --json a.snapshot "$GOLDEN"
	assert_success
	assert_output_has '"same": true'
	poke $((0x2010)) '\377'
	run snapshot diff a.snapshot "$GOLDEN"
	assert_failure 1
}
