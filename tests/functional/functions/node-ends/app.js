// SPDX-License-Identifier: Apache-2.0
// A Node.js function that comes to an end in the way that its event names.
"use strict";

const later = (what) => setTimeout(what, 5);

const plain = {
	value: () => 42,
	nothing: () => {},
	"succeed, later": (event, context) => void later(() => context.succeed("late")),
	"done with an error": (event, context) => void context.done("no"),
	"fail for no reason": (event, context) => void context.fail(),
	"never settles": () => new Promise(() => {}),
	"a function": () => () => {},
	throws: () => {
		throw new TypeError("thrown");
	},
	"throws, later": () => void later(() => {
		throw new RangeError("thrown late");
	}),
	"rejects, unheard": () => {
		Promise.reject(new Error("unheard"));
		return new Promise((resolve) => setTimeout(resolve, 1000));
	},
	trace: () => process.env._X_AMZN_TRACE_ID ?? "none",
};

exports.plain = (event, context) => plain[event](event, context);

exports.callback = (event, context, callback) => {
	if (event !== "never")
		later(() => callback(...event));
};

exports.starting = async () => {};
if (process.env.CRASH === "init") {
	process.nextTick(() => {
		throw new Error("while it starts");
	});
}
