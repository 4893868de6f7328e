#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# code.bats - how code gets in: zip files, layers, images; and when snapshots are made again

# shellcheck disable=SC2154,SC2030,SC2031,SC2016 # bats sets status, output and lines; jq's names

bats_require_minimum_version 1.5.0

load common

FUNCTIONS=/2015-03-31/functions
LAYERS=/2018-10-31/layers

setup() {
	require_kvm
	require_root
}

teardown() {
	remove_snapd
}

# make_code zip|image OUT NAME=TEXT...
make_code() {
	python3 "$BATS_TEST_DIRNAME/code_make.py" "$@"
}

# json FILTER - of the output of the last `run`
json() {
	jq -r "$1" <<<"$output"
}

# body_with_zip FILE JQ-FILTER - a request's body, in which $zip is the file
body_with_zip() {
	base64 -w0 "$1" | jq -R "$2" >"$BATS_TEST_TMPDIR/body"
	echo "@$BATS_TEST_TMPDIR/body"
}

HANDLER='
import os, shutil
import from_layer
def handler(event, context):
    return {"layer": from_layer.WHAT, "tool": shutil.which("layer-tool"),
            "opt": sorted(os.listdir("/opt")), "mode": oct(os.stat("/var/task/tool").st_mode & 0o777)}
'

@test "a zip and layers by value: deployed, seen by the handler, the same when downloaded" {
	local tmp=$BATS_TEST_TMPDIR sha location location_path
	start_snapd --shells 1
	make_code zip "$tmp/code.zip" "app.py=$HANDLER" "tool!=x" "private/data=1"
	make_code zip "$tmp/one.zip" "python/from_layer.py=WHAT = 'one'" "bin/layer-tool!=#!/bin/sh"
	make_code zip "$tmp/two.zip" "python/lib/python3.11/site-packages/from_layer.py=WHAT = 'two'"
	for name in one two; do
		run http POST "$LAYERS/$name/versions" --data "$(body_with_zip "$tmp/$name.zip" \
			'{Content: {ZipFile: .}, CompatibleRuntimes: ["python3.11"]}')"
		assert_equal "$(json .Version)" 1
		assert_equal "$(json .Content.CodeSha256)" \
			"$(openssl dgst -sha256 -binary "$tmp/$name.zip" | base64)"
	done
	sha=$(openssl dgst -sha256 -binary "$tmp/code.zip" | base64)
	run http POST $FUNCTIONS --data "$(body_with_zip "$tmp/code.zip" '{FunctionName: "zipped",
		Handler: "app.handler", Timeout: 60, Code: {ZipFile: .}, Publish: true,
		Layers: ["arn:aws:lambda:local:000000000000:layer:one:1",
			 "arn:aws:lambda:local:000000000000:layer:two:1"]}')"
	assert_equal "$(json .CodeSha256)" "$sha"
	assert_equal "$(json '.Layers | length')" 2
	# A layer that is deleted stays where it is in use.
	assert_equal "$(http_status DELETE "$LAYERS/one/versions/1")" 204
	run http POST "$FUNCTIONS/zipped/invocations" --data '{}'
	assert_equal "$(jq -cS . <<<"$output")" \
		'{"layer":"two","mode":"0o755","opt":["bin","python"],"tool":"/opt/bin/layer-tool"}'

	run http GET "$FUNCTIONS/zipped?Qualifier=1"
	location=$(json .Code.Location)
	location_path=${location#http://localhost}
	http GET "$location_path" --output "$tmp/back.zip"
	cmp "$tmp/code.zip" "$tmp/back.zip"
	assert_equal "$(http_status GET "${location_path}x")" 403
	assert_equal "$(http_status GET "${location_path/Version=1/Version=2}")" 403

	# What is refused changes nothing and leaves nothing.
	python3 - "$tmp/bad.zip" <<-'END'
		import sys, zipfile
		zipfile.ZipFile(sys.argv[1], "w").writestr("../../escape", "x")
	END
	run http PUT "$FUNCTIONS/zipped/code" --data "$(body_with_zip "$tmp/bad.zip" '{ZipFile: .}')"
	assert_output_has "a name with .."
	run http PUT "$FUNCTIONS/zipped/code" --data "$(body_with_zip "$tmp/one.zip" '{ZipFile: ., DryRun: true}')"
	[ "$(json .CodeSha256)" != "$sha" ] || fail "a dry run says what it would be"
	run http GET "$FUNCTIONS/zipped/configuration"
	assert_equal "$(json .CodeSha256)" "$sha"
	assert_equal "$(find "$SNAPD_DIR/state" -name 'escape*' -o -name '.[a-z]*' | wc -l)" 0

	# An image, into the same function.
	make_code image "$tmp/image" "usr/bin/base=base" \
		"var/task/app.py=def handler(e, c): return 'old'" \
		"var/task/app.py=def handler(e, c): return 'from an image'"
	run http PUT "$FUNCTIONS/zipped/code" --data "{\"OciImage\": \"$tmp/image\"}"
	assert_equal "$(json .LastUpdateStatus)" Successful
	run http POST "$FUNCTIONS/zipped/invocations?Qualifier=\$LATEST" --data '{}'
	assert_equal "$output" '"from an image"'
}

