#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# kernel_snapd.bats - functions that are kernel guests: the same life as process guests have

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common
load invoke
load keeper

KERNELS=$ROOT/build/kernel

setup() {
	require_kvm
	require_root
	require_programs snapd snapctl vmm snapshot
	if [[ $("$BIN/vmm" host) == *hardware* ]]; then
		hardware=1
	else
		hardware=
	fi
}

teardown() {
	if [ -n "${KEEPER_PID:-}" ]; then
		stop_keeper || true
	fi
	remove_snapd
}

# require_images [NAME] - skip where no kernel guest can run
require_images() {
	[ -n "$hardware" ] || skip "this host is of the kind PVM, which runs no whole kernel"
	[ -z "${HWKVM:-}" ] || [ "$(nproc)" = 1 ] ||
		skip "an emulated host with several CPUs loses nested kernels: --cpus 1"
	local image
	for image in vmlinuz initramfs "${1:-python}.erofs"; do
		[ -e "$KERNELS/$image" ] || skip "no $image: run make guest-images"
	done
}

# start_kernels [SNAPD-OPTION...] - a snapd that runs kernel guests
start_kernels() {
	start_snapd --kernel-guests "$KERNELS" --init-timeout 300 --publish-wait 600 --queue-timeout 300 \
		--shells 1 "$@"
}

# deploy_kernel NAME DIRECTORY [SNAPCTL-OPTION...] - and publish it
deploy_kernel() {
	deploy "$1" "$2" --guest kernel --memory 256 "${@:3}"
	publish "$1"
	assert_output_has "published $1:1"
}

# recorded TIMES - has the working set of hello:1 been written so often?
recorded() {
	[ "$(grep -c "record: hello:1: working set" "$SNAPD_LOG")" = "$1" ]
}

# working_set EXPRESSION - in jq's words, of the working set of hello:1
working_set() {
	# shellcheck disable=SC2153 # start_snapd sets it
	"$BIN/snapshot" pages --json "$SNAPD_DIR/state/functions/hello/versions/1/snapshot.qt" | jq ".working_set | $1"
}

# bases - the runtimes' bases that there are, one a line
bases() {
	find "$SNAPD_DIR/state/bases" -name '*.qt' -printf '%f\n'
}

# base_boots - how many bases were booted since snapd's log began
base_boots() {
	grep -c "info: base .*: booted in" "$SNAPD_LOG" || true
}

# version_dir FUNCTION [NUMBER] - where a version is kept
version_dir() {
	echo "$SNAPD_DIR/state/functions/$1/versions/${2:-1}"
}

no_vmm_of() {
	[ -z "$(http GET /quickthaw/v1/stats | jq -r --arg f "$1" '.Instances[] | select(.FunctionName == $f) | .Id')" ]
}

# ---------------------------------------------------------------- where they do not run

@test "a node that runs no kernel guests refuses them and says what to do" {
	start_snapd --shells 1
	run snapctl deploy hello --dir "$EXAMPLES/hello-python" --guest kernel --memory 256
	assert_failure 1
	if [ -n "$hardware" ]; then
		assert_output_has "GuestKind kernel" "--kernel-guests" "process guest"
	else
		assert_output_has "GuestKind kernel" "PVM" "use a process guest"
	fi
	run snapctl list
	assert_output_has "nothing is deployed"
	# A function there is cannot become one, and stays as it was.
	deploy hello "$EXAMPLES/hello-python"
	run http PUT "$FUNCTIONS/hello/configuration" --data '{"GuestKind": "kernel", "MemorySize": 256}'
	assert_output_has "GuestKind kernel"
	run snapctl list
	assert_output_has " process "
	assert_equal "$(http_status POST "$FUNCTIONS" --data '{"FunctionName": "x", "Handler": "a.b",
		"GuestKind": "unikernel", "Code": {"Directory": "/"}}')" 400
	invoke hello '{"name": "still"}'
	assert_fine
}

@test "a function that was a kernel guest elsewhere is refused, not tried for ever" {
	start_snapd --shells 1
	deploy hello "$EXAMPLES/hello-python" --memory 256
	stop_snapd
	# shellcheck disable=SC2153 # start_snapd sets it
	sed -i 's/"GuestKind": "process"/"GuestKind": "kernel"/' "$SNAPD_DIR/state/functions/hello/config.json"
	start_snapd --shells 1
	run snapctl list
	assert_output_has " kernel "
	invoke hello '{}'
	assert_equal "$code" 500
	assert_output_has "GuestKind kernel"
	run snapctl publish hello
	assert_failure 1
	assert_output_has "GuestKind kernel"
	run snapctl rm hello
	assert_success
}

