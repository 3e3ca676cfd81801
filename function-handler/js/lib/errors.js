/** Errors of requests, and of batches as they travel in a bundle. */
"use strict";

/** Maximum length of an error text in bytes, so that it cannot displace the results beside it. */
const ERROR_BYTES_MAX = 8 << 10;

/** Rejection of a message for good; see index.d.ts. */
class TerminalError extends Error {
  constructor(code, message, options) {
    if (!Number.isInteger(code) || code < 400 || code > 500) {
      throw new RangeError(
        `a terminal error has a code from 400 to 499, or 500, and not ${String(code)}`,
      );
    }
    super(message, options);
    this.name = "TerminalError";
    this.code = code;
  }
}

/**
 * A Lambda request that is neither a bundle of a known version nor an HTTP request.
 *
 * Lambda reports the name as the type of the error, and the coordinator knows this name.
 */
class InvalidRequest extends Error {
  constructor(message) {
    super(message);
    this.name = "invalid_request";
  }
}

/** Failure of one batch: the field `error` of its result. */
class BatchError extends Error {
  constructor(type, message, terminal, options) {
    super(shortened(message), options);
    this.type = type;
    this.terminal = terminal && { ...terminal, message: shortened(terminal.message) };
  }

  toJSON() {
    const error = { type: this.type, message: this.message };
    return this.terminal ? { ...error, terminal: this.terminal } : error;
  }
}

/** Returns the terminal error among an error and its causes, or undefined. */
function terminalIn(error) {
  const seen = new Set();
  while (error !== undefined && error !== null && !seen.has(error)) {
    if (error instanceof TerminalError) {
      return error;
    }
    seen.add(error);
    error = error.cause;
  }
  return undefined;
}

function shortened(text) {
  const bytes = Buffer.from(text);
  if (bytes.length <= ERROR_BYTES_MAX) {
    return text;
  }
  let end = ERROR_BYTES_MAX;
  // Not within a character.
  while ((bytes[end] & 0xc0) === 0x80) {
    end -= 1;
  }
  return `${bytes.toString("utf8", 0, end)}…`;
}

module.exports = { BatchError, ERROR_BYTES_MAX, InvalidRequest, TerminalError, terminalIn };
