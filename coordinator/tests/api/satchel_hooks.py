"""Hooks of schemathesis: values of parameters that exist, the token, and a check of errors."""

import json
import os

import schemathesis

KNOWN = {
    "namespace": ["shop", "billing"],
    "name": ["order", "stock", "orders", "invoice"],
    "id": ["alice", "bob", "apple", "7"],
    "state": ["order", "total", "note", "label"],
    "letter": json.loads(os.environ["SATCHEL_LETTERS"]),
    "partition": [0, 1],
    "file": ["app.js", "pages/overview.js", "style.css"],
    "function": ["shop/order", "shop/stock"],
    "timeout": ["1s", "500ms"],
}
METHODS = ["get", "put", "post", "delete"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Half of the values of a parameter are known ones. Whatever changes something needs the token,
    since the process has one."""
    components = raw_schema["components"]["parameters"]
    for path, operations in raw_schema["paths"].items():
        for method in METHODS:
            operation = operations.get(method, {})
            if operation and method != "get":
                operation["security"] = [{"token": []}]
            for at, parameter in enumerate(operation.get("parameters", [])):
                if "$ref" in parameter:
                    parameter = json.loads(json.dumps(components[parameter["$ref"].split("/")[-1]]))
                    operation["parameters"][at] = parameter
                name = parameter["name"]
                if name == "id" and "/dead-letters/" in path:
                    name = "letter"
                if name in KNOWN:
                    schema = parameter["schema"]
                    parameter["schema"] = {"anyOf": [{"enum": KNOWN[name]}, schema]}


# Errors of the server that are right in this application: a paused function, a call to what is
# suspended or not there, a moment of the past while another one is read.
UNAVAILABLE = {
    500: {"dead_letter"},
    503: {"function_paused", "busy"},
    504: {"timeout"},
}


@schemathesis.check
def errors_are_explained(ctx, response, case):
    """An error has the documented form, and one of the server a reason that lies outside of it."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    if case.path in ("/healthz", "/readyz"):
        return
    error = response.json()["error"]
    assert set(error) == {"code", "message"} and error["message"], error
    if response.status_code >= 500:
        codes = UNAVAILABLE.get(response.status_code, set())
        assert error["code"] in codes, f"{response.status_code} {error}"
