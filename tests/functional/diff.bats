#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# diff.bats - diff snapshots of process guests: chains of Python state, flattened, with bases gone or changed

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

bats_require_minimum_version 1.5.0
load common

setup() {
	require_kvm
	require_programs vmm snapshot
	PATH=$BIN:$PATH
	mkdir "$BATS_TEST_TMPDIR/task" "$BATS_TEST_TMPDIR/snapshots"
	task=$BATS_TEST_TMPDIR/task
	cd "$BATS_TEST_TMPDIR/snapshots" || return
	# What it was told stays: in objects, in memory of another kind, and in a file.
	cat >"$task/app.py" <<-'END'
		import zlib
		calls, blob = [], bytearray()

		def handler(event, context):
		    calls.append(event["n"])
		    blob.extend(bytes(range(256)) * 64)
		    with open("/tmp/calls", "a") as f:
		        f.write(event["n"] + "\n")
		    if event.get("forget"):
		        blob.clear()
		    with open("/tmp/calls") as f:
		        return {"calls": calls, "blob": zlib.crc32(blob), "file": f.read().split()}
	END
}

teardown() {
	remove_snapd
	if [ -n "${small_disk:-}" ]; then
		umount "$small_disk"
	fi
}

# capture FILE - the function, before its first call
capture() {
	vmm run --task "$task" --runtime "$ROOT/guest" --env _HANDLER=app.handler \
		--env PYTHONDONTWRITEBYTECODE=1 --capture "$1" -- /usr/bin/python3 /var/runtime/bootstrap.py
}

# restore FILE OPTION... - a clone of it
restore() {
	vmm restore "$1" --task "$task" --runtime "$ROOT/guest" "${@:2}"
}

# make_chain - a.qt, b.qt after one call, c.qt after two
make_chain() {
	capture a.qt
	restore a.qt --invoke '{"n": "one"}' --capture b.qt --diff
	restore b.qt --invoke '{"n": "two"}' --capture c.qt --diff
}

# assert_calls FILE NAME... - a clone of it that is called once more has seen these
assert_calls() {
	local file=$1 calls
	shift
	calls=$(printf '"%s", ' "$@")
	run --separate-stderr restore "$file" --invoke "{\"n\": \"${*: -1}\"}"
	assert_success
	assert_output_has "{\"calls\": [${calls%, }]" "\"file\": [${calls%, }]"
}

@test "a chain of three: each goes on from its own state, and so does one file made of it" {
	make_chain
	assert_calls a.qt other
	assert_calls b.qt one other
	assert_calls c.qt one two three
	local answer=$output
	run snapshot flatten c.qt flat.qt
	assert_success
	run snapshot diff c.qt flat.qt
	assert_success
	assert_calls flat.qt one two three
	assert_equal "$output" "$answer"
	# A diff on what was flattened, and the middle of a chain in one file.
	restore flat.qt --invoke '{"n": "flat"}' --capture d.qt --diff
	assert_calls d.qt one two flat three
	snapshot flatten b.qt b-flat.qt
	mv b-flat.qt b.qt
	rm a.qt
	assert_calls c.qt one two three
}