@test "a directory without images keeps snapd from starting, by name" {
	[ -n "$hardware" ] || skip "this host is of the kind PVM: the directory is not looked at"
	mkdir "$BATS_TEST_TMPDIR/empty"
	run timeout $((20 * SLOW)) "$BIN/snapd" --state "$BATS_TEST_TMPDIR/state" --socket "$BATS_TEST_TMPDIR/s" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest" --kernel-guests "$BATS_TEST_TMPDIR/empty"
	assert_failure 2
	assert_output_has "vmlinuz" "make guest-images"
}

# ---------------------------------------------------------------- where they do

@test "kernel guest: published, restored cold and resident, kept warm, removed without a trace" {
	require_images
	start_kernels
	deploy_kernel hello "$SAMPLES/machine" --env SETTING=x
	run http GET "$FUNCTIONS/hello"
	assert_output_has '"GuestKind":"kernel"'
	run snapctl list hello
	assert_output_has " kernel "

	invoke hello '{"say": "one"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
	[ "$(header X-Quickthaw-Faults)" -gt 10 ] || fail "memory was not brought in by faults"
	assert_equal "$(value 'v["cpus"]')" 1
	assert_equal "$(value 'v["setting"]')" x
	assert_equal "$(value 'v["version"]')" 1
	assert_equal "$(value 'v["opt"]')" "[]"
	assert_equal "$(value 'v["writable"]')" false
	assert_equal "$(value 'v["kernel"] == open("/proc/sys/kernel/osrelease").read().strip()')" false
	assert_equal "$(value '200000 < v["memory_kib"] < 262144')" true
	# Its clock is the host's, however long ago it was captured.
	assert_equal "$(value "-1 < v['time'] - $invoked_at < 10")" true

	wait_until 30 recorded 1 || fail "no working set was recorded"
	invoke hello '{"say": "two"}' --header "X-Quickthaw-Start: resident" --header "X-Quickthaw-Keep: 1"
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" resident-restore
	assert_equal "$(value "-1 < v['time'] - $invoked_at < 10")" true
	# What a kernel does besides is not the same each time: a page may be new.
	[ "$(header X-Quickthaw-Faults)" -lt 100 ] || fail "the working set was not brought in"
	local pid
	pid=$(header X-Quickthaw-Pid)
	invoke hello '{"say": "three"}' --header "X-Quickthaw-Start: warm"
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" warm
	assert_equal "$(header X-Quickthaw-Pid)" "$pid"
	# What it writes is learnt from the second restore, and until then its template is kept.
	wait_until 60 recorded 2 || fail "which pages it writes was not recorded"
	# From the file, in the order of the working set.
	invoke hello '{"say": "four"}' --header "X-Quickthaw-Start: cold"
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore

	run snapctl logs hello
	assert_output_has "imported" "handler says one" "handler says three" "Memory Size: 256 MB	Max Memory Used:"
	run http GET /quickthaw/v1/capacity
	assert_output_has '"GuestKind":"kernel"'
	run http GET /metrics
	assert_output_has 'version="1",guest="kernel"}'
	assert_store_whole

	# In its jail like any other: nobody's user, nothing to see, and only these system calls.
	assert_equal "$(awk '/^Seccomp:/ { print $2 }' "/proc/$pid/status")" 2
	assert_equal "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")" 0000000000000000
	[ -z "$(ls "/proc/$pid/root/")" ] || fail "the jail is not empty"
	output=$(grep -l '^flags:.*[12]$' /dev/null "/proc/$pid/fdinfo/"* 2>/dev/null | while read -r info; do
		readlink "/proc/$pid/fd/${info##*/}"
	done | grep '\.erofs$' || true)
	[ -z "$output" ] || fail "an image may be written to"

	run snapctl rm hello
	assert_success
	wait_until 10 no_vmm_of hello || fail "an instance is left"
	wait_until 10 are_gone "$pid" || fail "its process is left"
	[ -z "$(ls "$SNAPD_DIR/state/functions")" ] || fail "files are left"
	[ ! -e "$SNAPD_DIR/state/.empty" ]
	# The jail's filter has killed none of its shells, of which some thread began late.
	run grep "ended without a word" "$SNAPD_LOG"
	assert_failure 1
}

