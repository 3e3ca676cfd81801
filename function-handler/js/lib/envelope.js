/**
 * The bundle: several batches in one Lambda request, and their results.
 *
 * The form is that of the crate `satchel-protocol`, module `bundle`.
 */
"use strict";

const zstd = require("./zstd");
const { BatchError, InvalidRequest } = require("./errors");

const VERSION = 1;
/** Maximum size of all `to` of a bundle, decompressed. */
const DECOMPRESSED_BYTES_MAX = 64 << 20;
/** Maximum size of the response to a synchronous Lambda request. */
const RESPONSE_BYTES_MAX = 6 << 20;
/** Total size of the answers from which compression saves more than it costs. */
const COMPRESSED_FROM_BYTES = 32 << 10;
/** Average size of the answers below which each of them, a frame of its own, hardly shrinks. */
const COMPRESSED_PART_BYTES_MIN = 1 << 10;

/** Checks the form of a bundle. */
function readBundle(event) {
  if (!Number.isInteger(event.satchel) || event.satchel < 0) {
    throw notABundle("`satchel` is no version");
  }
  if (event.satchel !== VERSION) {
    throw new InvalidRequest(
      `the bundle has version ${event.satchel}, this side understands version ${VERSION}`,
    );
  }
  const { bundle, encoding = "identity", accept = [], batches } = event;
  if (typeof bundle !== "string") {
    throw notABundle("`bundle` is not text");
  }
  if (encoding !== "identity" && encoding !== "zstd") {
    throw notABundle(`the encoding ${JSON.stringify(encoding)} is unknown`);
  }
  if (!Array.isArray(accept) || !accept.every((name) => typeof name === "string")) {
    throw notABundle("`accept` is no list of texts");
  }
  if (!Array.isArray(batches)) {
    throw notABundle("`batches` is no list");
  }
  for (const batch of batches) {
    if (typeof batch?.attempt !== "string" || typeof batch?.to !== "string") {
      throw notABundle("a batch has the texts `attempt` and `to`");
    }
  }
  return { bundle, encoding, accept, batches };
}

/** Returns for each batch its bytes, or the BatchError of one that cannot be read. */
function unpack({ encoding, batches }) {
  let left = DECOMPRESSED_BYTES_MAX;
  return batches.map(({ attempt, to }) => {
    const invalid = (why) => new BatchError("invalid_request", `attempt ${attempt}: ${why}`);
    let bytes = fromBase64(to);
    if (bytes === undefined) {
      return invalid("the payload is not base64");
    }
    if (encoding === "zstd") {
      if (!zstd.available) {
        return invalid("the payload does not decompress: this version of Node.js has no zstd");
      }
      try {
        bytes = zstd.decompress(bytes, left);
      } catch (error) {
        return invalid(`the payload does not decompress: ${error.message}`);
      }
    }
    if (bytes === undefined || bytes.length > left) {
      return invalid(
        `the parts of a bundle may have ${DECOMPRESSED_BYTES_MAX} bytes in all, decompressed, ` +
          "and this one exceeds what is left",
      );
    }
    left -= bytes.length;
    return bytes;
  });
}

/** Returns the response: for each batch, in order, its bytes or a BatchError. */
function respond({ bundle, accept, batches }, answers) {
  let bytes = 0;
  let parts = 0;
  for (const answer of answers) {
    if (!(answer instanceof BatchError)) {
      bytes += answer.length;
      parts += 1;
    }
  }
  const compressed =
    compressionPays(parts, bytes) && accept.includes("zstd") && zstd.available;
  const results = batches.map(({ attempt }, index) => {
    const answer = answers[index];
    if (answer instanceof BatchError) {
      return { attempt, error: answer.toJSON() };
    }
    const packed = compressed ? zstd.compress(answer) : Buffer.from(answer);
    return { attempt, from: packed.toString("base64") };
  });
  const encoding = compressed ? "zstd" : "identity";
  return fit({ satchel: VERSION, bundle, encoding, results }, RESPONSE_BYTES_MAX);
}

/** Returns whether zstd saves more than it costs, or the answers do not fit without it. */
function compressionPays(parts, bytes) {
  // A result has at most 100 bytes of JSON around its base64 text.
  const tooLarge = Math.ceil(bytes / 3) * 4 + 100 * parts > RESPONSE_BYTES_MAX;
  return tooLarge || bytes >= Math.max(COMPRESSED_FROM_BYTES, COMPRESSED_PART_BYTES_MIN * parts);
}

/**
 * Replaces the largest results by errors until the response has at most `bytesMax` as JSON.
 *
 * Most results get through, and a result that is too large by itself displaces no other.
 */
function fit(response, bytesMax) {
  const results = [...response.results];
  const sizes = results.map(jsonBytes);
  // Each result counts with the comma after it.
  let total = sizes.reduce((sum, size) => sum + size + 1, jsonBytes({ ...response, results: [] }));
  const largestFirst = sizes.map((_, index) => index).sort((a, b) => sizes[b] - sizes[a]);
  for (const largest of largestFirst) {
    if (total <= bytesMax) {
      break;
    }
    const error = new BatchError(
      "response_too_large",
      `the result has ${sizes[largest]} bytes; Lambda allows ${RESPONSE_BYTES_MAX} bytes ` +
        "for the results of all batches of a request",
    );
    results[largest] = { attempt: results[largest].attempt, error: error.toJSON() };
    total += jsonBytes(results[largest]) - sizes[largest];
  }
  return { ...response, results };
}

function jsonBytes(value) {
  return Buffer.byteLength(JSON.stringify(value));
}

/** Returns the bytes, or undefined if the text is not base64, which `Buffer.from` never rejects. */
function fromBase64(text) {
  const padding = text.indexOf("=");
  const isPadded = padding === -1 || (padding >= text.length - 2 && text.endsWith("="));
  if (text.length % 4 !== 0 || !isPadded || /[^A-Za-z0-9+/=]/.test(text)) {
    return undefined;
  }
  return Buffer.from(text, "base64");
}

function notABundle(why) {
  return new InvalidRequest(`the payload is not a bundle: ${why}`);
}

module.exports = {
  DECOMPRESSED_BYTES_MAX,
  RESPONSE_BYTES_MAX,
  fit,
  fromBase64,
  jsonBytes,
  readBundle,
  respond,
  unpack,
};
