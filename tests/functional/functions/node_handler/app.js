// SPDX-License-Identifier: Apache-2.0
// A Node.js function: every way to give back a result, and what a clone has of its own.
"use strict";

const crypto = require("crypto");
const fs = require("fs");

// All that has a store or a state has made some of it before the snapshot.
const { random } = Math;
const early = [random(), crypto.randomUUID(), crypto.randomInt(2 ** 40), crypto.randomBytes(16)];

exports.handler = async (event, context) => {
	if (event.fail)
		throw new TypeError(event.fail);
	return {
		hello: event.name,
		node: process.version,
		uuid: crypto.randomUUID(),
		bytes: crypto.randomBytes(16).toString("hex"),
		int: crypto.randomInt(2 ** 40),
		values: Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString("hex"),
		key: crypto.generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" }).x,
		random: Math.random(),
		kept: random(),
		kernel: fs.readFileSync("/proc/sys/kernel/random/uuid", "utf8").trim(),
		early: early.length,
		id: context.awsRequestId,
	};
};

exports.callback = (event, context, callback) => setTimeout(() => callback(null, { called: event.name }), 1);

exports.plain = (event) => ({ plain: event.name });
