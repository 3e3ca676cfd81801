/** Serves the function over HTTP. Prints its port, and ends with its input. */
"use strict";

const http = require("node:http");
const { statefun } = require("./app");

const server = http.createServer(statefun.handler());
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
