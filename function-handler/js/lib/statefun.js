/**
 * Batches for the functions of StateFun's SDK.
 *
 * The SDK answers every error alike and without its reason. So this module calls the part of the
 * SDK behind `StateFun.handle`, which rejects with the error.
 */
"use strict";

const sdk = require("apache-flink-statefun");
const { FunctionSpec } = require("apache-flink-statefun/dist/core");
const { handle } = require("apache-flink-statefun/dist/handler");
const { BatchError, terminalIn } = require("./errors");

/** StateFun's `StateFun`, with the reasons of errors kept for bundles. */
class StateFun extends sdk.StateFun {
  #specs = new Map();

  bind(options) {
    super.bind(options);
    this.#specs.set(options.typename, FunctionSpec.fromOpts(options));
  }

  /** Answers one batch with bytes, or rejects with a BatchError. */
  static answer(statefun, request) {
    const target = targetOf(request);
    return #specs in statefun
      ? answerBound(statefun.#specs, target, request)
      : answerPlain(statefun, request);
  }
}

/** Reads what the answer depends on. */
function targetOf(request) {
  let toFunction;
  try {
    toFunction = proto.io.statefun.sdk.reqreply.ToFunction.deserializeBinary(request);
  } catch (error) {
    const why = `the payload is not a ToFunction: ${error.message}`;
    throw new BatchError("invalid_request", why);
  }
  const batch = toFunction.getInvocation();
  if (!batch) {
    throw new BatchError("invalid_request", "the request holds no batch");
  }
  const target = batch.getTarget();
  if (!target) {
    throw new BatchError("invalid_request", "the batch has no target");
  }
  return {
    typename: `${target.getNamespace()}/${target.getType()}`,
    messages: batch.getInvocationsList().length,
  };
}

async function answerBound(specs, { typename, messages }, request) {
  const spec = specs.get(typename);
  if (spec === undefined) {
    // Every message of the batch is rejected. The first is, and the others follow it.
    const terminal = { index: 0, code: 404, message: `there is no function ${typename}` };
    const known = [...specs.keys()].sort().join(", ");
    const why = `this handler has no function ${typename}; it has ${known}`;
    throw new BatchError("unknown_function", why, terminal);
  }
  let begun = 0;
  // Position of the message that the function is at.
  let running;
  const counted = async (context, message) => {
    running = begun;
    begun += 1;
    await spec.fn(context, message);
    running = undefined;
  };
  const functions = { [typename]: new FunctionSpec(typename, counted, spec.valueSpecs) };
  try {
    return await handle(request, functions);
  } catch (error) {
    throw failed(error, running, messages);
  }
}

/** Answers with a `StateFun` of the SDK, which says no more than that it failed. */
async function answerPlain(statefun, request) {
  const response = {
    writeHead(status) {
      this.status = status;
    },
    end(bytes) {
      this.bytes = bytes;
    },
  };
  await statefun.handle([request], response);
  if (response.status !== 200) {
    const why =
      "the function failed; the SDK does not say why, unless the functions are bound to the " +
      "`StateFun` of satchel-js";
    throw new BatchError("function", why);
  }
  return response.bytes;
}

function failed(error, index, messages) {
  const located = (text) =>
    index === undefined || messages === 1 ? text : `message ${index + 1} of ${messages}: ${text}`;
  const terminal = terminalIn(error);
  if (terminal === undefined) {
    return new BatchError("function", located(textOf(error)), undefined, { cause: error });
  }
  const { code, message } = terminal;
  const rejection = index === undefined ? { code, message } : { index, code, message };
  // The first message of a batch is concluded by this, so its text stands alone.
  return new BatchError("terminal", index === 0 ? message : located(message), rejection);
}

/** Describes what was thrown, which may be anything. */
function textOf(error) {
  try {
    return String(error);
  } catch {
    return "the function threw a value that is not text";
  }
}

module.exports = { StateFun };
