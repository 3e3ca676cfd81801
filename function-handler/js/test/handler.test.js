/** What the vectors do not tell: concurrency, deadlines, errors of JavaScript, the runtime. */
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const test = require("node:test");

// Failed batches are logged, as they should be.
test.mock.method(console, "error", () => {});

const sdk = require("apache-flink-statefun");
const { StateFun, TerminalError, lambdaHandler, messageBuilder } = require("..");
const { ERROR_BYTES_MAX, BatchError } = require("../lib/errors");
const { fit, fromBase64, jsonBytes } = require("../lib/envelope");

function batch(typename, texts, id = "x") {
  const { Address, ToFunction } = proto.io.statefun.sdk.reqreply;
  const [namespace, type] = typename.split("/");
  const request = new ToFunction.InvocationBatchRequest();
  const target = new Address();
  target.setNamespace(namespace);
  target.setType(type);
  target.setId(id);
  request.setTarget(target);
  for (const value of texts) {
    const invocation = new ToFunction.Invocation();
    invocation.setArgument(messageBuilder({ typename, id, value }).typedValue);
    request.addInvocations(invocation);
  }
  const toFunction = new ToFunction();
  toFunction.setInvocation(request);
  return Buffer.from(toFunction.serializeBinary()).toString("base64");
}

function bundle(...batches) {
  const named = batches.map((to, number) => ({ attempt: String(number), to }));
  return { satchel: 1, bundle: "b", batches: named };
}

/** For each result the texts that its function sent, or the type and text of its error. */
function outcomes(response) {
  const { FromFunction } = proto.io.statefun.sdk.reqreply;
  return response.results.map(({ from, error }) => {
    if (error !== undefined) {
      return [error.type, error.message];
    }
    const sent = FromFunction.deserializeBinary(Buffer.from(from, "base64"))
      .getInvocationResult()
      .getOutgoingMessagesList();
    // Each value is the protobuf message StringWrapper: a tag, a length below 128, the text.
    const text = (message) => Buffer.from(message.getArgument().getValue_asU8()).toString();
    return sent.map((message) => text(message).slice(2));
  });
}

function say(context, value) {
  context.send(messageBuilder({ typename: "t/t", id: "t", value }));
}

function bound(functions, statefun = new StateFun()) {
  for (const [typename, fn] of Object.entries(functions)) {
    statefun.bind({ typename, fn });
  }
  return lambdaHandler(statefun);
}

test("batches run at the same time, and the messages of a batch in order", async () => {
  const waiting = [];
  const handler = bound({
    "t/meets": async (context, message) => {
      await new Promise((resolve) => {
        waiting.push(resolve);
        if (waiting.length === 3) {
          waiting.forEach((each) => each());
        }
      });
      say(context, message.asString());
    },
    "t/echo": async (context, message) => {
      await new Promise((resolve) => setImmediate(resolve));
      say(context, message.asString());
    },
  });
  const met = ["1", "2", "3"].map((id) => batch("t/meets", [id], id));
  const ordered = batch("t/echo", ["a", "b", "c"]);
  const response = await handler(bundle(...met, ordered, batch("t/echo", [], "y")));
  assert.deepEqual(outcomes(response), [["1"], ["2"], ["3"], ["a", "b", "c"], []]);
});

test("a batch that hangs costs only itself", async () => {
  const handler = bound({
    "t/hangs": () => new Promise(() => {}),
    "t/done": (context) => say(context, "done"),
  });
  const request = bundle(batch("t/hangs", ["x"]), batch("t/done", ["x"]));
  const response = await handler(request, { getRemainingTimeInMillis: () => 200 });
  const late = "the batch was not done before the deadline of the Lambda request";
  assert.deepEqual(outcomes(response), [["timeout", late], ["done"]]);
  for (const past of [0, -5]) {
    const inPast = { getRemainingTimeInMillis: () => past };
    assert.deepEqual(outcomes(await handler(bundle(batch("t/done", ["x"])), inPast)), [["done"]]);
  }
});

test("errors name their type, their message and the position of the message", async () => {
  const circular = new Error("loop");
  circular.cause = circular;
  const thrown = {
    cause: new Error("bad order", { cause: new TerminalError(409, "sold out") }),
    circular,
    text: "just text",
    nothing: undefined,
    opaque: Object.create(null),
    long: new Error("€".repeat(ERROR_BYTES_MAX)),
  };
  const handler = bound({
    "t/fails": async (context, message) => {
      if (message.asString() in thrown) {
        throw thrown[message.asString()];
      }
    },
    "t/unsendable": (context) => {
      context.send({});
    },
  });
  const names = Object.keys(thrown);
  const response = await handler(
    bundle(
      ...names.map((name) => batch("t/fails", ["fine", name])),
      batch("t/unsendable", ["x"]),
      batch("t/unbound", ["x"]),
    ),
  );
  const found = outcomes(response);
  const [[type, long]] = found.splice(5, 1);
  assert.deepEqual([type, long.endsWith("€…")], ["function", true]);
  assert.ok(Buffer.byteLength(long) <= ERROR_BYTES_MAX + 3, long.length);
  assert.deepEqual(found, [
    ["terminal", "message 2 of 2: sold out"],
    ["function", "message 2 of 2: Error: loop"],
    ["function", "message 2 of 2: just text"],
    ["function", "message 2 of 2: undefined"],
    ["function", "message 2 of 2: the function threw a value that is not text"],
    ["function", "Error: Unknown message type [object Object]"],
    ["unknown_function", "this handler has no function t/unbound; it has t/fails, t/unsendable"],
  ]);
  const { terminal } = response.results[0].error;
  assert.deepEqual(terminal, { index: 1, code: 409, message: "sold out" });
});

