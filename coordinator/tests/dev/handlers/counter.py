"""A Lambda handler that counts: each address adds up numbers, and emits and sets timers on request.

A message is `{"add": <number>}`. `"emit": <key>` emits the sum under that key.
`"again": {"ms": <delay>, "add": <number>}` adds another number later. The reply is the sum.
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
        encoded = json.dumps(total).encode()
        if "again" in message:
            again = message["again"]
            later = json.dumps({"add": again["add"]}).encode()
            answer.send_later(again["ms"], encode_address(*batch.target), "satchel/json", later)
        if "emit" in message:
            record = text(1, message["emit"]) + length(2, encoded) + text(3, "out")
            answer.egress("example", "out", RECORD_TYPE, record)
        if caller is not None:
            answer.send(caller, "satchel/json", encoded)
    answer.set_state(SUM, SUM_TYPE, json.dumps(total).encode())
    return answer.encode()


while True:
    headers, body = call("GET", "next")
    bundle = json.loads(body)
    results = []
    for batch in bundle["batches"]:
        answered = base64.b64encode(invoke(base64.b64decode(batch["to"]))).decode()
        results.append({"attempt": batch["attempt"], "from": answered})
    answer = {"satchel": 1, "bundle": bundle["bundle"], "results": results}
    call("POST", f"{headers['Lambda-Runtime-Aws-Request-Id']}/response", json.dumps(answer))