@test "a diff has the memory of a whole snapshot, pages that became zero too, and is small" {
	make_chain
	restore c.qt --invoke '{"n": "three", "forget": true}' --capture d.qt --diff
	# The same call in a clone of its own touches the same pages, but for what is of the moment.
	restore c.qt --invoke '{"n": "three", "forget": true}' --capture whole.qt
	snapshot info --json d.qt >d.json
	snapshot info --json whole.qt >whole.json
	run python3 -c '
import json
d, whole = json.load(open("d.json")), json.load(open("whole.json"))
stored = d["page_bytes"] // 4096
print(stored, "pages stored,", d["base_pages"], "in bases, of", whole["page_bytes"] // 4096)
assert len(d["files"]) == 4 and d["base_pages"] > 5 * stored
assert abs(stored + d["base_pages"] - whole["page_bytes"] // 4096) <= whole["page_bytes"] // 4096 // 50
assert d["file_bytes"] * 5 < whole["file_bytes"], "a diff of %d bytes" % d["file_bytes"]
'
	assert_success
	# Nothing happened in between: an empty diff, but for what a restore itself writes.
	restore c.qt --capture same.qt --diff
	run snapshot info same.qt
	assert_success
	run -1 snapshot diff c.qt same.qt
	assert_output_has "0 only in c.qt, 0 only in same.qt"
}

@test "as many files as can be; one more is refused, and flatten helps" {
	capture 0.qt
	local i
	for i in 1 2 3 4 5 6 7; do
		restore "$((i - 1)).qt" --invoke "{\"n\": \"$i\"}" --capture "$i.qt" --diff
	done
	assert_calls 7.qt 1 2 3 4 5 6 7 8
	run restore 7.qt --capture 8.qt --diff
	assert_failure 1
	assert_output_has "7.qt is of 8 files already" "snapshot flatten"
	[ ! -e 8.qt ] || fail "8.qt is there"
	snapshot flatten 7.qt flat.qt
	restore flat.qt --invoke '{"n": "8"}' --capture 8.qt --diff
	assert_calls 8.qt 1 2 3 4 5 6 7 8 9
}

@test "a base that is gone, another, damaged, or of another kind: both files are named" {
	make_chain
	mv a.qt away.qt
	run restore c.qt --invoke '{"n": "x"}'
	assert_failure 1
	assert_output_has "b.qt: base at offset" "it is a diff on a.qt: No such file or directory: put that file beside it"
	capture a.qt
	run restore c.qt --invoke '{"n": "x"}'
	assert_failure 1
	assert_output_has "a.qt is another snapshot than the one this was made on" "capture again"
	head -c 100000 away.qt >a.qt
	run restore c.qt --invoke '{"n": "x"}'
	assert_failure 1
	assert_output_has "a.qt: header at offset 32: says" "cut short"
	rm a.qt
	mkfifo a.qt
	run timeout 20 "$BIN/vmm" restore c.qt --invoke '{"n": "x"}'
	assert_failure 1
	assert_output_has "a.qt: file at offset 0: not a regular file"
	rm a.qt
	ln away.qt a.qt
	assert_calls c.qt one two three
}

@test "a diff is never written over what it needs, nor away from it, nor without a base" {
	make_chain
	local sums file
	sums=$(sha256sum ./*.qt)
	for file in a.qt b.qt c.qt "$PWD/a.qt"; do
		run restore c.qt --capture "$file" --diff
		assert_failure 1
		assert_output_has "is a file that the diff would need"
	done
	run restore c.qt --capture "$BATS_TEST_TMPDIR/d.qt" --diff
	assert_failure 1
	assert_output_has "a diff on c.qt, so it has to be in the same directory"
	assert_equal "$(sha256sum ./*.qt)" "$sums"
	run restore a.qt --diff
	assert_failure
	assert_output_has "--capture FILE"
	run vmm run --diff --capture x.qt -- /bin/true
	assert_failure
	assert_output_has "only what was restored has a base"
	# Another directory, by whatever name, is the same one.
	restore "$PWD/c.qt" --capture ../snapshots/d.qt --diff
	assert_calls d.qt one two three
}

@test "a full disk under a diff, or under flatten: an error, the old file untouched, no temporary file" {
	require_root
	small_disk=$BATS_TEST_TMPDIR/disk
	mkdir "$small_disk"
	mount -t tmpfs -o size=16m none "$small_disk"
	cd "$small_disk"
	make_chain
	local sums
	sums=$(sha256sum ./*.qt)
	head -c $(($(stat -f -c %a .) * 4096 - 16384)) /dev/zero >filler
	run restore c.qt --invoke '{"n": "three"}' --capture d.qt --diff
	assert_failure 1
	assert_output_has "d.qt: No space left on device"
	run snapshot flatten c.qt flat.qt
	assert_failure 2
	assert_output_has "flat.qt: " "No space left on device"
	assert_equal "$(sha256sum ./*.qt)" "$sums"
	assert_equal "$(find . -type f | wc -l)" 4
	cd /
}

@test "kill -9 of a capture and of flatten leaves no half snapshot under the name" {
	make_chain
	local delay
	for delay in 0.02 0.05 0.1 0.2 0.4; do
		timeout -s KILL "$delay" "$BIN/vmm" restore c.qt --task "$task" --capture d.qt --diff || true
		timeout -s KILL "$delay" "$BIN/snapshot" flatten c.qt flat.qt || true
		for file in d.qt flat.qt; do
			[ ! -e "$file" ] || snapshot verify "$file"
		done
		rm -f d.qt flat.qt
	done
	assert_calls c.qt one two three
}

@test "snapd serves a version whose snapshot is a diff: cold, resident, recorded, handed over, after a restart" {
	require_root
	require_programs snapd snapctl
	load invoke
	start_snapd
	deploy calls "$task" --memory 256
	publish calls
	stop_snapd
	# shellcheck disable=SC2153 # common.bash sets it
	local version=$SNAPD_DIR/state/functions/calls/versions/1
	cd "$version"
	mv snapshot.qt base.qt
	vmm restore base.qt --task package/tree --runtime "$ROOT/guest" --memory 256 --invoke '{"n": "made"}' \
		--capture snapshot.qt --diff
	start_snapd
	local kind
	for kind in cold cold resident resident; do
		invoke calls "{\"n\": \"$kind\"}" --header "X-Quickthaw-Start: $kind"
		assert_fine
		assert_equal "$(value 'v["calls"]')" "[\"made\", \"$kind\"]"
	done
	wait_until $((20 * SLOW)) grep -q "record: calls:1: working set of" "$SNAPD_LOG"
	run snapshot info snapshot.qt
	assert_success
	assert_output_has "based on      base.qt" "identity"
	run snapshot verify snapshot.qt
	assert_success
	# The next snapd gets the template, which was filled from files that are chains.
	setpriv --pdeathsig TERM "$BIN/snapd" --take-over --state "$SNAPD_DIR/state" --socket "$SNAPD_SOCKET" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest" </dev/null >>"$SNAPD_LOG" 2>&1 3>&- &
	export SNAPD_PID=$!
	wait_until 20 grep -q "take-over: another snapd serves" "$SNAPD_LOG" || fail "nobody takes over"
	grep -q "and 1 templates were taken over" "$SNAPD_LOG" || fail "the template is lost"
	invoke calls '{"n": "next"}' --header "X-Quickthaw-Start: resident"
	assert_fine
	assert_equal "$(value 'v["calls"]')" '["made", "next"]'
	stop_snapd
	start_snapd
	invoke calls '{"n": "again"}' --header "X-Quickthaw-Start: cold"
	assert_fine
	assert_equal "$(value 'v["calls"]')" '["made", "again"]'
	rm base.qt
	stop_snapd
	start_snapd
	invoke calls '{"n": "gone"}'
	grep "base.qt" "$SNAPD_LOG" || fail "the log does not name the base"
}
