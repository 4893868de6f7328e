// SPDX-License-Identifier: Apache-2.0
// bootstrap.js - run a Node.js function on AWS Lambda's Runtime API
//
// Loads the handler that _HANDLER names ("module.function") from LAMBDA_TASK_ROOT, then loops: asks for
// an invocation, calls the handler, sends back its result or its error. A handler is async, or returns a
// promise or a value, or takes a callback as its third parameter, or calls its context's. One that does
// none of that has no result once nothing is left to wait for. What is thrown where nobody catches it is
// the error of the invocation under way, and ends the process. With
// AWS_LAMBDA_INITIALIZATION_TYPE=snap-start it stops at /restore/next once before: that is where
// Quickthaw takes the snapshot, and where every clone goes on.
//
// What random numbers come from is memory, too, and the same in every clone: OpenSSL's generator (of
// node:crypto and TLS), what node:crypto has in store, and Math.random(). So all of these begin anew when
// it goes on: see reseed().
//
// Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
// https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const path = require("path");
const { pathToFileURL } = require("url");

const [HOST, PORT] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const PREFIX = "/2018-06-01/runtime/";
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

/** Where an error is reported that nobody catches; null while the one connection waits for work. */
let errorPath = "init/error";

/** Not the handler's own error; carries Lambda's error type. */
class RuntimeError extends Error {
	constructor(type, message) {
		super(message);
		this.name = type;
	}
}

