#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# faults.bats - hosts that lack something, damaged and hostile snapshots, full disks, kill -9 at any
# moment, functions that fail in every way

# bats sets status, output, lines and stderr, and runs each test in a shell of its own
# shellcheck disable=SC2154,SC2030,SC2031

bats_require_minimum_version 1.5.0
load common
load invoke

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl snapshot
}

teardown() {
	if [ -n "${BACKGROUND:-}" ]; then
		kill "$BACKGROUND" 2>/dev/null || true
	fi
	remove_snapd
	if [ -n "${SMALL_DISK:-}" ]; then
		umount "$SMALL_DISK" || true
	fi
}

# ---------------------------------------------------------------- a host that lacks something

# on_host_with "DEVICE..." PROGRAM... - PROGRAM on a machine that has only these of its devices
on_host_with() {
	mkdir -p "$BATS_TEST_TMPDIR/dev"
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount bash -c '
		dir=$1 devices=$2; shift 2
		mount -t tmpfs none "$dir"
		for d in null $devices; do
			touch "$dir/${d##*:}"
			mount --bind "/dev/${d%%:*}" "$dir/${d##*:}"
		done
		mount --rbind "$dir" /dev
		exec "$@"
	' bash "$BATS_TEST_TMPDIR/dev" "$@"
}

# without_syscall - the program that runs another in a kernel which lacks a system call
without_syscall() {
	gcc -o "$BATS_FILE_TMPDIR/without_syscall" "$BATS_TEST_DIRNAME/without_syscall.c"
	echo "$BATS_FILE_TMPDIR/without_syscall"
}

# any_snapd - a command line of snapd that would serve
any_snapd() {
	timeout 20 "$@" "$BIN/snapd" --state "$BATS_TEST_TMPDIR/state" \
		--socket "$BATS_TEST_TMPDIR/sock" --vmm "$BIN/vmm" --runtime-dir "$ROOT/guest"
}

# assert_refused TEXT... - exit status 2 and one line, which says all of this
assert_refused() {
	assert_failure 2
	assert_equal "${#lines[@]}" 1
	assert_output_has "$@"
}

@test "no /dev/kvm: vmm says which, why and what to do" {
	run on_host_with "" timeout 20 "$BIN/vmm" run -- /bin/true
	assert_refused "/dev/kvm: not there" "load kvm_intel"
	run on_host_with "" timeout 20 "$BIN/vmm" host
	assert_refused "/dev/kvm: not there"
}

@test "no permission for /dev/kvm: vmm says so" {
	run setpriv --reuid 65534 --regid 65534 --clear-groups timeout 20 "$BIN/vmm" run -- /bin/true
	assert_refused "/dev/kvm: no permission" "group"
}

@test "a /dev/kvm that is something else is refused by vmm and snapd" {
	run on_host_with "null:kvm" timeout 20 "$BIN/vmm" run -- /bin/true
	assert_refused "KVM"
	run on_host_with "null:kvm userfaultfd" timeout 20 "$BIN/snapd" \
		--state "$BATS_TEST_TMPDIR/state" --socket "$BATS_TEST_TMPDIR/sock" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest"
	assert_refused "/dev/kvm: not KVM" "use a kernel"
}

@test "a /dev/userfaultfd that is something else is refused by snapd" {
	run on_host_with "kvm null:userfaultfd" timeout 20 "$BIN/snapd" \
		--state "$BATS_TEST_TMPDIR/state" --socket "$BATS_TEST_TMPDIR/sock" \
		--vmm "$BIN/vmm" --runtime-dir "$ROOT/guest"
	assert_refused "userfaultfd" "paged in" "Linux 6.1"
}

@test "no io_uring: snapd says so" {
	# io_uring_setup is 425; ENOSYS 38, EPERM 1, ENOMEM 12
	run any_snapd "$(without_syscall)" 425 38
	assert_refused "io_uring: not in this kernel" "reads through it" "Linux 6.1"
	run any_snapd "$BATS_FILE_TMPDIR/without_syscall" 425 1
	assert_refused "io_uring: no permission" "kernel.io_uring_disabled"
	run any_snapd "$BATS_FILE_TMPDIR/without_syscall" 425 12
	assert_refused "io_uring: Cannot allocate memory" "RLIMIT_MEMLOCK"
}

