"""A Lambda handler whose deployed version is a file, read for each request.

The file, the only argument, is JSON: `{"satchel": <version of the bundle>, "states": {<name>:
<typename>}}`. A message is `{"add": <number>}`; the function adds it to its state `sum` and replies
with the sum. As StateFun's SDKs do, it declares only the states that a request lacks, and fails if
a value in a request has another type than declared. `{"show": true}` replies with the names of the
states in the request.
"""

import base64
import http.client
import json
import os
import sys

from statefun import Answer, Batch, incomplete, message

SUM = "sum"
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    connection.request(method, f"/2018-06-01/runtime/invocation/{path}", body)
    response = connection.getresponse()
    return response.headers, response.read()


def typenames(body):
    """The typename of each value in a request, by the name of its state."""
    request = message(message(body)[100][0])
    states = map(message, request.get(2, []))
    values = {state[1][0].decode(): message(state[2][0]) for state in states if 2 in state}
    return {name: value[1][0].decode() for name, value in values.items() if value.get(2)}


def invoke(body, states):
    batch = Batch(body)
    missing = [(name, typename) for name, typename in states.items() if name not in batch.state]
    if missing:
        return {"from": incomplete(missing)}
    for name, typename in typenames(body).items():
        if states.get(name, typename) != typename:
            return {"error": {"type": "ValueError", "message": f"{name} is a {typename}"}}
    total = json.loads(batch.state[SUM] or b"0")
    answer = Answer()
    for caller, content in zip(batch.callers, batch.messages):
        total += content.get("add", 0)
        reply = sorted(batch.state) if "show" in content else total
        if caller is not None:
            answer.send(caller, "satchel/json", json.dumps(reply).encode())
    answer.set_state(SUM, states[SUM], json.dumps(total).encode())
    return {"from": answer.encode()}


while True:
    headers, body = call("GET", "next")
    bundle = json.loads(body)
    with open(sys.argv[1], encoding="utf-8") as file:
        version = json.load(file)
    results = []
    for each in bundle["batches"]:
        result = invoke(base64.b64decode(each["to"]), version["states"])
        if "from" in result:
            result["from"] = base64.b64encode(result["from"]).decode()
        results.append({"attempt": each["attempt"], **result})
    answer = {"satchel": version["satchel"], "bundle": bundle["bundle"], "results": results}
    call("POST", f"{headers['Lambda-Runtime-Aws-Request-Id']}/response", json.dumps(answer))
