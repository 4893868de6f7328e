#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# operators.bats - what those who operate snapd look at, with the tools that they have

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

PORT=18080

setup_file() {
	load common
	require_kvm
	require_root
	echo "AKIATEST secretsecretsecret" >"$BATS_FILE_TMPDIR/keys"
	chmod 600 "$BATS_FILE_TMPDIR/keys"
	start_snapd --listen "127.0.0.1:$PORT" --keys "$BATS_FILE_TMPDIR/keys" --unsigned-status
	# A version with a history: restored, warm, and failed with a message that is no HTML.
	snapctl deploy faulty --dir "$ROOT/tests/functional/functions/faulty" \
		--timeout 60 --publish
	# The first is recorded: its instance is warm when it has told which pages it touched.
	snapctl invoke faulty '{"what": "none"}'
	wait_until 60 has_idle_instance
	snapctl invoke faulty '{"what": "none"}'
	snapctl invoke faulty '{"what": "raise", "text": "<img src=x onerror=alert(1)>"}' || true
}

teardown_file() {
	remove_snapd
}

has_idle_instance() {
	http GET /metrics | grep -qxF 'quickthaw_instances{state="idle"} 1'
}

# metric SERIES - its value
metric() {
	awk -v series="$1" '$1 == series { print $2 }' "$BATS_FILE_TMPDIR/metrics"
}

# assert_at_least VALUE MINIMUM NAME
assert_at_least() {
	awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a >= b) }' || fail "$3 is '$1', not at least $2"
}

@test "promtool finds nothing to complain of in /metrics, and it counts what happened" {
	has_command promtool || fail "there is no promtool: run scripts/setup service"
	local kind
	http GET /metrics >"$BATS_FILE_TMPDIR/metrics"
	run promtool check metrics <"$BATS_FILE_TMPDIR/metrics"
	assert_success
	assert_equal "$output" ""
	assert_equal "$(metric 'quickthaw_invoke_duration_seconds_count{start="warm"}')" 2
	assert_equal "$(metric 'quickthaw_errors_total{kind="handler"}')" 1
	assert_equal "$(metric 'quickthaw_errors_total{kind="service"}')" 0
	assert_equal "$(metric 'quickthaw_template_lookups_total{result="hit"}')$(
		metric 'quickthaw_template_lookups_total{result="miss"}')" 01
	kind='{start="cold-restore"}'
	assert_equal "$(metric "quickthaw_restore_duration_seconds_count$kind")" 1
	assert_at_least "$(metric quickthaw_page_in_duration_seconds_count)" 1 "page-ins"
	assert_at_least "$(metric 'quickthaw_faults_total{page="read"}')" 1 "faults that were read"
	assert_at_least "$(metric quickthaw_snapshot_read_bytes_total)" 100000 "bytes read"
	assert_at_least "$(metric quickthaw_chunks_decoded_total)" 5 "chunks"
	assert_at_least "$(metric 'quickthaw_template_resident_bytes{function="faulty",version="1",guest="process"}')" \
		1000000 "the template"
	assert_at_least "$(metric 'quickthaw_instances{state="idle"}')" 1 "idle instances"
	assert_at_least "$(metric process_resident_memory_bytes)" 1000000 "RSS"
	assert_equal "$(metric "quickthaw_build_info{version=\"$(cat "$ROOT/VERSION")\"}")" 1
}

@test "it is alive, and ready; over TCP without a signature, too, but for the API" {
	local url=http://127.0.0.1:$PORT
	assert_equal "$(http GET /readyz)" ready
	assert_equal "$(curl -s "$url/healthz")" ok
	assert_equal "$(curl -s "$url/readyz")" ready
	assert_equal "$(curl -s -o /dev/null -w '%{http_code}' "$url/metrics")" 200
	assert_equal "$(curl -s -o /dev/null -w '%{http_code}' "$url/2015-03-31/functions/")" 403
	assert_equal "$(http_status POST /metrics)" 405
}

@test "bash completes the names of functions and versions from the running snapd" {
	local dir=$BATS_TEST_TMPDIR/completions
	mkdir "$dir"
	cp "$ROOT/packaging/completion/quickthaw" "$dir/snapctl"
	complete_line() {
		run env PATH="$BIN:$PATH" "$ROOT/tests/functional/complete.bash" "$BATS_TEST_TMPDIR" "$1"
		assert_success
	}
	export QUICKTHAW_SOCKET=$SNAPD_SOCKET
	complete_line "snapctl logs fau"
	assert_equal "$output" faulty
	complete_line "snapctl logs other"
	assert_equal "$output" ""
	complete_line "snapctl invoke faulty --version "
	assert_equal "$output" 1
}

@test "the status page shows functions, instances, latencies and failures in a real browser" {
	has_command chromium || fail "there is no chromium: run scripts/setup service"
	local dom=$BATS_TEST_TMPDIR/dom
	run timeout $((60 * SLOW)) chromium --headless --no-sandbox --disable-gpu --no-first-run \
		--disable-background-networking --disable-component-update --disable-sync \
		--user-data-dir="$BATS_TEST_TMPDIR/browser" --enable-logging=stderr \
		--virtual-time-budget=3000 --dump-dom "http://127.0.0.1:$PORT/"
	assert_success
	printf '%s\n' "$output" >"$dom"
	[[ $output != *CONSOLE* ]] || fail "the browser complains of the page"
	# It has asked at least once, and shows what it was told.
	grep -qE 'data-polls="[1-9]' "$dom" || fail "the page got no figures"
	assert_output_has '<span id="ready" class="pill good"' '>ready</span>' \
		"$(cat "$ROOT/VERSION")" '<b>faulty</b>' '<b>faulty:1</b>' 'idle, kept warm' \
		'aria-label="warm: 2 invocations' 'aria-label="cold-restore: 1 invocation,'
	# The function's own words come as text.
	assert_output_has '&lt;img src=x onerror=alert(1)&gt;'
	[[ $output != *"<img"* ]] || fail "an error message of a function became an element of the page"
}
