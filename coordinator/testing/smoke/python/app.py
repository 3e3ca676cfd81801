"""The function of the smoke scheme, on StateFun's Python SDK."""

import asyncio
import json
from datetime import timedelta

from statefun import (
    IntType, StatefulFunctions, ValueSpec, kinesis_egress_message, make_json_type, message_builder)

from satchel_lambda import lambda_handler

Commands = make_json_type("smoke/commands")
functions = StatefulFunctions()


@functions.bind("smoke/command", specs=[ValueSpec("total", IntType), ValueSpec("seen", IntType)])
async def command(context, message):
    context.storage.seen = (context.storage.seen or 0) + 1
    for step in message.as_type(Commands):
        if "add" in step:
            context.storage.total = (context.storage.total or 0) + step["add"]
        elif "send" in step:
            sent = message_builder(
                "smoke/command", step["send"], value=step["then"], value_type=Commands)
            if "after" in step:
                delay = timedelta(milliseconds=step["after"])
                context.send_after(delay, sent, step.get("token", ""))
            else:
                context.send(sent)
        elif "cancel" in step:
            context.cancel_delayed_message(step["cancel"])
        elif "emit" in step:
            context.send_egress(kinesis_egress_message(
                typename="smoke/records", stream="records", partition_key=step["emit"],
                value=json.dumps({"id": step["emit"]})))
        elif "noop" in step:
            await asyncio.sleep(0)
        else:
            raise ValueError(f"unknown command {step}")


handler = lambda_handler(functions)
