"""A function that logs its messages and answers with the log, or misbehaves as a message says.

A message is `{"say": <anything>}` or `{"do": <misbehaviour>}`. With `"while": <file>` the function
misbehaves only while the file exists, with `"times": <n>` only the first n times in a process.
`{"say": "failed attempts"}` logs the number of failed attempts of the message, `{"say": "trace"}`
its trace context. With `"forward": <id>` it says the same to another address, which does not
answer (`"quiet"`).
"""

import json
import os
import time

from statefun import LOG, LOG_TYPE, Answer, Batch, encode_address, incomplete


class Misbehaviour(Exception):
    """A misbehaviour that the transport implements."""

    def __init__(self, do, batch):
        super().__init__(do["do"])
        self.do, self.batch = do, batch


class FunctionError(Exception):
    """An error of the function itself."""


class Rejection(Exception):
    """A verdict on one message for good: its position in the batch, if told, and a status."""

    def __init__(self, do, index):
        super().__init__(f"rejected: {do['why']}")
        self.code = do["code"]
        self.index = None if do.get("hides its position") else index


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
    each = zip(batch.callers, batch.messages, batch.failed_attempts, batch.traces)
    for index, (caller, message, failed_attempts, trace) in enumerate(each):
        if is_faulty(message):
            if message["do"] == "reject":
                raise Rejection(message, index)
            instead = misbehave(message, batch, answer)
            if instead is not None:
                return instead
        said = message.get("say", message.get("do"))
        log.append({"failed attempts": failed_attempts, "trace": trace}.get(said, said)
                   if isinstance(said, str) else said)
        if "forward" in message:
            namespace, name, _ = batch.target
            target = encode_address(namespace, name, message["forward"])
            answer.send(target, "satchel/json", json.dumps({"say": said, "quiet": True}).encode())
        if caller is not None and "quiet" not in message:
            answer.send(caller, "satchel/json", json.dumps(log).encode())
    answer.set_state(LOG, LOG_TYPE, json.dumps(log).encode())
    return answer.encode()


def is_faulty(message):
    if "do" not in message or ("while" in message and not os.path.exists(message["while"])):
        return False
    if "times" in message:
        key = json.dumps(message)
        done[key] = done.get(key, 0) + 1
        return done[key] <= message["times"]
    return True


def misbehave(message, batch, answer):
    """Answers wrongly, or raises; raises `Misbehaviour` for those of the transport."""
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
    if do == "write another type":
        answer.set_state(LOG, "faulty/other", b"[]")
    elif do == "write an undeclared state":
        answer.set_state("undeclared", LOG_TYPE, b"[]")
    elif do == "write to an unknown egress":
        answer.egress("faulty", "nowhere", LOG_TYPE, b"[]")
    elif do == "answer with garbage":
        return b"\xff\xff\xff"
    else:
        raise Misbehaviour(message, batch)
    return None
