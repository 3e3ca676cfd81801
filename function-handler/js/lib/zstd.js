/**
 * Compression with zstd, where Node.js has it: since 22.15 and 23.8.
 *
 * Without it, responses are not compressed. Requests are not compressed then either, because a
 * coordinator compresses only for handlers that have answered so.
 */
"use strict";

const zlib = require("node:zlib");

const { constants } = zlib;

/** Binary logarithm of the maximum window: a larger one would only take memory. */
const WINDOW_LOG_MAX = 26;

const available = typeof zlib.zstdCompressSync === "function";

function compress(bytes) {
  return zlib.zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
}

/** Decompresses at most `bytesMax`. Returns undefined if there is more. */
function decompress(bytes, bytesMax) {
  try {
    return zlib.zstdDecompressSync(bytes, {
      maxOutputLength: Math.max(bytesMax, 1),
      params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
    });
  } catch (error) {
    if (error.code === "ERR_BUFFER_TOO_LARGE") {
      return undefined;
    }
    throw error;
  }
}

module.exports = { available, compress, decompress };