@test "kernel guest: its working set is mapped before it runs, and what it writes is copied" {
	require_images
	start_kernels
	deploy_kernel hello "$EXAMPLES/hello-python"
	invoke hello '{"name": "one"}'
	assert_fine
	wait_until 30 recorded 1 || fail "no working set was recorded"
	# Asynchronous page faults made a copy of each page that was missed: that tells nothing.
	assert_equal "$(working_set 'map(select(.written)) | length')" 0
	invoke hello '{"name": "two"}' --header "X-Quickthaw-Start: resident"
	assert_fine
	wait_until 30 recorded 2 || fail "what it writes was not recorded"
	local pages written faults
	pages=$(working_set length)
	written=$(working_set 'map(select(.written)) | length')
	if [ "$written" -lt 20 ] || [ $((written * 2)) -gt "$pages" ]; then
		fail "$written of $pages pages are said to be written"
	fi

	invoke hello '{"name": "three"}' --header "X-Quickthaw-Start: resident" --header "X-Quickthaw-Keep: 1"
	assert_fine
	recorded 2 || fail "what is known was recorded again"
	mkdir "$BATS_TEST_TMPDIR/debug"
	mount -t debugfs debugfs "$BATS_TEST_TMPDIR/debug"
	faults=$(cat "$BATS_TEST_TMPDIR/debug/kvm/$(header X-Quickthaw-Pid)"-*/pf_taken)
	umount "$BATS_TEST_TMPDIR/debug"
	[ -n "$faults" ] || fail "KVM counts no faults of it"
	printf '%s\n' 6.10 "$(uname -r)" | sort -CV || skip "KVM maps nothing ahead before Linux 6.10"
	[ $((faults * 4)) -lt "$pages" ] || fail "$faults faults, with $pages pages mapped ahead"
}

@test "kernel guest: functions are diffs on one base, which is booted once and outlives its name" {
	require_images
	start_kernels --shells 2
	deploy one "$SAMPLES/machine" --guest kernel --memory 256 --env SETTING=one
	deploy two "$SAMPLES/machine" --guest kernel --memory 250 --env SETTING=two
	# Both want it at once: one boots it, the other waits.
	run_with_snapctl() { snapctl publish "$1" >"$BATS_TEST_TMPDIR/$1" 2>&1; }
	run_with_snapctl one 3>&- &
	local request=$!
	run run_with_snapctl two
	assert_success
	wait "$request" || fail "$(cat "$BATS_TEST_TMPDIR/one")"
	assert_equal "$(base_boots)" 1
	assert_equal "$(bases | wc -l)" 1
	assert_equal "$(grep -c "info: publish .*: start from its base" "$SNAPD_LOG")" 2
	! grep -q "info: publish .*: boot " "$SNAPD_LOG" || fail "a function's kernel was booted"

	# It is there once, however many have it, and the functions' files are their layers.
	local base name size
	base=$SNAPD_DIR/state/bases/$(bases)
	size=$(stat -c %s "$base")
	assert_equal "$(stat -c %h "$base")" 3
	for name in one two; do
		run "$BIN/snapshot" verify "$(version_dir $name)/snapshot.qt"
		assert_success
		assert_output_has "in 2 files"
		echo "$name: $(stat -c %s "$(version_dir $name)/snapshot.qt") bytes on a base of $size" >&3
		[ "$(stat -c %s "$(version_dir $name)/snapshot.qt")" -lt "$((size * 3 / 4))" ] ||
			fail "$name: its layer is not much less than its base of $size bytes"
		invoke $name '{}'
		assert_fine
		assert_equal "$(header X-Quickthaw-Start)" cold-restore
		assert_equal "$(value 'v["setting"]')" $name
		assert_equal "$(value 'v["opt"]')" "[]"
		wait_until 30 grep -q "record: $name:1: working set" "$SNAPD_LOG" || fail "no working set was recorded"
	done
	assert_equal "$(stat -c %h "$base")" 3

	# Whatever happens to the base and the other function, a version has its own.
	rm "$base"
	run snapctl rm one
	assert_success
	invoke two '{}' --header "X-Quickthaw-Start: cold"
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
	stop_snapd
	start_kernels
	invoke two '{}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
	# Whoever is next makes it again.
	publish two
	assert_equal "$(base_boots)" 2
	assert_equal "$(bases | wc -l)" 1
	invoke two '{}'
	assert_fine
	assert_equal "$(value 'v["version"]')" 2
	# One that has lost its base boots, and gets another one in the background.
	rm "$(version_dir two 2)"/base-*.qt
	stop_snapd
	: >"$SNAPD_LOG"
	start_kernels
	invoke two '{}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-boot
	wait_until 60 grep -q "publish two:2: start from its base" "$SNAPD_LOG" || fail "it is not captured again"
	invoke two '{}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
}