test("functions that are bound to the SDK's own StateFun are served without reasons", async () => {
  const functions = {
    "t/done": (context) => say(context, "done"),
    "t/fails": () => {
      throw new TerminalError(409, "sold out");
    },
  };
  const handler = bound(functions, new sdk.StateFun());
  const request = bundle(batch("t/done", ["x"]), batch("t/fails", ["x"]));
  const why =
    "the function failed; the SDK does not say why, unless the functions are bound to the " +
    "`StateFun` of satchel-js";
  assert.deepEqual(outcomes(await handler(request)), [["done"], ["function", why]]);
});

test("the exports of the SDK are exported, with another StateFun", async () => {
  const { lambdaHandler: own, ...exported } = await import("../index.js");
  for (const name of Object.keys(sdk).filter((name) => name !== "StateFun")) {
    assert.equal(exported[name], sdk[name], name);
  }
  assert.equal(own, lambdaHandler);
  assert.equal(Object.getPrototypeOf(exported.StateFun), sdk.StateFun);
});

test("wrong arguments are named", () => {
  assert.throws(() => lambdaHandler({}), /the functions are a `StateFun`/);
  for (const code of [399, 501, "404", 404.5]) {
    assert.throws(() => new TerminalError(code, "no"), /a terminal error has a code from 400/);
  }
  for (const text of ["A", "A===", "=AAA", "AA=A", "AAA-", "AA A", "AAA=AAAA"]) {
    assert.equal(fromBase64(text), undefined, text);
  }
  assert.deepEqual(["", "AA==", "AAA="].map((text) => fromBase64(text).length), [0, 1, 2]);
});

test("the largest results are replaced until the response fits", () => {
  const response = (...sizes) => ({
    satchel: 1,
    bundle: "b",
    encoding: "identity",
    results: sizes.map((size) => ({ attempt: String(size), from: "A".repeat(size) })),
  });
  const fitted = fit(response(1000, 9000, 4000, 6000), 6000);
  const kinds = fitted.results.map((result) => result.error?.type);
  assert.deepEqual(kinds, [undefined, "response_too_large", undefined, "response_too_large"]);
  assert.ok(jsonBytes(fitted) <= 6000);
  const whole = response(100, 100);
  // The estimate counts a comma after the last result, which has none.
  assert.deepEqual(fit(whole, jsonBytes(whole) + 1), whole);
  assert.notDeepEqual(fit(whole, jsonBytes(whole) - 1), whole);
  assert.equal(new BatchError("x", "€".repeat(3000)).message, `${"€".repeat(2730)}…`);
});

test("the runtime serves a handler and reports its errors", async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "satchel-js-"));
  t.after(() => fs.rmSync(dir, { recursive: true }));
  fs.writeFileSync(
    path.join(dir, "app.mjs"),
    `export async function handler(event, context) {
       if (event.fail) throw Object.assign(new Error("no"), { name: "invalid_request" });
       if (event.nothing) return undefined;
       const left = context.getRemainingTimeInMillis();
       return { event, id: context.awsRequestId, left: left > 0 && left <= 60_000 };
     }`,
  );
  const events = [{ text: "ü" }, { fail: true }, { nothing: true }];
  const answers = [];
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) {
      chunks.push(chunk);
    }
    if (request.url.endsWith("/next")) {
      const event = events.shift();
      if (event !== undefined) {
        response.setHeader("lambda-runtime-aws-request-id", `id-${events.length}`);
        response.setHeader("lambda-runtime-deadline-ms", Date.now() + 60_000);
        response.end(JSON.stringify(event));
      } else {
        server.emit("all answered");
      }
      return;
    }
    const { trace, ...answer } = JSON.parse(Buffer.concat(chunks)) ?? {};
    answers.push([request.url.replace(/^.*runtime/, ""), answer]);
    response.statusCode = 202;
    response.end("{}");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const serve = (name) => {
    const child = spawn(process.execPath, [path.join(__dirname, "../run.js"), name], {
      cwd: dir,
      env: {
        ...process.env,
        AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${server.address().port}`,
        LAMBDA_TASK_ROOT: dir,
      },
      stdio: "ignore",
    });
    return [child, new Promise((resolve) => child.on("exit", resolve))];
  };

  const allAnswered = new Promise((resolve) => server.once("all answered", resolve));
  const [child, ended] = serve("app.handler");
  await Promise.race([allAnswered, ended]);
  child.kill("SIGKILL");
  await ended;
  assert.deepEqual(answers.splice(0), [
    ["/invocation/id-2/response", { event: { text: "ü" }, id: "id-2", left: true }],
    ["/invocation/id-1/error", { errorType: "invalid_request", errorMessage: "no" }],
    ["/invocation/id-0/response", {}],
  ]);

  for (const [name, message] of [
    ["app.missing", /exports no function `missing`/],
    ["other.handler", /there is none of .*other\.js/],
    ["handler", /the handler is named as `file\.function`, and not "handler"/],
  ]) {
    const [, code] = serve(name);
    assert.equal(await code, 1);
    const [[way, answer]] = answers.splice(0);
    assert.equal(way, "/init/error");
    assert.match(answer.errorMessage, message);
  }
});
