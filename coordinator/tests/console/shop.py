"""A shop over StateFun's HTTP protocol, in plain Python: the application of the console's test.

Serves the functions `shop/order` and `shop/stock` at the port that it is given. A message is JSON:

- `{"item": <name>, "number": <count>}` adds to the order, and is answered with it;
- `{"remind": <ms>}` sets a timer, with `"emit": <text>` a record leaves for the egress;
- `{"reserve": <name>}` sends a message to the stock of that name;
- `{"invalid": <why>}` is rejected for good.

It ends with its input, so that it does not outlive the process that started it.
"""

import http.server
import json
import pathlib
import socketserver
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "dev/handlers"))

from statefun import Answer, Batch, encode_address, incomplete, length, text  # noqa: E402

ORDER, TOTAL, NOTE, LABEL = "order", "total", "note", "label"
TYPES = {
    ORDER: "shop/order",
    TOTAL: "io.statefun.types/long",
    NOTE: "io.statefun.types/string",
    LABEL: "shop/label",
}
RECORD_TYPE = "type.googleapis.com/io.statefun.sdk.egress.KinesisEgressRecord"
# Beginning of the addresses of callers outside. Functions get no answer, to which they would reply.
OUTSIDE = text(1, "satchel")
# What a browser must show as it is.
SCRIPT = "<img src=x onerror=window.ran=1><script>window.ran=1</script>"


class Rejection(Exception):
    def __init__(self, why, index):
        super().__init__(why)
        self.index = index


def invoke(body):
    batch = Batch(body)
    missing = [(name, TYPES[name]) for name in TYPES if name not in batch.state]
    if missing:
        return incomplete(missing)
    order = json.loads(batch.state[ORDER] or b'{"lines": {}}')
    answer = Answer()
    for index, (caller, message) in enumerate(zip(batch.callers, batch.messages)):
        if not isinstance(message, dict):
            raise Rejection("a message is an object", index)
        if "invalid" in message:
            raise Rejection(message["invalid"], index)
        if "item" in message:
            lines = order["lines"]
            lines[message["item"]] = lines.get(message["item"], 0) + message.get("number", 1)
        if "remind" in message:
            answer.send_later(message["remind"], encode_address(*batch.target), "satchel/json",
                              json.dumps({"item": "reminder"}).encode())
        if "reserve" in message:
            stock = encode_address("shop", "stock", message["reserve"])
            answer.send(stock, "satchel/json", json.dumps({"item": batch.target[2]}).encode())
        if "emit" in message:
            record = text(1, batch.target[2]) + length(2, message["emit"].encode())
            answer.egress("shop", "shipments", RECORD_TYPE, record + text(3, "shipments"))
        if caller is not None and caller.startswith(OUTSIDE):
            answer.send(caller, "satchel/json", json.dumps(order).encode())
    answer.set_state(ORDER, TYPES[ORDER], json.dumps(order).encode())
    total = sum(order["lines"].values())
    # Larger than what JavaScript's numbers hold exactly.
    answer.set_state(TOTAL, TYPES[TOTAL], b"\x09" + struct.pack("<q", 9007199254740993 + total))
    note = f"{SCRIPT} for {batch.target[2]}".encode()
    answer.set_state(NOTE, TYPES[NOTE], length(1, note))
    answer.set_state(LABEL, TYPES[LABEL], bytes(range(0, 256, 5)) + b"\xff\xfe")
    return answer.encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.answer(200, invoke(body), {"Content-Type": "application/octet-stream"})
        except Rejection as rejection:
            self.answer(500, str(rejection).encode(), {
                "Content-Type": "text/plain",
                "satchel-terminal-error": "422",
                "satchel-terminal-index": str(rejection.index),
            })

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
