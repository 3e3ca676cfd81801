"""Answers bundles; the function `spreader` sends one message each to a given number of addresses.

Every request takes 20 ms.
"""

import base64
import http.client
import json
import os
import re
import time

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.headers, response.read()


def varint(number):
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def message_to(number):
    address = field(1, b"example") + field(2, b"worker") + field(3, b"worker-%d" % number)
    argument = field(1, b"satchel/json") + varint(2 << 3) + varint(1) + field(3, b"{}")
    return field(2, field(1, address) + field(2, argument))


def result(batch):
    request = base64.b64decode(batch["to"])
    spread = re.search(rb'"spread": ?(\d+)', request)
    count = int(spread.group(1)) if spread else 0
    answer = field(100, b"".join(map(message_to, range(count))))
    return {"attempt": batch["attempt"], "from": base64.b64encode(answer).decode()}


while True:
    headers, body = call("GET", "/2018-06-01/runtime/invocation/next")
    bundle = json.loads(body)
    time.sleep(0.02)
    results = [result(batch) for batch in bundle["batches"]]
    answer = {"satchel": 1, "bundle": bundle["bundle"], "results": results}
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    call("POST", f"/2018-06-01/runtime/invocation/{request}/response", json.dumps(answer))