# ---------------------------------------------------------------- damaged snapshots

# capture_hello FILE [VMM-OPTION...] - a snapshot by `vmm run`
capture_hello() {
	run timeout 60 "$BIN/vmm" run --task "$EXAMPLES/hello-python" --runtime "$ROOT/guest" \
		--env _HANDLER=app.handler --env AWS_LAMBDA_INITIALIZATION_TYPE=snap-start \
		--env PYTHONDONTWRITEBYTECODE=1 --capture "$1" "${@:2}" -- \
		/usr/bin/python3 /var/runtime/bootstrap.py
}

@test "vmm restore refuses every damaged, cut, foreign, too new and absurd snapshot" {
	capture_hello "$BATS_TEST_TMPDIR/hello.qt"
	assert_success
	run timeout 200 python3 "$BATS_TEST_DIRNAME/tamper.py" restores "$BIN/vmm" \
		"$BATS_TEST_TMPDIR/hello.qt" "$EXAMPLES/hello-python"
	assert_success
}

@test "hostile state under right checksums never crashes a vmm" {
	capture_hello "$BATS_TEST_TMPDIR/hello.qt"
	assert_success
	run timeout 200 python3 "$BATS_TEST_DIRNAME/tamper.py" hostile "$BIN/vmm" \
		"$BATS_TEST_TMPDIR/hello.qt" "$EXAMPLES/hello-python"
	assert_success
}

@test "vmm restore: files that are no snapshots" {
	run "$BIN/vmm" restore "$BATS_TEST_TMPDIR/nothing"
	assert_failure
	assert_output_has "$BATS_TEST_TMPDIR/nothing" "No such file"
	run "$BIN/vmm" restore /usr/bin/python3.11
	assert_failure
	assert_output_has "/usr/bin/python3.11" "offset 0"
	run "$BIN/vmm" restore /dev/null
	assert_failure
	assert_output_has "/dev/null"
	run "$BIN/vmm" restore /tmp
	assert_failure
	assert_output_has "/tmp"
}

# refused_by_snapd [TEXT] - function damaged cannot be restored, with file and offset; function other can
refused_by_snapd() {
	invoke damaged '{}' --header "X-Quickthaw-Start: cold"
	assert_equal "$code" 500
	assert_equal "$(header x-amzn-ErrorType)" ServiceException
	[[ $body == *"damaged/versions/1/snapshot.qt"* && $body == *offset* ]] ||
		fail "file and offset are not named"
	[ -z "${1:-}" ] || [[ $body == *"$1"* ]] || fail "the error does not say: $1"
	invoke other '{"name": "still"}' --header "X-Quickthaw-Start: cold"
	assert_fine
	[[ $body == *"Hello, still!"* ]]
}

@test "snapd refuses damaged snapshots, and serves the other functions" {
	start_snapd
	deploy damaged "$EXAMPLES/hello-python"
	publish damaged
	deploy other "$EXAMPLES/hello-python"
	publish other
	invoke damaged '{"name": "whole"}' --header "X-Quickthaw-Start: cold"
	assert_fine
	local file=$SNAPD_DIR/state/functions/damaged/versions/1/snapshot.qt
	local good=$BATS_TEST_TMPDIR/good
	wait_until 10 no_temporary_file # the recording's
	cp "$file" "$good"

	python3 "$BATS_TEST_DIRNAME/tamper.py" header "$file" 8 02000000
	refused_by_snapd "version"
	cp "$good" "$file"
	python3 "$BATS_TEST_DIRNAME/tamper.py" header "$file" 16 0000000000000080
	refused_by_snapd "feature"
	cp "$good" "$file"
	python3 "$BATS_TEST_DIRNAME/tamper.py" header "$file" 64 b7000000
	refused_by_snapd "architecture"
	cp "$good" "$file"
	python3 "$BATS_TEST_DIRNAME/tamper.py" state "$file" 0 ff000000
	refused_by_snapd "state"
	cp "$good" "$file"
	python3 "$BATS_TEST_DIRNAME/tamper.py" state "$file" 4 ff
	refused_by_snapd "state"
	cp "$good" "$file"
	printf 'X' | dd of="$file" bs=1 seek=100 conv=notrunc status=none
	refused_by_snapd "header"
	cp "$good" "$file"
	printf 'XXXXXXXX' | dd of="$file" bs=1 seek=5000 conv=notrunc status=none
	refused_by_snapd
	cp "$good" "$file"
	truncate -s -4096 "$file"
	refused_by_snapd
	truncate -s 0 "$file"
	refused_by_snapd
	cp /usr/bin/python3.11 "$file"
	refused_by_snapd
	cp "$good" "$file"
	invoke damaged '{"name": "whole"}' --header "X-Quickthaw-Start: cold"
	assert_fine
	[[ $body == *"Hello, whole!"* ]]
	grep -q "damaged/versions/1/snapshot.qt" "$SNAPD_LOG"
}

