/**
 * Serves the functions of StateFun's JavaScript SDK on AWS Lambda, for Satchel.
 *
 * The exports of the SDK are here too. An application that takes all of them from here has one copy
 * of the SDK, which matters: a `Context` accepts messages of its own copy only.
 */
"use strict";

const { lambdaHandler } = require("./lib/handler");
const { StateFun } = require("./lib/statefun");
const { InvalidRequest, TerminalError } = require("./lib/errors");

module.exports = {
  ...require("apache-flink-statefun"),
  StateFun,
  lambdaHandler,
  TerminalError,
  InvalidRequest,
};
