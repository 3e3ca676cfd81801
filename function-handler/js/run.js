#!/usr/bin/env node
/**
 * Serves a handler on the Lambda Runtime API, for `satchel dev` and for container images:
 *
 *     satchel-lambda app.handler
 *
 * Lambda's Node.js runtimes do the same. The runtime interface client of AWS does too, but it is
 * compiled at its installation.
 */
"use strict";

const { serve } = require("./lib/runtime");

serve(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