@test "snapd: bits flipped in a snapshot's data are found, or not needed: never a wrong answer" {
	start_snapd
	deploy damaged "$EXAMPLES/hello-python"
	publish damaged --train '{}'
	local file=$SNAPD_DIR/state/functions/damaged/versions/1/snapshot.qt good=$BATS_TEST_TMPDIR/good
	local size at refused=0 i
	cp "$file" "$good"
	size=$(stat -c %s "$file")
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		cp "$good" "$file"
		at=$((65536 + (size - 131072) * i / 13))
		printf 'X' | dd of="$file" bs=1 seek=$at conv=notrunc status=none
		invoke damaged '{"name": "data"}' --header "X-Quickthaw-Start: cold"
		if [ "$code" = 500 ]; then
			refused=$((refused + 1))
			[[ $body == *"damaged/versions/1/snapshot.qt"* && $body == *chunk* &&
				$body == *offset* ]] || fail "file, chunk and offset are not named"
		else
			assert_fine
			[[ $body == *"Hello, data!"* ]] || fail "a wrong answer"
		fi
	done
	[ $refused -gt 0 ] || fail "no flip hit a page that was needed"
	cp "$good" "$file"
	invoke damaged '{"name": "whole"}' --header "X-Quickthaw-Start: cold"
	assert_fine
	[ "$(http_status GET /healthz)" = 200 ]
}

# ---------------------------------------------------------------- full disks

# small_disk SIZE
small_disk() {
	SMALL_DISK=$BATS_TEST_TMPDIR/disk
	mkdir -p "$SMALL_DISK"
	mount -t tmpfs -o size="$1" none "$SMALL_DISK"
}

# leave_room KIB - fill the small disk up to that
leave_room() {
	local free
	rm -f "$SMALL_DISK/filler"
	free=$(stat -f -c '%a' "$SMALL_DISK")
	head -c $((free * 4096 - $1 * 1024)) /dev/zero >"$SMALL_DISK/filler"
}

@test "vmm run --capture on a full disk: an error, the old file untouched, no temporary file" {
	small_disk 16m
	capture_hello "$SMALL_DISK/hello.qt"
	assert_success
	sum=$(sha256sum <"$SMALL_DISK/hello.qt")
	local room
	for room in 3000 1024 64 0; do
		leave_room $room
		capture_hello "$SMALL_DISK/hello.qt"
		assert_failure 1
		assert_output_has "$SMALL_DISK/hello.qt" "No space left on device"
		assert_equal "$(sha256sum <"$SMALL_DISK/hello.qt")" "$sum"
		assert_equal "$(find "$SMALL_DISK" -type f | wc -l)" 2
	done
	capture_hello /nonexistent/hello.qt
	assert_failure 1
	assert_output_has "/nonexistent/hello.qt" "No such file"
}

