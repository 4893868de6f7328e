// SPDX-License-Identifier: Apache-2.0
// Answers with what it was asked, or fails if it is asked to.
exports.handler = async (event, context) => {
	console.log("node handler", event.say);
	if (event.end === "raise") throw new TypeError("as it was asked to");
	return { node: process.version, echo: event, request: context.awsRequestId };
};
