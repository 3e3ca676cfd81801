/** The vectors that handlers of every language are tested with; see their README.md. */
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");

// Failed batches are logged, as they should be.
test.mock.method(console, "error", () => {});

const { handler } = require("./vectors-app");
const zstd = require("../lib/zstd");

const file = path.join(__dirname, "../../vectors/bundles.json");

/** A FromFunction in the form in which the vectors compare it. */
function decoded(bytes) {
  const answer = proto.io.statefun.sdk.reqreply.FromFunction.deserializeBinary(bytes);
  const missing = answer.getIncompleteInvocationContext()?.getMissingValuesList() ?? [];
  for (const value of missing) {
    if (!value.getExpirationSpec()?.getMode()) {
      value.clearExpirationSpec();
    }
  }
  return answer.toObject();
}

function unpacked(encoding, text) {
  const bytes = Buffer.from(text, "base64");
  return encoding === "zstd" ? zstd.decompress(bytes, 1 << 30) : bytes;
}

for (const vector of JSON.parse(fs.readFileSync(file, "utf8"))) {
  const skip = (vector.needs ?? []).includes("zstd") && !zstd.available;
  test(vector.name, { skip: skip && "this version of Node.js has no zstd" }, async () => {
    if (vector.function_error) {
      const { errorType, errorMessage } = vector.function_error;
      await assert.rejects(handler(vector.request), (error) => {
        assert.equal(error.name, errorType);
        assert.ok(error.message.startsWith(errorMessage), error.message);
        return true;
      });
      return;
    }
    // As Lambda's runtime passes it on.
    const answer = JSON.parse(JSON.stringify(await handler(vector.request)));
    if (vector.http) {
      checkHttp(answer, vector.http);
    } else {
      checkBundle(answer, vector.response);
    }
  });
}

function checkHttp(answer, expected) {
  assert.equal(answer.statusCode, expected.statusCode);
  assert.deepEqual({ ...answer.headers, ...expected.headers }, answer.headers);
  if (expected.from === undefined) {
    assert.ok(answer.body.startsWith(expected.body), answer.body);
    return;
  }
  assert.equal(answer.isBase64Encoded, true);
  const bytes = Buffer.from(answer.body, "base64");
  assert.deepEqual(decoded(bytes), decoded(Buffer.from(expected.from, "base64")));
}

function checkBundle(answer, expected) {
  for (const field of ["satchel", "bundle", "encoding"]) {
    assert.equal(answer[field], expected[field]);
  }
  const attempts = (response) => response.results.map(({ attempt }) => attempt);
  assert.deepEqual(attempts(answer), attempts(expected));
  answer.results.forEach((result, index) => {
    const wanted = expected.results[index];
    if (wanted.from !== undefined) {
      assert.deepEqual(Object.keys(result), ["attempt", "from"], JSON.stringify(result));
      const read = (from) => decoded(unpacked(expected.encoding, from));
      assert.deepEqual(read(result.from), read(wanted.from));
      return;
    }
    assert.deepEqual(Object.keys(result), ["attempt", "error"]);
    assert.equal(result.error.type, wanted.error.type);
    assert.deepEqual(result.error.terminal, wanted.error.terminal);
    assert.ok(result.error.message.includes(wanted.error.message), result.error.message);
  });
}
