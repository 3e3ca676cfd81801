/** The function of the vectors, on StateFun's SDK; see vectors/README.md of the handler. */
"use strict";

const { StateFun, TerminalError, lambdaHandler, messageBuilder } = require("..");

const statefun = new StateFun();

statefun.bind({
  typename: "vectors/counter",
  specs: [{ name: "count", type: StateFun.intType() }],
  fn(context, message) {
    const [, command, rest] = /^(\w+) (.*)$/.exec(message.asString());
    const reply = (value, valueType) => {
      const { typename, id } = context.caller;
      context.send(messageBuilder({ typename, id, value, valueType }));
    };
    if (command === "add") {
      context.storage.count = (context.storage.count ?? 0) + Number(rest);
      reply(context.storage.count, StateFun.intType());
    } else if (command === "answer") {
      reply("x".repeat(Number(rest)), StateFun.stringType());
    } else if (command === "fail") {
      throw new Error(rest);
    } else if (command === "reject") {
      const [, code, text] = /^(\d+) (.*)$/.exec(rest);
      throw new TerminalError(Number(code), text);
    } else {
      throw new Error(`what is ${command}?`);
    }
  },
});

exports.handler = lambdaHandler(statefun);