@test "kernel guest: a base that is damaged, foreign, outdated or unfinished is not used" {
	require_images
	start_kernels
	deploy_kernel one "$SAMPLES/machine"
	stop_snapd
	local dir=$SNAPD_DIR/state/bases base
	base=$dir/$(bases)
	# A copy, for the version's own is the same file: with another byte in its last chunk.
	cp "$base" "$BATS_TEST_TMPDIR/damaged"
	printf 'X' | dd of="$BATS_TEST_TMPDIR/damaged" bs=1 seek="$(($(stat -c %s "$base") - 5000))" conv=notrunc status=none
	mv "$base" "$BATS_TEST_TMPDIR/good"
	cp "$BATS_TEST_TMPDIR/damaged" "$base"
	touch "$dir/0123456789abcdef-256.qt" "$dir/.0123456789abcdef-256.qt" "$dir/somebody's"
	start_kernels
	wait_until 30 grep -q "0123456789abcdef-256.qt: removed: it would be made in another way now" "$SNAPD_LOG" ||
		fail "an outdated base stays"
	assert_equal "$(find "$dir" -type f | LC_ALL=C sort)" "$base"$'\n'"$dir/somebody's"
	: >"$SNAPD_LOG"
	publish one
	run cat "$SNAPD_LOG"
	assert_output_has "made again: bases/${base##*/}: chunk" "checksum"
	assert_equal "$(base_boots)" 1
	invoke one '{}'
	assert_fine
	assert_equal "$(value 'v["version"]')" 2
	# One that is good, but somebody else's under this name.
	cp "$(version_dir one)/snapshot.qt" "$base.new"
	mv "$base.new" "$base"
	cp "$(version_dir one)"/base-*.qt "$dir"
	: >"$SNAPD_LOG"
	publish one
	run cat "$SNAPD_LOG"
	assert_output_has "made again: bases/${base##*/}: not the snapshot of such a base"
	assert_equal "$(base_boots)" 1
	invoke one '{}'
	assert_fine
	assert_equal "$(value 'v["version"]')" 3
	# All of the older versions' files are theirs.
	run http POST "$FUNCTIONS/one/invocations?Qualifier=1" --data '{}'
	assert_output_has '"version": "1"'
}

@test "kernel guest: a base that cannot be made is everybody's error who waits, and leaves nothing" {
	require_images
	start_kernels --init-timeout 1 --shells 2
	deploy one "$SAMPLES/machine" --guest kernel --memory 256
	deploy two "$SAMPLES/machine" --guest kernel --memory 256
	snapctl publish one >"$BATS_TEST_TMPDIR/one" 2>&1 3>&- &
	local request=$!
	run snapctl publish two
	assert_failure 1
	assert_output_has "booting the runtime's base: it took too long" "--init-timeout"
	! wait "$request" || fail "one was published"
	run cat "$BATS_TEST_TMPDIR/one"
	assert_output_has "booting the runtime's base: it took too long"
	[ -z "$(ls -A "$SNAPD_DIR/state/bases")" ] || fail "half a base is left"
	[ -z "$(find "$SNAPD_DIR"/state/functions/*/versions -mindepth 1)" ] || fail "half a version is left"
	stop_snapd

	# The disk is full before the base is written.
	mount -t tmpfs -o size=8m tmpfs "$SNAPD_DIR/state/bases"
	start_kernels
	run snapctl publish one
	assert_failure 1
	assert_output_has "capturing the runtime's base: No space left on device"
	[ -z "$(ls -A "$SNAPD_DIR/state/bases")" ] || fail "half a base is left"
	# As soon as there is room, it is made.
	stop_snapd
	umount "$SNAPD_DIR/state/bases"
	start_kernels
	publish one
	invoke one '{}'
	assert_fine
}

