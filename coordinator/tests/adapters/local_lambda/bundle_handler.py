"""Answers bundles, and misbehaves when the message of a batch says so."""

import base64
import http.client
import json
import os
import time

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.headers, response.read()


def result(batch):
    message = base64.b64decode(batch["to"])
    if b"refuse" in message:
        return {"attempt": batch["attempt"], "error": {"type": "function", "message": "I will not"}}
    return {"attempt": batch["attempt"], "from": ""}


while True:
    headers, body = call("GET", "/2018-06-01/runtime/invocation/next")
    bundle = json.loads(body)
    results = [result(batch) for batch in bundle["batches"]]
    answer = {"satchel": 1, "bundle": bundle["bundle"], "results": results}
    messages = b"".join(base64.b64decode(batch["to"]) for batch in bundle["batches"])
    if b"exit" in messages:
        os._exit(1)
    if b"hang" in messages:
        time.sleep(1000)
    if b"other bundle" in messages:
        answer["bundle"] = "b0"
    if b"too large" in messages:
        answer["results"][0]["from"] = "A" * 7_000_000
    body = b"\x00garbage" if b"garbage" in messages else json.dumps(answer)
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    call("POST", f"/2018-06-01/runtime/invocation/{request}/response", body)