/** One request of the Runtime API: resolves to {status, headers, body}. */
function request(method, name, body, headers = {}) {
	return new Promise((resolve, reject) => {
		const options = { host: HOST, port: PORT || 80, method, path: PREFIX + name, agent, headers };
		if (body !== undefined)
			headers["Content-Length"] = Buffer.byteLength(body);
		const req = http.request(options, (res) => {
			const parts = [];
			res.on("data", (part) => parts.push(part));
			res.on("end", () =>
				resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
			res.on("error", reject);
		});
		req.on("error", reject);
		req.end(body);
	});
}

/** What was thrown, which need not be an Error, in Lambda's shape. */
function describe(error) {
	const known = error instanceof Error;
	return {
		errorType: known ? error.name : typeof error,
		errorMessage: known ? error.message : String(error),
		trace: known && error.stack ? error.stack.split("\n") : [],
	};
}

async function reportError(name, error) {
	const body = describe(error);
	console.error(JSON.stringify(body));
	await request("POST", name, JSON.stringify(body), {
		"Lambda-Runtime-Function-Error-Type": encodeURIComponent(body.errorType),
	});
}

/** The file of a module in the task's directory, by the endings that Node.js knows. */
function findModule(name) {
	const base = path.resolve(process.env.LAMBDA_TASK_ROOT || "/var/task", name);
	const file = ["", ".js", ".mjs", ".cjs"].map((end) => base + end)
		.find((candidate) => fs.existsSync(candidate) && fs.statSync(candidate).isFile());
	if (!file)
		throw new RuntimeError("Runtime.ImportModuleError", `Error: Cannot find module '${name}'`);
	return file;
}

async function loadModule(file) {
	try {
		return file.endsWith(".mjs") ? await import(pathToFileURL(file)) : require(file);
	} catch (error) {
		if (error.code === "ERR_REQUIRE_ESM")
			return import(pathToFileURL(file));
		if (error instanceof SyntaxError)
			throw new RuntimeError("Runtime.UserCodeSyntaxError", String(error));
		throw error;
	}
}

/** Import module.function as _HANDLER names it. */
async function loadHandler(name) {
	const dot = name.indexOf(".", name.lastIndexOf("/") + 1);
	if (dot < 1 || dot === name.length - 1)
		throw new RuntimeError("Runtime.MalformedHandlerName", `Bad handler '${name}'`);
	let value = await loadModule(findModule(name.slice(0, dot)));
	for (const part of name.slice(dot + 1).split("."))
		value = value && (value[part] ?? value.default?.[part]);
	if (typeof value !== "function")
		throw new RuntimeError("Runtime.HandlerNotFound", `${name} is undefined or not exported`);
	return value;
}

/** What a handler gets as its second argument. */
function makeContext(headers, done) {
	const deadlineMs = Number(headers["lambda-runtime-deadline-ms"] || 0);
	const client = headers["lambda-runtime-client-context"];
	return {
		functionName: process.env.AWS_LAMBDA_FUNCTION_NAME || "",
		functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION || "$LATEST",
		memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE || "",
		logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME || "",
		logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME || "",
		awsRequestId: headers["lambda-runtime-aws-request-id"],
		invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
		clientContext: client ? JSON.parse(client) : undefined,
		callbackWaitsForEmptyEventLoop: true,
		getRemainingTimeInMillis: () => Math.max(0, deadlineMs - Date.now()),
		done,
		fail: (error) => done(error ?? "handled"),
		succeed: (result) => done(null, result),
	};
}

/** Call the handler. Its result, however it is given back; the first one counts. */
function callHandler(handler, event, headers) {
	let giveUp;
	const onEmpty = () => giveUp();
	process.on("beforeExit", onEmpty);
	return new Promise((resolve, reject) => {
		const done = (error, result) => (error ?? null) === null ? resolve(result) : reject(error);
		giveUp = () => resolve(null);
		const returned = handler(event, makeContext(headers, done), done);
		if (returned && typeof returned.then === "function") {
			giveUp = () => reject(new RuntimeError("Runtime.NodeJsExit",
				"nothing is left to wait for, and the handler's promise is not settled"));
			returned.then(resolve, reject);
		} else if (returned !== undefined && handler.length < 3) {
			resolve(returned);
		}
	}).finally(() => process.removeListener("beforeExit", onEmpty));
}

async function serveOne(handler) {
	errorPath = null;
	const next = await request("GET", "invocation/next");
	if (next.status !== 200)
		throw new Error(`the Runtime API answered ${next.status} to /next`);
	const id = next.headers["lambda-runtime-aws-request-id"];
	const traceId = next.headers["lambda-runtime-trace-id"];
	if (traceId)
		process.env._X_AMZN_TRACE_ID = traceId;
	else
		delete process.env._X_AMZN_TRACE_ID;
	errorPath = `invocation/${id}/error`;
	try {
		const result = await callHandler(handler, JSON.parse(next.body), next.headers);
		await request("POST", `invocation/${id}/response`, JSON.stringify(result ?? null) ?? "null");
	} catch (error) {
		await reportError(errorPath, error);
	}
}

/** What nobody catches: no handler can go on after that. */
async function endWith(error, status) {
	try {
		if (errorPath)
			await reportError(errorPath, error);
		else
			console.error(error);
	} finally {
		process.exit(status);
	}
}

function catchTheRest() {
	process.on("uncaughtException", (error) => endWith(error, 129));
	process.on("unhandledRejection", (reason) =>
		endWith(new RuntimeError("Runtime.UnhandledPromiseRejection", String(reason)), 128));
}

// Math.random() is xoshiro128** (Blackman and Vigna) where there will be clones: V8's own cannot be seeded.
const randomState = new Uint32Array(4);

function random32() {
	const s = randomState;
	const product = Math.imul(s[1], 5);
	const result = Math.imul((product << 7) | (product >>> 25), 9);
	const shifted = s[1] << 9;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= shifted;
	s[3] = (s[3] << 11) | (s[3] >>> 21);
	return result >>> 0;
}

function random() {
	return ((random32() >>> 5) * 2 ** 26 + (random32() >>> 6)) / 2 ** 53;
}

/** Clones of one snapshot must not share their random numbers. */
function reseed() {
	try {
		process.dlopen({ exports: {} }, path.join(__dirname, "reseed.node"));
	} catch (error) {
		console.error(`node:crypto gives the same random numbers in every clone: ${error.message}; ` +
			"take them from /dev/urandom");
	}
	crypto.randomFillSync(randomState);
	// What node:crypto has in store, from which it gives these: so many of each.
	for (let i = 0; i < 128; i++)
		crypto.randomUUID();
	for (let i = 0; i < 1024; i++)
		crypto.randomInt(2);
}

async function main() {
	const stops = process.env.AWS_LAMBDA_INITIALIZATION_TYPE === "snap-start";
	let handler;
	catchTheRest();
	if (stops) {
		reseed();
		Math.random = random;
	}
	process.chdir(process.env.LAMBDA_TASK_ROOT || "/var/task");
	try {
		handler = await loadHandler(process.env._HANDLER || "");
	} catch (error) {
		await reportError("init/error", error);
		process.exit(1);
	}
	if (stops) {
		errorPath = null;
		await request("GET", "restore/next");
		reseed();
	}
	for (;;)
		await serveOne(handler);
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