@test "kernel guest: two clones at once are two machines, and layers are their /opt" {
	require_images
	start_kernels --shells 2
	local arn
	mkdir -p "$BATS_TEST_TMPDIR/layer/python"
	echo "layered = 42" >"$BATS_TEST_TMPDIR/layer/python/layered.py"
	(cd "$BATS_TEST_TMPDIR/layer" && python3 -m zipfile -c ../layer.zip python)
	base64 -w0 "$BATS_TEST_TMPDIR/layer.zip" >"$BATS_TEST_TMPDIR/layer.b64"
	printf '{"Content": {"ZipFile": "%s"}}' "$(cat "$BATS_TEST_TMPDIR/layer.b64")" >"$BATS_TEST_TMPDIR/layer.json"
	arn=$(http POST /2018-10-31/layers/libs/versions --data "@$BATS_TEST_TMPDIR/layer.json" | jq -r .LayerVersionArn)
	deploy_kernel twins "$SAMPLES/machine" --layer "$arn"
	invoke twins '{}' # records
	assert_fine
	assert_equal "$(value 'v["opt"]')" '["python"]'
	wait_until 30 grep -q "record: twins:1: working set" "$SNAPD_LOG"
	http POST "$FUNCTIONS/twins/invocations" --data '{"sleep": 3}' --header "X-Quickthaw-Start: resident" \
		--output "$BATS_TEST_TMPDIR/first" 3>&- &
	local request=$!
	http POST "$FUNCTIONS/twins/invocations" --data '{"sleep": 3}' --header "X-Quickthaw-Start: resident" \
		--output "$BATS_TEST_TMPDIR/second"
	wait "$request"
	local first second
	first=$(cat "$BATS_TEST_TMPDIR/first")
	second=$(cat "$BATS_TEST_TMPDIR/second")
	[ "$(value 'v["uuid"]' "$first")" != "$(value 'v["uuid"]' "$second")" ] || fail "one uuid: $first"
	[ "$(value 'v["urandom"]' "$first")" != "$(value 'v["urandom"]' "$second")" ] || fail "one urandom: $first"
}

@test "kernel guest: with memory for two vCPUs, both are busy at its capture and go on in its clones" {
	require_images
	start_kernels
	deploy two "$SAMPLES/busy" --guest kernel --memory 1856
	publish two
	local start
	for start in cold resident; do
		invoke two '{}' --header "X-Quickthaw-Start: $start"
		assert_fine
		assert_equal "$(header X-Quickthaw-Start)" "$start-restore"
		assert_equal "$(value 'v["online"]')" 0-1
		assert_equal "$(value 'v["ran_on"]')" "[0, 1]"
		assert_equal "$(value 'min(v["before"]) > 0 and min(v["grew"]) > 0')" true
		assert_equal "$(value 'min(v["ticks"]) > 0')" true
		wait_until 30 grep -q "record: two:1: working set" "$SNAPD_LOG" || fail "no working set was recorded"
	done
}

@test "kernel guest: whatever its end, it is its own invocation's error" {
	require_images
	start_kernels --shells 2
	deploy_kernel ends "$SAMPLES/machine"
	invoke ends '{}'
	assert_fine
	invoke ends '{"end": "raise"}'
	assert_function_error ValueError "as it was asked to"
	local pid
	pid=$(header X-Quickthaw-Pid)
	invoke ends '{"end": "exit"}'
	assert_function_error Runtime.ExitError "exit status 3"
	wait_until 10 are_gone "$pid" || fail "its process is left"
	invoke ends '{"end": "kill"}'
	assert_function_error Runtime.ExitError "signal: killed"
	invoke ends '{"end": "panic"}'
	assert_function_error Runtime.ExitError "Kernel panic"
	run http PUT "$FUNCTIONS/ends/configuration" --data '{"Timeout": 10}'
	publish ends
	invoke ends '{"end": "hang"}'
	assert_equal "$code" 200
	assert_output_has "Task timed out after 10.00 seconds"
	pid=$(header X-Quickthaw-Pid)
	invoke ends '{"end": "flood"}'
	assert_output_has "Task timed out after 10.00 seconds"
	wait_until 10 are_gone "$pid" "$(header X-Quickthaw-Pid)" || fail "a process is left"
	invoke ends '{}'
	assert_fine
}

