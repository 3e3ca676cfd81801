/** The function of the smoke scheme, on StateFun's JavaScript SDK. */
"use strict";

const {
  StateFun,
  kinesisEgressMessage,
  lambdaHandler,
  messageBuilder,
} = require("../../../../function-handler/js");

const Commands = StateFun.jsonType("smoke/commands");
const statefun = new StateFun();

statefun.bind({
  typename: "smoke/command",
  specs: [
    { name: "total", type: StateFun.intType() },
    { name: "seen", type: StateFun.intType() },
  ],
  async fn(context, message) {
    const { storage } = context;
    storage.seen = (storage.seen ?? 0) + 1;
    for (const step of message.as(Commands)) {
      if ("add" in step) {
        storage.total = (storage.total ?? 0) + step.add;
      } else if ("send" in step) {
        const to = { typename: "smoke/command", id: step.send };
        const sent = messageBuilder({ ...to, value: step.then, valueType: Commands });
        if ("after" in step) {
          context.sendAfter(step.after, sent, step.token);
        } else {
          context.send(sent);
        }
      } else if ("cancel" in step) {
        context.cancelDelayedMessage(step.cancel);
      } else if ("emit" in step) {
        const record = { partitionKey: step.emit, value: JSON.stringify({ id: step.emit }) };
        const to = { typename: "smoke/records", stream: "records" };
        context.send(kinesisEgressMessage({ ...to, ...record }));
      } else if ("noop" in step) {
        await new Promise((resolve) => setImmediate(resolve));
      } else {
        throw new Error(`unknown command ${JSON.stringify(step)}`);
      }
    }
  },
});

module.exports = { statefun, handler: lambdaHandler(statefun) };
