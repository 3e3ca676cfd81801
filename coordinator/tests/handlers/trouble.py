"""A function that keeps a log of what it was told and answers with the log, or misbehaves in the way that a message names.

A message is `{"say": <anything>}` or `{"do": <what>}`. With `"while": <file>` it misbehaves only as long as the file exists, with
`"times": <n>` only the first n times in a process. `{"say": "failed attempts"}` tells how often the message was in vain before.
"""

import json
import os
import time

from statefun import LOG, LOG_TYPE, Answer, Batch, incomplete


class Misbehaviour(Exception):
    """What the transport is to do instead of answering."""

    def __init__(self, do, batch):
        super().__init__(do["do"])
        self.do, self.batch = do, batch


class FunctionError(Exception):
    """An error of the function itself."""


done = {}


def invoke(body):
    """Answers a ToFunction with a FromFunction, or raises."""
    batch = Batch(body)
    if LOG not in batch.state:
        return incomplete([(LOG, LOG_TYPE)])
    log = json.loads(batch.state[LOG] or b"[]")
    if not isinstance(log, list):
        raise FunctionError(f"the log is no list: {log}")
    answer = Answer()
    for caller, message, failed_attempts in zip(batch.callers, batch.messages, batch.failed_attempts):
        if is_trouble(message):
            instead = misbehave(message, batch, answer)
            if instead is not None:
                return instead
        said = message.get("say", message.get("do"))
        log.append(failed_attempts if said == "failed attempts" else said)
        if caller is not None:
            answer.send(caller, "satchel/json", json.dumps(log).encode())
    answer.set_state(LOG, LOG_TYPE, json.dumps(log).encode())
    return answer.encode()


def is_trouble(message):
    if "do" not in message or ("while" in message and not os.path.exists(message["while"])):
        return False
    if "times" in message:
        key = json.dumps(message)
        done[key] = done.get(key, 0) + 1
        return done[key] <= message["times"]
    return True


def misbehave(message, batch, answer):
    """Answers wrongly, or raises; what the message asks of the transport is not for here."""
    do = message["do"]
    if do == "wait":
        while os.path.exists(message["while"]):
            time.sleep(0.01)
        return None
    if do == "raise":
        raise FunctionError("no such thing")
    if do == "exit":
        os._exit(3)
    if do == "hang":
        time.sleep(1000)
    if do == "miss what it was given":
        return incomplete([(LOG, LOG_TYPE)])
    if do == "miss ever more":
        known = len(batch.state)
        return incomplete([(f"state {known + each}", LOG_TYPE) for each in range(300)])
    if do == "declare another type":
        return incomplete([(LOG, "trouble/other")])
    if do == "write another type":
        answer.set_state(LOG, "trouble/other", b"[]")
    elif do == "write an undeclared state":
        answer.set_state("undeclared", LOG_TYPE, b"[]")
    elif do == "write to an unknown egress":
        answer.egress("trouble", "nowhere", LOG_TYPE, b"[]")
    elif do == "answer with garbage":
        return b"\xff\xff\xff"
    else:
        raise Misbehaviour(message, batch)
    return None