@test "kernel guest: one that never gets ready is not published, and nothing of it is left" {
	require_images
	start_kernels --init-timeout 60
	mkdir "$BATS_TEST_TMPDIR/stuck" "$BATS_TEST_TMPDIR/broken"
	printf 'import time\ntime.sleep(3600)\ndef handler(event, context): pass\n' >"$BATS_TEST_TMPDIR/stuck/app.py"
	echo 'import nothing_of_that_name' >"$BATS_TEST_TMPDIR/broken/app.py"
	deploy broken "$BATS_TEST_TMPDIR/broken" --guest kernel --memory 256
	run snapctl publish broken
	assert_failure 1
	assert_output_has "nothing_of_that_name"
	deploy stuck "$BATS_TEST_TMPDIR/stuck" --guest kernel --memory 256
	run snapctl publish stuck
	assert_failure 1
	assert_output_has "initialisation took too long"
	wait_until 20 no_vmm_of stuck || fail "an instance is left"
	[ -z "$(ls "$SNAPD_DIR/state/functions/stuck/versions")" ] || fail "a half version is left"
}

@test "kernel guest: a runtime of the function's own, in the root image that it names" {
	require_images nodejs
	start_kernels
	# There is no provided.erofs; the function says which image it wants.
	run snapctl deploy own --dir "$SAMPLES/node" --guest kernel --memory 384 --runtime provided.al2023
	assert_failure 1
	assert_output_has "provided.erofs" "scripts/build-rootfs"
	deploy own "$SAMPLES/node" --guest kernel --memory 384 --runtime provided.al2023 --root-image nodejs
	publish own
	invoke own '{"a": [1, "ü"]}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
	assert_equal "$(value 'v["echo"]["a"][0]')" 1
	assert_equal "$(value 'v["node"][0]')" v
	invoke own '{"b": 2}' --header "X-Quickthaw-Start: resident"
	assert_fine
	assert_equal "$(value 'v["echo"]')" '{"b": 2}'
	run snapctl logs own
	assert_output_has "node starts"
}

@test "kernel guest: a Node.js function" {
	require_images nodejs
	start_kernels
	deploy_kernel node "$SAMPLES/node-module" --runtime nodejs18.x
	invoke node '{"say": "hello"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" cold-restore
	assert_equal "$(value 'v["echo"]')" '{"say": "hello"}'
	assert_equal "$(value 'v["request"]')" "$(header X-Amzn-RequestId)"
	invoke node '{"end": "raise"}'
	assert_function_error TypeError "as it was asked to"
	run snapctl logs node
	assert_output_has "node handler hello"
}

@test "kernel guest: an idle one serves on under the next snapd" {
	require_images
	start_kernels --keep-warm 3000
	deploy_kernel lasting "$SAMPLES/machine"
	invoke lasting '{}'
	assert_fine
	local pid old=$SNAPD_PID
	pid=$(header X-Quickthaw-Pid)
	setpriv --pdeathsig TERM "$BIN/snapd" --take-over --state "$SNAPD_DIR/state" --socket "$SNAPD_SOCKET" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest" --kernel-guests "$KERNELS" --shells 1 --keep-warm 3000 \
		</dev/null >>"$SNAPD_LOG" 2>&1 3>&- &
	SNAPD_PID=$!
	wait_until 20 grep -q "take-over: another snapd serves" "$SNAPD_LOG" || fail "it does not take over from $old"
	invoke lasting '{}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" warm
	assert_equal "$(header X-Quickthaw-Pid)" "$pid"
	invoke lasting '{}' --header "X-Quickthaw-Start: resident"
	assert_fine
	assert_equal "$(header X-Quickthaw-Start)" resident-restore
}

@test "kernel guest: what a service manager keeps of it serves on in the next snapd, however one ends" {
	require_images
	start_keeper --kernel-guests "$KERNELS" --init-timeout 300 --publish-wait 600 --queue-timeout 300 --shells 1 \
		--keep-warm 3000
	deploy_kernel lasting "$SAMPLES/machine"
	invoke lasting '{}'
	assert_fine
	local pid uuid signal
	pid=$(header X-Quickthaw-Pid)
	uuid=$(value 'v["uuid"]')
	for signal in KILL TERM; do
		kill_and_wait "$signal"
		invoke lasting '{}'
		assert_fine
		assert_equal "$(header X-Quickthaw-Start)" warm
		assert_equal "$(header X-Quickthaw-Pid)" "$pid"
		assert_equal "$(value "-1 < v['time'] - $invoked_at < 10")" true
		[ "$(value 'v["uuid"]')" != "$uuid" ] || fail "it went back"
		# A template that was kept serves, and so does a shell.
		invoke lasting '{}' --header "X-Quickthaw-Start: resident"
		assert_fine
		assert_equal "$(header X-Quickthaw-Start)" resident-restore
	done
	stop_keeper
	wait_until 10 are_gone "$pid" || fail "an instance outlives its keeper"
}
