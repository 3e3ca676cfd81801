"""Serves faulty.py over HTTP, and misbehaves on the connection when a message says so.

Prints the port that it has bound and refuses connections until the first line of its input.
It ends with its input, so that it does not outlive the process that started it.
"""

import http.server
import os
import socket
import socketserver
import sys
import threading
import time

import faulty


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.answer(200, faulty.invoke(body))
        except faulty.FunctionError as error:
            self.answer(500, str(error).encode(), "text/plain")
        except faulty.Rejection as rejection:
            verdict = {"satchel-terminal-error": rejection.code}
            if rejection.index is not None:
                verdict["satchel-terminal-index"] = rejection.index
            self.answer(500, str(rejection).encode(), "text/plain", verdict)
        except faulty.Misbehaviour as misbehaviour:
            self.misbehave(misbehaviour.do)

    def misbehave(self, message):
        what = message["do"]
        if what == "status":
            self.answer(message["status"], b"not now", "text/plain")
        elif what == "nothing":
            self.answer(200, b"", None)
        elif what == "another content type":
            self.answer(200, b"{}", "application/json")
        elif what == "close at once":
            self.close()
        elif what == "close amid the answer":
            self.start(200, 1000, "application/octet-stream")
            self.wfile.write(b"x" * 10)
            self.wfile.flush()
            self.close()
        elif what == "too large":
            self.answer(200, b"x" * 200_000)
        elif what == "no http":
            self.wfile.write(b"not http\r\n\r\n")
            self.wfile.flush()
            self.close()
        else:
            raise SystemExit(f"unknown misbehaviour {what}")

    def answer(self, status, body, kind="application/octet-stream", headers=None):
        self.start(status, len(body), kind, headers or {})
        self.wfile.write(body)

    def start(self, status, size, kind, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, str(value))
        if kind is not None:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def close(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.server_bind()
print(server.server_address[1], flush=True)
if not sys.stdin.readline():
    os._exit(0)
server.server_activate()
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
