/** HTTP requests of API Gateway (both payload versions) and Function URLs: one batch each. */
"use strict";

const { RESPONSE_BYTES_MAX, fromBase64 } = require("./envelope");
const { BatchError } = require("./errors");

const CONTENT_TYPE = "application/octet-stream";

/** Returns the method if the event is an HTTP request, or undefined. */
function methodOf(event) {
  const method = event?.requestContext?.http?.method ?? event?.httpMethod;
  return typeof method === "string" ? method : undefined;
}

/** Answers an HTTP request with the function that answers one batch. */
async function respond(event, answerOne) {
  const method = methodOf(event);
  if (method !== "POST") {
    return text(405, `${method} is not served: POST a ToFunction`);
  }
  const sent = typeof event.body === "string" ? event.body : "";
  const body = event.isBase64Encoded ? fromBase64(sent) : Buffer.from(sent);
  if (body === undefined) {
    return text(400, "invalid_request: the body is not base64");
  }
  if (body.length === 0) {
    return text(400, "invalid_request: the body is empty: POST a ToFunction");
  }
  const answer = await answerOne(body);
  if (answer instanceof BatchError) {
    return errorResponse(answer);
  }
  const encoded = Buffer.from(answer).toString("base64");
  // The JSON around the body is smaller than 1 KiB.
  if (encoded.length + 1024 > RESPONSE_BYTES_MAX) {
    const why =
      `response_too_large: the response has ${encoded.length} bytes in base64, ` +
      `Lambda allows ${RESPONSE_BYTES_MAX}`;
    return text(500, why);
  }
  return {
    statusCode: 200,
    headers: { "content-type": CONTENT_TYPE },
    body: encoded,
    isBase64Encoded: true,
  };
}

function errorResponse({ type, message, terminal }) {
  if (terminal !== undefined) {
    const headers = { "satchel-terminal-error": String(terminal.code) };
    if (terminal.index !== undefined) {
      headers["satchel-terminal-index"] = String(terminal.index);
    }
    return text(500, terminal.message, headers);
  }
  const status = { invalid_request: 400, timeout: 504 }[type] ?? 500;
  return text(status, `${type}: ${message}`);
}

function text(statusCode, body, headers = {}) {
  return {
    statusCode,
    headers: { "content-type": "text/plain; charset=utf-8", ...headers },
    body,
    isBase64Encoded: false,
  };
}

module.exports = { methodOf, respond };
