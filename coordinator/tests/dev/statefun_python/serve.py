"""Serves functions.py over HTTP with the standard library, as the SDK's examples do with aiohttp.

`GET /` returns how often each function requested missing states. `GET /probes` returns how often
each function declared its states because it was asked, by a batch without messages.
Prints its port, and ends with its input.
"""

import collections
import http.server
import json
import sys
import threading
import traceback

from statefun import RequestReplyHandler
from statefun.request_reply_pb2 import FromFunction, ToFunction

from functions import Rejected, functions

handler = RequestReplyHandler(functions)
handshakes = collections.Counter()
probes = collections.Counter()


def count_handshakes(request, response):
    answer = FromFunction.FromString(response)
    if answer.HasField("incomplete_invocation_context"):
        batch = ToFunction.FromString(request).invocation
        counter = handshakes if batch.invocations else probes
        counter[f"{batch.target.namespace}/{batch.target.type}"] += 1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        request = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            response = handler.handle_sync(request)
        except Rejected as why:
            headers = {"satchel-terminal-error": str(why.code)}
            self.answer(500, "text/plain", str(why).encode(), headers)
        except Exception:
            self.answer(500, "text/plain", traceback.format_exc().encode())
        else:
            count_handshakes(request, response)
            self.answer(200, "application/octet-stream", response)

    def do_GET(self):
        counter = probes if self.path == "/probes" else handshakes
        self.answer(200, "application/json", json.dumps(counter).encode())

    def answer(self, status, kind, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
