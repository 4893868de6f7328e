#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# bootstrap_node.bats - Node.js' bootstrap comes to the ends that Lambda's comes to, without a guest

bats_require_minimum_version 1.5.0
load common

setup() {
	has_command node || skip "Node.js is not installed here (kernel guests have it in their image)"
}

# serve HANDLER PAYLOADS - what the bootstrap posts about each; errors are cut to their type and message
serve() {
	LAMBDA_TASK_ROOT=$BATS_TEST_DIRNAME/functions/node-ends _HANDLER=app.$1 _X_AMZN_TRACE_ID=old \
		python3 "$BATS_TEST_DIRNAME/runtime_host.py" "$2" node "$ROOT/guest/bootstrap.js" 2>/dev/null |
		sed -E 's/^(error .*),"trace":.*/\1/'
}

@test "every way to give back a result, and to fail" {
	run serve plain '["value", "nothing", "succeed, later", "done with an error", "fail for no reason",
		"never settles", "a function", "throws", "trace", "value"]'
	assert_equal "$output" 'response 42
response null
response "late"
error {"errorType":"string","errorMessage":"no"
error {"errorType":"string","errorMessage":"handled"
error {"errorType":"Runtime.NodeJsExit","errorMessage":"nothing is left to wait for, and the handler'"'"'s promise is not settled"
response null
error {"errorType":"TypeError","errorMessage":"thrown"
response "none"
response 42
exit -9'
}

@test "a callback: what is no error, and one that is never called" {
	run serve callback '[[null, 1], [null], [0, 2], "never", ["", 3], [null, 4]]'
	assert_equal "$output" 'response 1
response null
error {"errorType":"number","errorMessage":"0"
response null
error {"errorType":"string","errorMessage":""
response 4
exit -9'
}

@test "what nobody catches is the error of its invocation, and ends the process" {
	run serve plain '["throws, later", "value"]'
	assert_equal "$output" 'error {"errorType":"RangeError","errorMessage":"thrown late"
exit 129'
	run serve plain '["rejects, unheard", "value"]'
	assert_equal "$output" 'error {"errorType":"Runtime.UnhandledPromiseRejection","errorMessage":"Error: unheard"
exit 128'
	CRASH=init run serve starting '[]'
	assert_equal "${lines[0]}" 'error {"errorType":"Error","errorMessage":"while it starts"'
}
