// The example `greeter` as a virtual object of Restate: reads and writes one state, and replies.

import { createRequire } from "node:module";

// Node.js has it since version 22.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

// The packages are in RESTATE_DIR, not beside this file.
const require = createRequire(process.env.RESTATE_DIR + "/");
const restate = require("@restatedev/restate-sdk");

const greeter = restate.object({
  name: "Greeter",
  handlers: {
    greet: async (ctx, { name }) => {
      const seen = ((await ctx.get("seen")) ?? 0) + 1;
      ctx.set("seen", seen);
      return { greeting: `Hello ${name}, we have met ${seen} times.`, seen };
    },
  },
});

restate.serve({ services: [greeter], port: Number(process.argv[2]) });
