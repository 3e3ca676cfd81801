/** The Lambda handler. */
"use strict";

const sdk = require("apache-flink-statefun");
const envelope = require("./envelope");
const http = require("./http");
const { BatchError, InvalidRequest } = require("./errors");
const { StateFun } = require("./statefun");

/** Returns the Lambda handler of the functions; see index.d.ts. */
function lambdaHandler(statefun) {
  if (!(statefun instanceof sdk.StateFun)) {
    throw new TypeError("the functions are a `StateFun`, of satchel-js or of its copy of the SDK");
  }
  return async function handler(event, context) {
    const milliseconds = timeFor(context);
    if (event?.satchel !== undefined) {
      const bundle = envelope.readBundle(event);
      const answers = await answerAll(statefun, envelope.unpack(bundle), milliseconds);
      return envelope.respond(bundle, answers);
    }
    if (http.methodOf(event) !== undefined) {
      return http.respond(event, async (body) => {
        const [answer] = await answerAll(statefun, [body], milliseconds);
        return answer;
      });
    }
    throw new InvalidRequest(
      "the request is neither a bundle (it has no field `satchel`) nor an HTTP request",
    );
  };
}

/** Answers each of `requests`, which are bytes or a BatchError, by bytes or a BatchError. */
async function answerAll(statefun, requests, milliseconds) {
  let alarm;
  const late = new Promise((resolve) => {
    if (milliseconds !== undefined) {
      const why = "the batch was not done before the deadline of the Lambda request";
      alarm = setTimeout(() => {
        console.error(`batches failed: timeout: ${why}`);
        resolve(new BatchError("timeout", why));
      }, milliseconds);
    }
  });
  try {
    return await Promise.all(
      requests.map((request) => Promise.race([answer(statefun, request), late])),
    );
  } finally {
    clearTimeout(alarm);
  }
}

async function answer(statefun, request) {
  if (request instanceof BatchError) {
    return request;
  }
  try {
    return await StateFun.answer(statefun, request);
  } catch (error) {
    if (!(error instanceof BatchError)) {
      throw error;
    }
    // Logged with its stack, except what the message is to blame for.
    const lines = String(error.cause?.stack ?? "").split("\n");
    const stack = lines.filter((line) => /^ +at /.test(line));
    console.error([`batch failed: ${error.type}: ${error.message}`, ...stack].join("\n"));
    return error;
  }
}

/**
 * Returns the time for the batches: a little less than Lambda gives for the request.
 *
 * At its deadline Lambda would drop every result. A deadline in the past is ignored, because some
 * stand-ins for Lambda give a constant one.
 */
function timeFor(context) {
  const left = context?.getRemainingTimeInMillis?.() ?? 0;
  return left > 0 ? left - Math.min(left / 20, 500) : undefined;
}

module.exports = { lambdaHandler };
