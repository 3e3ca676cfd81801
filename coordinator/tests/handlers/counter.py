"""A Lambda handler that counts: each address adds up what it is told, and emits and sets timers when a message says so.

A message is `{"add": <number>}`, with `"emit": <key>` to emit the sum under that key, and `"again": {"ms": <delay>, "add": <number>}` to be told
once more later. Callers are told the sum.
"""

import base64
import http.client
import json
import os

from statefun import Answer, Batch, encode_address, incomplete, length, text

SUM, SUM_TYPE = "sum", "example/sum"
RECORD_TYPE = "type.googleapis.com/io.statefun.sdk.egress.KinesisEgressRecord"

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    connection.request(method, f"/2018-06-01/runtime/invocation/{path}", body)
    response = connection.getresponse()
    return response.headers, response.read()


def invoke(body):
    batch = Batch(body)
    if SUM not in batch.state:
        return incomplete([(SUM, SUM_TYPE)])
    total = json.loads(batch.state[SUM] or b"0")
    answer = Answer()
    for caller, message in zip(batch.callers, batch.messages):
        total += message["add"]
        told = json.dumps(total).encode()
        if "again" in message:
            again = message["again"]
            told_again = json.dumps({"add": again["add"]}).encode()
            answer.send_later(again["ms"], encode_address(*batch.target), "satchel/json", told_again)
        if "emit" in message:
            record = text(1, message["emit"]) + length(2, told) + text(3, "out")
            answer.egress("example", "out", RECORD_TYPE, record)
        if caller is not None:
            answer.send(caller, "satchel/json", told)
    answer.set_state(SUM, SUM_TYPE, json.dumps(total).encode())
    return answer.encode()


while True:
    headers, body = call("GET", "next")
    bundle = json.loads(body)
    results = [
        {"attempt": batch["attempt"], "from": base64.b64encode(invoke(base64.b64decode(batch["to"]))).decode()}
        for batch in bundle["batches"]
    ]
    answer = {"satchel": 1, "bundle": bundle["bundle"], "results": results}
    call("POST", f"{headers['Lambda-Runtime-Aws-Request-Id']}/response", json.dumps(answer))
