#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# bench.bats - measuring: results, tables, pictures, and the time line of one invocation

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

bats_require_minimum_version 1.5.0
load common

setup() {
	require_kvm
	require_root
	require_programs snapd vmm snapctl bench
	cd "$ROOT" || exit
}

teardown() {
	remove_snapd
}

bench() {
	QUICKTHAW_SOCKET=${SNAPD_SOCKET:-/nonexistent} timeout $((120 * SLOW)) "$BIN/bench" "$@" 3>&-
}

publish_hello() {
	start_snapd
	run snapctl deploy hello-python --dir "$EXAMPLES/hello-python" --memory 256 --timeout 20
	assert_success
	run snapctl publish hello-python --train "@$EXAMPLES/hello-python/event.json"
	assert_success
}

# result_file FILE P50 - a small result file
result_file() {
	cat >"$1" <<-END
		{"host": {"kind": "pvm"}, "goals": [{"case": "warm", "unit": "ms", "must": 1.5}], "rows": [
		 {"stage": "invoke", "case": "warm", "workload": "hello-python", "guest": "process", "system": "quickthaw",
		  "unit": "ms", "n": 9, "min": 1, "p50": $2, "p90": 3, "p99": 4}]}
	END
}

# trace ARG... - bench trace, or a skip where this host has no BPF
trace() {
	run bench trace --build "${BUILD:-build}" --function hello-python "$@"
	if [ "$status" = 2 ] && [[ $output == *"BPF is not to be had"* ]]; then
		skip "this host has no BPF: ${output#*here: }"
	fi
	assert_success
}

@test "bench: mistakes are explained, exit status 2" {
	local arguments
	for arguments in "run --boots 0" "run --warms many" "run more" "trace" "measure" "compare one" \
		"trace --function x --start sometimes" "trace --function x --event {" \
		"measure --function x --event @/nonexistent" "nothing" ""; do
		# shellcheck disable=SC2086 # words
		run bench $arguments
		assert_failure 2
		[ -n "$output" ] || fail "bench $arguments says nothing"
	done
	run bench measure --function x
	assert_failure 1
	assert_output_has "/nonexistent" "snapd --socket"
}

@test "bench compare: 0 when nothing grew, 1 when a p50 did, 2 for other files" {
	result_file "$BATS_TEST_TMPDIR/a" 2
	result_file "$BATS_TEST_TMPDIR/b" 2.3
	result_file "$BATS_TEST_TMPDIR/c" 2.5
	run bench compare "$BATS_TEST_TMPDIR/a" "$BATS_TEST_TMPDIR/b"
	assert_success
	assert_output_has "1.150" "0 grew"
	run bench compare "$BATS_TEST_TMPDIR/a" "$BATS_TEST_TMPDIR/c"
	assert_failure 1
	assert_output_has "1.250  grew"
	run bench compare "$BATS_TEST_TMPDIR/a" /etc/passwd
	assert_failure 2
	assert_output_has "/etc/passwd"
}

@test "bench/plot: draws PNG and SVG, and says so where there is no gnuplot" {
	has_command gnuplot || skip "needs gnuplot"
	result_file "$BATS_TEST_TMPDIR/r.json" 2
	run bench/plot "$BATS_TEST_TMPDIR/r.json"
	assert_success
	assert_output_has "picture: $BATS_TEST_TMPDIR/r.png"
	[ "$(head -c 4 "$BATS_TEST_TMPDIR/r.png" | tail -c 3)" = PNG ]
	run bench/plot "$BATS_TEST_TMPDIR/r.json" "$BATS_TEST_TMPDIR/r.svg"
	assert_success
	grep -q '</svg>' "$BATS_TEST_TMPDIR/r.svg"
	run bench/plot /etc/passwd
	assert_failure 2
	PATH=/nonexistent run /bin/bash bench/plot "$BATS_TEST_TMPDIR/r.json"
	assert_success
	assert_output_has "no picture: gnuplot is not installed"
}

@test "bench measure: one table for people, rows on demand" {
	publish_hello
	run bench measure --function hello-python --boots 1 --colds 1 --residents 2 --warms 2 \
		--event "@$EXAMPLES/hello-python/event.json" --out "$BATS_TEST_TMPDIR/out.json"
	assert_success
	assert_output_has "PAGES FAULTED" "cold boot " "cold restore " "resident restore " "warm " \
		"bare python3 " "in use at capture" "private memory" "results: $BATS_TEST_TMPDIR/out.json"
	assert_equal "$(jq '[.rows[] | select(.case == "cold_restore" and .n == 1)] | length' \
		"$BATS_TEST_TMPDIR/out.json")" 1
	assert_equal "$(jq '[.rows[] | select(.case == "cold_restore.read")][0].p50 > 0' \
		"$BATS_TEST_TMPDIR/out.json")" true
	run bench measure --function nothing
	assert_failure 1
	assert_output_has "Function not found" ":function:nothing"
}

