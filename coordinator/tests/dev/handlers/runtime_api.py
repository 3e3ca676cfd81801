"""Serves faulty.py as a Lambda handler, over the Runtime API and with only the standard library."""

import base64
import http.client
import json
import os
import time

import faulty

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response.headers, response.read()


def post(request, kind, body):
    return call("POST", f"/2018-06-01/runtime/invocation/{request}/{kind}", body)


def result(batch):
    """The result of one batch, and the misbehaviour of the transport, if any."""
    try:
        answered = faulty.invoke(base64.b64decode(batch["to"]))
        return {"attempt": batch["attempt"], "from": base64.b64encode(answered).decode()}, None
    except faulty.FunctionError as error:
        error = {"type": "FunctionError", "message": str(error)}
        return {"attempt": batch["attempt"], "error": error}, None
    except faulty.Rejection as rejection:
        terminal = {"code": rejection.code, "message": str(rejection)}
        if rejection.index is not None:
            terminal["index"] = rejection.index
        error = {"type": "terminal", "message": str(rejection), "terminal": terminal}
        return {"attempt": batch["attempt"], "error": error}, None
    except faulty.Misbehaviour as misbehaviour:
        return {"attempt": batch["attempt"], "from": ""}, misbehaviour


def another(attempt):
    """An attempt that does not exist yet."""
    partition, epoch, number = attempt.split("-")
    return f"{partition}-{epoch}-{int(number) + 1_000_000}"


def serve(request, bundle):
    results, answer_to = [], request
    answer = {"satchel": 1, "bundle": bundle["bundle"], "results": results}
    for batch in bundle["batches"]:
        answered, misbehaviour = result(batch)
        results.append(answered)
        what = misbehaviour and misbehaviour.do["do"]
        if what == "panic":
            error = {"errorType": "Panic", "errorMessage": "the handler panicked"}
            return post(request, "error", json.dumps(error))
        if what == "no json":
            return post(request, "response", b"\x00\xff garbage")
        if what == "another form":
            return post(request, "response", json.dumps({"statusCode": 200}))
        if what == "another bundle":
            answer["bundle"] = "b0"
        elif what == "another attempt":
            answered["attempt"] = another(batch["attempt"])
        elif what == "no result":
            results.pop()
        elif what == "no base64":
            answered["from"] = "%%%"
        elif what == "too large":
            answered["from"] = "A" * 7_000_000
        elif what == "another request":
            answer_to = "00000000-0000-4000-8000-000000000000"
        elif what is not None:
            raise SystemExit(f"unknown misbehaviour {what}")
    post(answer_to, "response", json.dumps(answer))
    if answer_to != request:
        # A poll for the next request would be rejected while this one is held.
        time.sleep(1000)


while True:
    headers, body = call("GET", "/2018-06-01/runtime/invocation/next")
    serve(headers["Lambda-Runtime-Aws-Request-Id"], json.loads(body))