@test "snapctl deploy: a zip file with a layer, an image, over what there is" {
	local tmp=$BATS_TEST_TMPDIR arn=arn:aws:lambda:local:000000000000:layer:one:1
	start_snapd --shells 1
	make_code zip "$tmp/one.zip" "python/from_layer.py=WHAT = 'one'"
	run http POST "$LAYERS/one/versions" --data "$(body_with_zip "$tmp/one.zip" '{Content: {ZipFile: .}}')"
	assert_equal "$(json .LayerVersionArn)" $arn
	make_code zip "$tmp/code.zip" "app.py=import from_layer
def handler(event, context): return from_layer.WHAT"
	run snapctl deploy code --zip "$tmp/code.zip" --layer $arn --timeout 60 --publish
	assert_success
	run snapctl invoke code '{}'
	assert_success
	assert_output_has '"one"'
	make_code image "$tmp/image" "var/task/app.py=def handler(e, c): return 'from an image'"
	cd "$tmp"
	run snapctl deploy code --image image --timeout 60 --publish
	assert_success
	run snapctl invoke code '{}' --version 2
	assert_success
	assert_output_has '"from an image"'
	run snapctl deploy code --zip "$tmp/code.zip" --image image
	assert_failure 2
	assert_output_has "give one of --dir, --zip and --image"
	run snapctl deploy code --zip "$tmp/code.zip" --layer arn:aws:lambda:local:000000000000:layer:none:7
	assert_failure 1
	assert_output_has "layer:none:7"
	run snapctl deploy code --zip /etc/passwd
	assert_failure 1
	assert_output_has zip
}

# invoke_marked - the function "marked" says which bootstrap it runs on; sets kind (of the start), output
invoke_marked() {
	run http POST "$FUNCTIONS/marked/invocations?Qualifier=1" --data '{}' --dump-header "$BATS_TEST_TMPDIR/head"
	kind=$(sed -n 's/^X-Quickthaw-Start: *//Ip' "$BATS_TEST_TMPDIR/head" | tr -d '\r')
}

says() {
	invoke_marked
	[ "$output" = "\"$1\"" ]
}

# snapshot_identity - of the file; the number of its inode may be used again
snapshot_identity() {
	stat -c '%i %y' "$SNAPD_DIR/state/functions/marked/versions/1/snapshot.qt" 2>/dev/null
}

@test "a snapshot is made again when the bootstrap has changed, or it was removed to save room" {
	local tmp=$BATS_TEST_TMPDIR before
	mkdir -m 755 "$tmp/runtime" "$tmp/code"
	cp "$ROOT"/guest/*.py "$tmp/runtime"
	cat >"$tmp/code/app.py" <<-'END'
		import __main__
		def handler(event, context):
		    return getattr(__main__, "MARK", "old")
	END
	start_snapd --shells 1 --keep-warm 0 --runtime-dir "$tmp/runtime" --check-runtime 1
	run http POST $FUNCTIONS --data "{\"FunctionName\": \"marked\", \"Handler\": \"app.handler\",
		\"Timeout\": 60, \"Code\": {\"Directory\": \"$tmp/code\"}, \"Publish\": true}"
	assert_equal "$(json .Snapshot.Status)" Ready
	before=$(snapshot_identity)

	# The old one serves until the new one is there: nobody waits for a boot.
	sed -i '/^API = /i MARK = "new"' "$tmp/runtime/bootstrap.py"
	invoke_marked
	assert_equal "$output" '"old"'
	until says new; do
		assert_equal "$output" '"old"'
		[[ $kind == *-restore ]] || fail "an invocation was started by $kind"
		((SECONDS < 200 * SLOW)) || fail "it is not made again"
		sleep 0.2
	done
	[[ $kind == *-restore ]] || fail "an invocation was started by $kind"
	[ "$(snapshot_identity)" != "$before" ] || fail "the file is the old one"
	run http GET "$FUNCTIONS/marked/versions"
	assert_equal "$(json '[.Versions[].Version] | join(",")')" '$LATEST,1'
	assert_equal "$(json '.Versions[1].Snapshot.Status')" Ready
	stop_snapd

	# Without room it goes, and the version does not.
	start_snapd --shells 1 --keep-warm 0 --runtime-dir "$tmp/runtime" --disk-budget 1
	wait_until 20 test ! -e "$SNAPD_DIR/state/functions/marked/versions/1/snapshot.qt"
	run http GET "$FUNCTIONS/marked/configuration?Qualifier=1"
	assert_equal "$(json .Snapshot.Status)" Removed
	stop_snapd
	# With room, the next invocation boots, and brings it back.
	start_snapd --shells 1 --keep-warm 0 --runtime-dir "$tmp/runtime"
	invoke_marked
	assert_equal "$kind $output" 'cold-boot "new"'
	wait_until 60 snapshot_identity
	invoke_marked
	assert_equal "$kind $output" 'cold-restore "new"'
}

@test "--keep-versions removes old ones, but none that an alias names" {
	local code=$BATS_TEST_TMPDIR/code
	mkdir -m 755 "$code"
	echo 'def handler(e, c): return 1' >"$code/app.py"
	start_snapd --shells 1 --keep-versions 1
	http POST $FUNCTIONS --data "{\"FunctionName\": \"many\", \"Handler\": \"app.handler\",
		\"Code\": {\"Directory\": \"$code\"}, \"Publish\": true}" >/dev/null
	run http POST "$FUNCTIONS/many/aliases" --data '{"Name": "prod", "FunctionVersion": "1"}'
	assert_equal "$(json .FunctionVersion)" 1
	for description in two three; do
		run http PUT "$FUNCTIONS/many/configuration" --data "{\"Description\": \"$description\"}"
		run http POST "$FUNCTIONS/many/versions" --data '{}'
	done
	assert_equal "$(json .Version)" 3
	wait_until 20 test ! -e "$SNAPD_DIR/state/functions/many/versions/2"
	run http GET "$FUNCTIONS/many/versions"
	assert_equal "$(json '[.Versions[].Version] | join(",")')" '$LATEST,1,3'
}
