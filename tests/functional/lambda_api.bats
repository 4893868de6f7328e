# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# lambda_api.bats - Debian's boto3 and awscli, unmodified, are clients of snapd

load common

setup() {
	require_kvm
	require_root
	echo "AKIAQUICKTHAWTEST secret-of-the-functional-tests" >"$BATS_TEST_TMPDIR/keys"
	chmod 600 "$BATS_TEST_TMPDIR/keys"
	start_snapd --listen 127.0.0.1:0 --keys "$BATS_TEST_TMPDIR/keys"
	ENDPOINT=http://$(sed -n 's/.*serving on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$SNAPD_LOG" | tail -n 1)
	export AWS_ACCESS_KEY_ID=AKIAQUICKTHAWTEST AWS_SECRET_ACCESS_KEY=secret-of-the-functional-tests
	export AWS_DEFAULT_REGION=local AWS_EC2_METADATA_DISABLED=true AWS_PAGER=
	# Neither this machine's settings nor its proxy.
	export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null NO_PROXY=127.0.0.1
}

teardown() {
	remove_snapd
}

# aws_lambda COMMAND [ARGUMENT...]
aws_lambda() {
	/usr/bin/aws --endpoint-url "$ENDPOINT" --cli-read-timeout 600 lambda "$@"
}

one_event_is_over() {
	[ "$(http GET /quickthaw/v1/events | jq '.Succeeded == 1 and .Depth == 0')" = true ]
}

@test "boto3: functions, versions, aliases, concurrency, events, URLs, tags, errors" {
	run /usr/bin/python3 "$BATS_TEST_DIRNAME/lambda_api.py" "$ENDPOINT"
	assert_success
	assert_output_has "create: ok" "alias: ok" "delete: ok"
}

@test "awscli: create, wait, publish, invoke, show, list, delete" {
	local zip=$BATS_TEST_TMPDIR/code.zip
	(cd "$EXAMPLES/hello-python" && /usr/bin/python3 -m zipfile -c "$zip" app.py)
	run aws_lambda create-function --function-name cli --runtime python3.11 --handler app.handler \
		--role arn:aws:iam::123456789012:role/r --zip-file "fileb://$zip" --timeout 60 \
		--snap-start ApplyOn=PublishedVersions
	assert_success
	assert_output_has '"FunctionName": "cli"'
	run aws_lambda wait function-active --function-name cli
	assert_success
	run aws_lambda publish-version --function-name cli
	assert_success
	assert_output_has '"Version": "1"' '"OptimizationStatus": "On"'
	run aws_lambda invoke --function-name cli --qualifier 1 --cli-binary-format raw-in-base64-out \
		--payload '{"name": "awscli"}' "$BATS_TEST_TMPDIR/out"
	assert_success
	assert_output_has '"ExecutedVersion": "1"'
	grep -q "Hello, awscli!" "$BATS_TEST_TMPDIR/out"
	run aws_lambda invoke --function-name cli --log-type Tail --query LogResult --output text \
		"$BATS_TEST_TMPDIR/out"
	assert_success
	output=$(base64 -d <<<"$output")
	assert_output_has "START RequestId: " "END RequestId: " "Memory Size: 128 MB"
	run aws_lambda invoke --function-name cli --invocation-type Event "$BATS_TEST_TMPDIR/out"
	assert_success
	assert_output_has '"StatusCode": 202'
	wait_until 60 one_event_is_over || fail "the event does not run"
	run aws_lambda publish-layer-version --layer-name cli --zip-file "fileb://$zip"
	assert_success
	run aws_lambda update-function-configuration --function-name cli \
		--layers arn:aws:lambda:local:000000000000:layer:cli:1
	assert_success
	assert_output_has "layer:cli:1"
	run aws_lambda get-function --function-name cli --qualifier 1
	assert_success
	assert_output_has '"State": "Active"'
	run aws_lambda list-functions --query 'Functions[].FunctionName' --output text
	assert_success
	assert_equal "$output" cli
	run aws_lambda delete-function --function-name cli
	assert_success
	run aws_lambda get-function --function-name cli
	assert_failure
	assert_output_has "ResourceNotFoundException" "Function not found"
}

@test "awscli: a version that takes long is Pending, and waited for" {
	local code=$BATS_TEST_TMPDIR/code zip=$BATS_TEST_TMPDIR/code.zip
	stop_snapd
	start_snapd --listen 127.0.0.1:0 --keys "$BATS_TEST_TMPDIR/keys" --publish-wait 0
	ENDPOINT=http://$(sed -n 's/.*serving on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$SNAPD_LOG" | tail -n 1)
	mkdir "$code"
	printf 'import time\ntime.sleep(2)\ndef handler(e, c): return 1\n' >"$code/app.py"
	(cd "$code" && /usr/bin/python3 -m zipfile -c "$zip" app.py)
	run aws_lambda create-function --function-name slow --runtime python3.11 --handler app.handler \
		--role arn:aws:iam::123456789012:role/r --zip-file "fileb://$zip" --timeout 60
	assert_success
	run aws_lambda publish-version --function-name slow
	assert_success
	assert_output_has '"Version": "1"' '"State": "Pending"'
	run aws_lambda wait published-version-active --function-name slow --qualifier 1
	assert_success
	run aws_lambda invoke --function-name slow --qualifier 1 "$BATS_TEST_TMPDIR/out"
	assert_success
	assert_equal "$(cat "$BATS_TEST_TMPDIR/out")" 1
	# One that cannot be made is gone again, and waiting for it fails.
	printf 'nonsense' >"$code/app.py"
	(cd "$code" && /usr/bin/python3 -m zipfile -c "$zip" app.py)
	run aws_lambda update-function-code --function-name slow --zip-file "fileb://$zip"
	assert_success
	run aws_lambda publish-version --function-name slow
	assert_success
	run aws_lambda wait published-version-active --function-name slow --qualifier 2
	assert_failure
	# snapctl waits for the end.
	run snapctl publish slow
	assert_failure 1
	assert_output_has SnapStartException nonsense
}
