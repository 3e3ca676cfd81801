/**
 * A client of the Lambda Runtime API, for one request at a time.
 *
 * Source: "Using the Lambda runtime API" of the AWS Lambda documentation.
 */
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const PREFIX = "/2018-06-01/runtime";
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

/** Serves the handler with this name, such as `app.handler`, until the process ends. */
async function serve(name) {
  const api = process.env.AWS_LAMBDA_RUNTIME_API;
  if (!api) {
    throw new Error("AWS_LAMBDA_RUNTIME_API is not set: start this with `satchel dev`");
  }
  const call = (method, way, body, headers) => request(api, method, PREFIX + way, body, headers);
  let handler;
  try {
    handler = await load(name);
  } catch (error) {
    await call("POST", "/init/error", ...described(error));
    throw error;
  }
  for (;;) {
    const { headers, body } = await call("GET", "/invocation/next");
    const id = headers["lambda-runtime-aws-request-id"];
    let way = "response";
    let answer;
    try {
      answer = [JSON.stringify(await handler(JSON.parse(body), context(headers))) ?? "null"];
    } catch (error) {
      console.error(error);
      [way, answer] = ["error", described(error)];
    }
    await call("POST", `/invocation/${id}/${way}`, ...answer);
  }
}

/** Finds the exported function in a module below the directory of the function. */
async function load(name) {
  const [, file, exported] = /^(.+)\.([^./]+)$/.exec(name ?? "") ?? [];
  if (file === undefined) {
    throw new Error(`the handler is named as \`file.function\`, and not ${JSON.stringify(name)}`);
  }
  const root = process.env.LAMBDA_TASK_ROOT ?? process.cwd();
  const candidates = [".js", ".mjs", ".cjs"].map((ending) => path.resolve(root, file + ending));
  const found = candidates.find((candidate) => fs.existsSync(candidate));
  if (found === undefined) {
    throw new Error(`there is none of ${candidates.join(", ")}`);
  }
  const module = await import(pathToFileURL(found));
  const handler = module[exported] ?? module.default?.[exported];
  if (typeof handler !== "function") {
    throw new Error(`${found} exports no function \`${exported}\``);
  }
  return handler;
}

function context(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const { env } = process;
  return {
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

/** Returns the body and the headers that describe an error. */
function described(error) {
  const errorType = error?.name ?? typeof error;
  const errorMessage = error?.message ?? String(error);
  const trace = String(error?.stack ?? "").split("\n");
  return [
    JSON.stringify({ errorType, errorMessage, trace }),
    { "lambda-runtime-function-error-type": encodeURIComponent(errorType) },
  ];
}

function request(api, method, way, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const [host, port] = api.split(":");
    const length = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const options = { host, port, method, path: way, agent };
    const sent = http.request({ ...options, headers: { ...headers, ...length } }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

module.exports = { serve };
