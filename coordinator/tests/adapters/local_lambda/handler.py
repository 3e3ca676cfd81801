"""A Lambda Runtime API handler with only the standard library that misbehaves on request."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
VERSION = "one"
connection = http.client.HTTPConnection(API)


def call(method, path, body=None, headers=None, on=None):
    over = on or connection
    over.request(method, path, body, headers or {})
    response = over.getresponse()
    return response.status, dict(response.headers), response.read()


def answer(request, body):
    return call("POST", f"/2018-06-01/runtime/invocation/{request}/response", body)


def register_extension(path):
    """Registers an extension as lambda_runtime does, and writes the shutdown event to `path`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    own = http.client.HTTPConnection(API)
    status, headers, body = call(
        "POST", "/2020-01-01/extension/register", json.dumps({"events": ["SHUTDOWN"]}),
        {"Lambda-Extension-Name": "shutdown"}, own)
    headers = {name.lower(): value for name, value in headers.items()}
    identifier = headers["lambda-extension-identifier"]

    def wait():
        headers = {"Lambda-Extension-Identifier": identifier}
        event = call("GET", "/2020-01-01/extension/event/next", headers=headers, on=own)
        with open(path + ".new", "w") as file:
            file.write(event[2].decode())
        os.rename(path + ".new", path)

    threading.Thread(target=wait, daemon=True).start()
    return status, json.loads(body)


def serve(request, headers, event):
    do = event["do"]
    if do == "echo":
        said = event.get("say")
        answer(request, json.dumps({"pid": os.getpid(), "version": VERSION, "said": said}))
    elif do == "describe":
        seen = {"headers": headers, "env": dict(os.environ), "dir": os.getcwd()}
        answer(request, json.dumps(seen))
    elif do == "raise":
        error = {"errorType": "ValueError", "errorMessage": "no such thing"}
        error["stackTrace"] = ["line 1"]
        call("POST", f"/2018-06-01/runtime/invocation/{request}/error", json.dumps(error),
             {"Lambda-Runtime-Function-Error-Type": "ValueError"})
    elif do == "raise without json":
        call("POST", f"/2018-06-01/runtime/invocation/{request}/error", "oops",
             {"Lambda-Runtime-Function-Error-Type": "Custom.Kind"})
    elif do == "exit":
        print("about to give up", file=sys.stderr, flush=True)
        os._exit(3)
    elif do == "answer and exit":
        answer(request, '"last"')
        os._exit(0)
    elif do == "hang":
        time.sleep(1000)
    elif do == "garbage":
        answer(request, b"\xff\x00 not json")
    elif do == "answer wrongly first":
        unknown = answer("00000000-0000-4000-8000-000000000000", '"unknown"')
        nonsense = answer("nonsense", '"nonsense"')
        answer(request, json.dumps([unknown[0], json.loads(unknown[2])["errorType"], nonsense[0]]))
    elif do == "answer twice":
        answer(request, '"first"')
        answer(request, '"second"')
    elif do == "ask twice":
        second = call("GET", "/2018-06-01/runtime/invocation/next")
        answer(request, json.dumps([second[0], json.loads(second[2])["errorType"]]))
    elif do == "too large":
        status, _, body = answer(request, b'"' + b"x" * 7_000_000 + b'"')
        print("too large:", status, json.loads(body)["errorType"], flush=True)
    elif do == "wait for":
        while not os.path.exists(event["file"]):
            time.sleep(0.01)
        answer(request, json.dumps({"pid": os.getpid()}))
    elif do == "extension":
        answer(request, json.dumps(register_extension(event["file"])))
    elif do == "no such call":
        answer(request, json.dumps(call("GET", "/2018-06-01/nothing")[0]))
    elif do == "start a child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        started = {"pid": os.getpid(), "child": child.pid, "env": dict(os.environ)}
        answer(request, json.dumps(started))
        # No further poll: a handler that waits for a request would notice a broken connection.
        time.sleep(1000)
    else:
        raise SystemExit(f"unknown misbehaviour {do}")


print("ready to serve", flush=True)
while True:
    _, headers, body = call("GET", "/2018-06-01/runtime/invocation/next")
    headers = {name.lower(): value for name, value in headers.items()}
    serve(headers["lambda-runtime-aws-request-id"], headers, json.loads(body))
