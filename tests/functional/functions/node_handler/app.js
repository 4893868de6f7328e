// SPDX-License-Identifier: Apache-2.0
// A Node.js function: every way to give back a result, and what a clone has of its own.
"use strict";

const crypto = require("crypto");
const fs = require("fs");

exports.handler = async (event, context) => {
	if (event.fail)
		throw new TypeError(event.fail);
	return {
		hello: event.name,
		node: process.version,
		uuid: crypto.randomUUID(),
		kernel: fs.readFileSync("/proc/sys/kernel/random/uuid", "utf8").trim(),
		id: context.awsRequestId,
	};
};

exports.callback = (event, context, callback) => setTimeout(() => callback(null, { called: event.name }), 1);

exports.plain = (event) => ({ plain: event.name });
