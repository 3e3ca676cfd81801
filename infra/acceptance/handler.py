"""The function of the acceptance run. It takes the messages of a coordinator and does nothing with
them; any other event says how to misbehave."""

import os
import time

# FromFunction with an empty InvocationResponse (field 100), in base64.
NOTHING = "ogYA"


def handler(event, _context):
    if "batches" in event:
        results = [{"attempt": batch["attempt"], "from": NOTHING} for batch in event["batches"]]
        return {
            "satchel": 1,
            "bundle": event["bundle"],
            "encoding": "identity",
            "results": results,
        }
    if event.get("fail"):
        raise ValueError("asked to fail")
    if event.get("exit"):
        os._exit(3)
    time.sleep(event.get("sleep_seconds", 0))
    return {"text": "x" * event.get("answer_bytes", 0)}