@test "snapd on a disk that is full at several points: errors, nothing left, the old version serves" {
	small_disk 40m
	SNAPD_DIR=$SMALL_DISK/snapd
	start_snapd
	deploy hello "$EXAMPLES/hello-python"
	publish hello
	# The first invocation's recording rewrites the snapshot: it cannot, and the answer is right.
	leave_room 1024
	invoke hello '{"name": "first"}'
	assert_fine
	[[ $body == *"Hello, first!"* ]]
	local room
	for room in 3000 256 4 0; do
		leave_room $room
		run snapctl publish hello
		assert_failure 1
		assert_output_has "No space left"
		[ ! -e "$SNAPD_DIR/state/functions/hello/versions/2" ]
	done
	run snapctl deploy another --dir "$EXAMPLES/hello-python"
	assert_failure 1
	assert_output_has "No space left"
	run ls -A "$SNAPD_DIR/state/functions"
	assert_equal "$output" hello
	for kind in resident cold; do
		invoke hello '{"name": "still"}' --header "X-Quickthaw-Start: $kind"
		assert_fine
		assert_equal "$(header X-Amz-Executed-Version)" 1
	done
	assert_store_whole
	rm "$SMALL_DISK/filler"
	publish hello
	assert_store_whole
	stop_snapd
}

# ---------------------------------------------------------------- kill -9

@test "kill -9 of snapd at many moments of boot, capture, publish, restore and invoke" {
	start_snapd
	deploy hello "$EXAMPLES/hello-python" --memory 256
	publish hello
	local delay jobs
	for delay in 0 0.02 0.05 0.08 0.11 0.14 0.18 0.25; do
		jobs=
		http POST "$FUNCTIONS/hello/versions" --data '{"EvenIfUnchanged": true}' >/dev/null 2>&1 3>&- &
		jobs+=" $!"
		http POST "$FUNCTIONS/hello/invocations" --data '{}' \
			--header "X-Quickthaw-Start: cold" >/dev/null 2>&1 3>&- &
		jobs+=" $!"
		http POST "$FUNCTIONS/hello/invocations" --data '{}' >/dev/null 2>&1 3>&- &
		jobs+=" $!"
		sleep "$delay"
		kill_snapd_9
		# shellcheck disable=SC2086 # one word each
		wait $jobs || true
		start_snapd
		assert_nothing_left
		invoke hello '{"name": "again"}' --header "X-Quickthaw-Start: cold"
		assert_fine
		[[ $body == *"Hello, again!"* ]]
	done
	publish hello
}