@test "bench run: rows, goals, bounds and the host's constants" {
	[ -z "${HWKVM:-}" ] || skip "takes minutes on the emulated host, and its figures mean nothing"
	local out=$BATS_TEST_TMPDIR/results.json before
	before=$(find "${BUILD:-build}" -maxdepth 1 -name 'bench.*')
	run bench run --boots 1 --colds 1 --residents 2 --warms 2 --build "${BUILD:-build}" --out "$out"
	assert_success
	assert_output_has "MUST" "STRETCH" "results: $out" "resident_restore.measured_to_bound"
	# Every row has every member, and the cases and systems are all there.
	assert_equal "$(jq '[.rows[] | select((keys | length) != 11)] | length' "$out")" 0
	assert_equal "$(jq -r '[.rows[].system] | unique | join(" ")' "$out")" \
		"bare-process bound bubblewrap quickthaw"
	local name
	for name in cold_boot cold_restore resident_restore warm process cpu_bound snapshot_file \
		private_after_one_invoke rss_without_instances cold_restore.bound; do
		jq -e --arg name "$name" '[.rows[] | select(.case == $name)][0].p50 > 0' "$out" >/dev/null ||
			fail "$name has no p50"
	done
	for name in first_read_4k_us disk_bytes_per_s lz4_decode_bytes_per_s memcpy_bytes_per_s \
		map_page_us copy_page_us kvm_create_vm_us cpus; do
		jq -e --arg name "$name" '.host[$name] > 0' "$out" >/dev/null || fail "host has no $name"
	done
	[[ $(jq -r .host.kind "$out") =~ ^(pvm|hardware)$ ]]
	run find "${BUILD:-build}" -maxdepth 1 -name 'bench.*'
	assert_equal "$output" "$before"
}

@test "bench trace: faults and exits with time, guest address and mapping" {
	publish_hello
	trace
	trace --start resident
	assert_output_has "resident-restore of hello-python" "GUEST ADDRESS" "MAPPED FOR THE GUEST, BY MAPPING"
	grep -qE '^ +[0-9.]+ ms  map +page [0-9]+ +0x[0-9a-f]{12}  r-x /usr/bin/python3' <<<"$output" ||
		fail "no page of the interpreter's code was mapped"
	grep -qE '^ +[0-9.]+ ms  exit  (recvfrom|read|sendto|write|sendmsg|writev) .* r-x /.*libc' <<<"$output" ||
		fail "no system call of libc's is named"
	grep -qE '^ +[0-9]+  r-x /usr/bin/python3' <<<"$output" || fail "no sum of the interpreter's code"
	trace --start cold
	assert_output_has "cold-restore of hello-python"
	grep -qE '^ +[0-9.]+ ms  fill +[0-9]+ pages? +page [0-9]+ +0x' <<<"$output" || fail "no fills"
}

@test "bench trace: without BPF it says so and exits 2" {
	publish_hello
	run env QUICKTHAW_SOCKET="$SNAPD_SOCKET" setpriv --bounding-set -bpf,-sys_admin,-perfmon \
		"$BIN/bench" trace --function hello-python
	assert_failure 2
	assert_output_has "BPF is not to be had here" "CAP_BPF"
	assert_equal "${#lines[@]}" 1
}

@test "bench run: interrupted, it leaves no snapd and no files" {
	local pid build=$BATS_TEST_TMPDIR/build dirs
	mkdir "$build"
	ln -s "$BIN" "$build/bin"
	"$BIN/bench" run --build "$build" </dev/null >/dev/null 2>&1 3>&- &
	pid=$!
	wait_until 20 compgen -G "$build/bench.*/socket" >/dev/null || fail "bench did not start a snapd"
	dirs=$(compgen -G "$build/bench.*")
	kill -TERM "$pid"
	local code=0
	wait "$pid" || code=$?
	assert_equal "$code" 143
	run pgrep -f "snapd --state $dirs/"
	assert_equal "$output" ""
	[ ! -e "$dirs" ] || fail "$dirs is left"
}

@test "bench service: parts of it, small: rows, goals, nothing lost or left" {
	local out=$BATS_TEST_TMPDIR/service.json name
	run bench service --scale 1 --only burst --only churn --build "${BUILD:-build}" --out "$out"
	assert_success
	assert_output_has "MUST" "not measured" "at 1 % of the sizes" "results: $out"
	for name in churn_not_served churn_lost churn_duplicated churn_leaked_processes churn_leaked_fds \
		churn_leaked_memfds; do
		assert_equal "$name $(jq --arg name "$name" '[.rows[] | select(.case == $name)][0].p50' "$out")" \
			"$name 0"
	done
	jq -e '[.rows[] | select(.case == "burst_p99")][0].p50 > 0' "$out"
	run bench service --only everything
	assert_failure 2
	assert_output_has "give fresh, warm, burst or churn"
}
