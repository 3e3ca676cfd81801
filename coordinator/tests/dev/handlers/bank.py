"""A Lambda handler of accounts that send money to one another.

A message does one of these:

- `{"give": <amount>, "to": <id>}` sends the amount to another account
- `{"take": <amount>}` receives it
- `{"through": <id>}` lets another account reply in this one's place
- `{"strange": <id>}` sends a message to a function that nothing serves
- `{"sleep": <seconds>}` takes that long
- `{}` replies with the balance
"""

import base64
import http.client
import json
import os
import time

from statefun import Answer, Batch, encode_address, incomplete

BALANCE, BALANCE_TYPE = "balance", "example/balance"
JSON = "satchel/json"

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    connection.request(method, f"/2018-06-01/runtime/invocation/{path}", body)
    response = connection.getresponse()
    return response.headers, response.read()


def account(identifier):
    return encode_address("example", "account", identifier)


def invoke(body):
    batch = Batch(body)
    if BALANCE not in batch.state:
        return incomplete([(BALANCE, BALANCE_TYPE)])
    balance = json.loads(batch.state[BALANCE] or b"0")
    answer = Answer()

    def send(target, message):
        answer.send(target, JSON, json.dumps(message).encode())

    for caller, message in zip(batch.callers, batch.messages):
        if "give" in message:
            balance -= message["give"]
            send(account(message["to"]), {"take": message["give"]})
        balance += message.get("take", 0)
        time.sleep(message.get("sleep", 0))
        if "strange" in message:
            send(encode_address("elsewhere", "nothing", message["strange"]), {})
        if "through" in message:
            send(account(message["through"]), {"tell": caller.hex()})
        elif "tell" in message:
            send(bytes.fromhex(message["tell"]), {"told_by": batch.target[2]})
        elif caller is not None and "take" not in message:
            send(caller, {"balance": balance})
    answer.set_state(BALANCE, BALANCE_TYPE, json.dumps(balance).encode())
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
