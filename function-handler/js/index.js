/** Serves the functions of StateFun's JavaScript SDK on AWS Lambda, for Satchel. */
"use strict";

const { lambdaHandler } = require("./lib/handler");
const { StateFun } = require("./lib/statefun");
const { InvalidRequest, TerminalError } = require("./lib/errors");

module.exports = { lambdaHandler, StateFun, TerminalError, InvalidRequest };