@test "kill -9 of every vmm at many moments: errors for those invocations, and nothing else" {
	start_snapd
	deploy hello "$EXAMPLES/hello-python" --memory 256
	publish hello
	local delay jobs pids
	for delay in 0 0.03 0.06 0.09 0.12 0.16 0.22; do
		jobs=
		http POST "$FUNCTIONS/hello/versions" --data '{"EvenIfUnchanged": true}' --output "$BATS_TEST_TMPDIR/published" 3>&- &
		jobs+=" $!"
		http POST "$FUNCTIONS/hello/invocations" --data '{}' \
			--header "X-Quickthaw-Start: cold" --output /dev/null 3>&- &
		jobs+=" $!"
		http POST "$FUNCTIONS/hello/invocations" --data '{}' --output /dev/null 3>&- &
		jobs+=" $!"
		sleep "$delay"
		pids=$(vmm_pids)
		# shellcheck disable=SC2086 # one word each
		[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
		# Every request gets an answer: curl fails where snapd closes without one.
		# shellcheck disable=SC2086
		wait $jobs || fail "a request got no answer"
		invoke hello '{"name": "again"}'
		assert_fine
		[[ $body == *"Hello, again!"* ]]
		assert_equal "$(http_status GET /healthz)" 200
		if grep -q '"State":"Active"' "$BATS_TEST_TMPDIR/published"; then
			continue
		fi
		grep -q '"Message"' "$BATS_TEST_TMPDIR/published" || fail "publish got no error"
	done
	assert_store_whole
	# What is on disk is what is served ($LATEST has no directory).
	assert_equal "$(find "$SNAPD_DIR/state/functions/hello/versions" -mindepth 1 -maxdepth 1 | wc -l)" \
		$(($(snapctl list hello --json | grep -o '"State": *"Active"' | wc -l) - 1))
}

@test "kill -9 of vmm run while it captures leaves no half snapshot under the name" {
	local delay pid
	for delay in 0.05 0.08 0.11 0.14 0.18; do
		timeout 60 "$BIN/vmm" run --task "$EXAMPLES/hello-python" --runtime "$ROOT/guest" \
			--env _HANDLER=app.handler --capture "$BATS_TEST_TMPDIR/hello.qt" -- \
			/usr/bin/python3 /var/runtime/bootstrap.py 3>&- &
		pid=$!
		sleep "$delay"
		pkill -9 -P $pid || true
		wait $pid || true
		if [ -e "$BATS_TEST_TMPDIR/hello.qt" ]; then
			run "$BIN/snapshot" verify "$BATS_TEST_TMPDIR/hello.qt"
			assert_success
		fi
	done
}

# ---------------------------------------------------------------- functions that fail

# bystander_is_well - the instance from before answers, and is the same one
bystander_is_well() {
	invoke bystander '{"what": "nothing"}'
	assert_fine
	assert_equal "$(header X-Quickthaw-Pid)" "$bystander"
}

@test "handlers that fail in every way: Lambda's error, a log line, other instances notice nothing" {
	start_snapd
	deploy bystander "$SAMPLES/faulty"
	publish bystander
	invoke bystander '{}' # recorded, and ended
	invoke bystander '{}'
	assert_fine
	bystander=$(header X-Quickthaw-Pid)
	# What raises must not take so long, and what hangs is waited for.
	limit=$((SLOW > 1 ? 15 : 1))
	deploy faulty "$SAMPLES/faulty" --timeout $limit
	publish faulty --train '{}'

	invoke faulty '{"what": "raise"}'
	assert_function_error Custom 'no good'
	assert_equal "$(value 'v["errorMessage"]')" 'no good: ü "quoted"'
	assert_equal "$(value 'v["requestId"]')" "$(header X-Amzn-RequestId)"
	value 'v["stackTrace"]' | grep -q 'raise Custom'
	invoke faulty '{"what": "nested"}'
	assert_function_error Custom second
	bystander_is_well

	invoke faulty '{"what": "sys.exit"}'
	assert_function_error Runtime.ExitError "exit status 3"
	invoke faulty '{"what": "os._exit", "status": 7}'
	assert_function_error Runtime.ExitError "exit status 7"
	invoke faulty '{"what": "os._exit"}'
	assert_function_error Runtime.ExitError "without providing a reason"
	bystander_is_well

	invoke faulty '{"what": "signal", "name": "SIGKILL"}'
	assert_function_error Runtime.ExitError "signal: killed"
	invoke faulty '{"what": "signal", "name": "SIGTERM"}'
	assert_function_error Runtime.ExitError "signal: terminated"
	invoke faulty '{"what": "signal", "name": "SIGABRT"}'
	assert_function_error Runtime.ExitError "signal: aborted"
	invoke faulty '{"what": "crash"}'
	assert_function_error Runtime.ExitError "signal: segmentation fault"
	bystander_is_well

	invoke faulty '{"what": "spin"}'
	[[ $body == *"Task timed out after $limit.00 seconds"* ]]
	assert_equal "$(header X-Amz-Function-Error)" Unhandled
	invoke faulty '{"what": "sleep", "seconds": 30}'
	[[ $body == *"Task timed out after $limit.00 seconds"* ]]
	invoke faulty '{"what": "block"}'
	[[ $body == *"Task timed out after $limit.00 seconds"* ]] || assert_function_error Runtime.ExitError
	bystander_is_well

	invoke faulty '{"what": "unserialisable"}'
	assert_function_error Runtime.MarshalError "not JSON serializable"
	invoke faulty '{"what": "deep"}'
	assert_equal "$(header X-Amz-Function-Error)" Unhandled
	invoke faulty '{"what": "recursion"}'
	assert_function_error RecursionError
	invoke faulty '{"what": "thread"}' # as in Lambda: the log has it, the caller does not
	assert_fine
	invoke faulty '{"what": "close"}'
	assert_equal "$(header X-Amz-Function-Error)" Unhandled
	invoke faulty '{"what": "nothing"}'
	assert_fine
	bystander_is_well

	run snapctl logs faulty
	assert_success
	assert_output_has "no good" "Custom" "in a thread" "Task timed out after $limit.00 seconds" \
		"segmentation fault" "exit status 3"
	run snapctl logs bystander
	[[ $output != *"no good"* && $output != *"timed out"* ]]
}

@test "a failing instance does not disturb one that runs at the same moment" {
	start_snapd
	deploy both "$SAMPLES/faulty" --timeout 10
	publish both --train '{}'
	http POST "$FUNCTIONS/both/invocations" --data '{"what": "sleep", "seconds": 1.5}' \
		--output "$BATS_TEST_TMPDIR/slow" 3>&- &
	BACKGROUND=$!
	local what
	for what in raise crash os._exit sys.exit close deep; do
		invoke both "{\"what\": \"$what\"}"
		assert_equal "$(header X-Amz-Function-Error)" Unhandled
	done
	invoke both '{"what": "signal", "name": "SIGKILL"}'
	assert_function_error Runtime.ExitError
	wait "$BACKGROUND"
	BACKGROUND=
	grep -q '"fine": true' "$BATS_TEST_TMPDIR/slow"
}

# not_published NAME TEXT... - publish is refused with this text, and so are invocations of $LATEST
not_published() {
	local name=$1
	shift
	run snapctl publish "$name"
	assert_failure 1
	assert_output_has "$@"
	assert_equal "$(find "$SNAPD_DIR/state/functions/$name/versions" -mindepth 1 | wc -l)" 0
	invoke "$name" '{}'
	assert_equal "$code" 200
	assert_equal "$(header X-Amz-Function-Error)" Unhandled
	assert_output_has "$@"
}

@test "functions that cannot start are not published, and say why" {
	start_snapd
	local init
	for init in raise exit _exit abort import; do
		deploy "init-$init" "$SAMPLES/starting" --env "INIT=$init"
	done
	not_published init-raise RuntimeError "init is broken"
	not_published init-exit "exit status 4"
	not_published init-_exit "exit status 5"
	not_published init-abort "signal: aborted"
	not_published init-import Runtime.ImportModuleError "nothing_of_that_name"
	run snapctl logs init-raise
	assert_output_has "starting: raise" "init is broken"

	deploy no-handler "$SAMPLES/starting" --handler app.nothing
	not_published no-handler Runtime.HandlerNotFound "nothing"
	deploy no-module "$SAMPLES/starting" --handler missing.handler
	not_published no-module Runtime.ImportModuleError "missing"
	deploy no-name "$SAMPLES/starting" --handler handler
	not_published no-name Runtime.MalformedHandlerName
	mkdir -m 755 "$BATS_TEST_TMPDIR/syntax"
	echo 'def handler(:' >"$BATS_TEST_TMPDIR/syntax/app.py"
	deploy syntax "$BATS_TEST_TMPDIR/syntax"
	not_published syntax Runtime.UserCodeSyntaxError "app"

	deploy greedy "$SAMPLES/starting" --memory 64 --env INIT=memory
	run snapctl publish greedy
	assert_failure 1
	assert_output_has "emory"
	deploy fine "$SAMPLES/starting"
	publish fine
	invoke fine
	assert_fine
}

@test "an initialisation that hangs is ended after --init-timeout, a slow one is not" {
	start_snapd --init-timeout 2
	deploy hangs "$SAMPLES/starting" --env INIT=hang
	not_published hangs "Sandbox.Timedout"
	wait_until 5 no_instance_runs || fail "the hanging instance still runs"
	stop_snapd
	start_snapd --init-timeout 20
	deploy slow "$SAMPLES/starting" --env INIT=sleep
	publish slow
	invoke slow
	assert_fine
}

no_instance_runs() {
	! http GET /quickthaw/v1/stats | grep -q '"State":"\(booting\|invoking\|restoring\)"'
}
