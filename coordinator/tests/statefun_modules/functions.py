"""A greeter on the official Python SDK of StateFun, with an egress of each kind.

Serves over HTTP, over HTTPS with client certificates, and over a Unix socket with and without TLS.
Prints its ports as JSON, and ends with its input. Arguments: the directory of the sockets, and that
of the certificates.
"""

import http.server
import json
import os
import socket
import ssl
import sys
import threading
import traceback

from statefun import (
    IntType, RequestReplyHandler, StatefulFunctions, ValueSpec, egress_message_builder,
    kafka_egress_message, kinesis_egress_message, make_json_type)

functions = StatefulFunctions()
GreetRequest = make_json_type("example/GreetRequest")
Greeting = make_json_type("example/Greeting")
EgressRecord = make_json_type("io.statefun.playground/EgressRecord")
VISITS = [ValueSpec("visits", IntType)]


def greeting(context, message):
    visits = (context.storage.visits or 0) + 1
    context.storage.visits = visits
    return f"Hello {message.as_type(GreetRequest)['name']}, for the time number {visits}"


@functions.bind("example/to-kafka", specs=VISITS)
def to_kafka(context, message):
    context.send_egress(kafka_egress_message(
        typename="example/greets", topic="greetings", key=context.address.id,
        value=greeting(context, message)))


@functions.bind("example/to-kinesis", specs=VISITS)
def to_kinesis(context, message):
    context.send_egress(kinesis_egress_message(
        typename="example/records", stream="greetings", partition_key=context.address.id,
        value=greeting(context, message)))


@functions.bind("example/to-playground", specs=VISITS)
def to_playground(context, message):
    record = {"topic": "greetings", "payload": greeting(context, message)}
    context.send_egress(egress_message_builder(
        target_typename="io.statefun.playground/egress", value=record, value_type=EgressRecord))


@functions.bind("example/to-aws", specs=VISITS)
def to_aws(context, message):
    name = message.as_type(GreetRequest)["name"]
    record = {"name": name, "greeting": greeting(context, message)}
    for service in ("sqs", "sns", "eventbridge", "dynamodb", "lambda"):
        context.send_egress(egress_message_builder(
            target_typename=f"example/{service}", value=record, value_type=Greeting))


handler = RequestReplyHandler(functions)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, kind, body = 200, "application/octet-stream", handler.handle_sync(request)
        except Exception:
            status, kind, body = 500, "text/plain", traceback.format_exc().encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class UnixServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("localhost", 0)


def encrypted(server, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        os.path.join(certificates, "server.pem"), os.path.join(certificates, "server.key"))
    context.load_verify_locations(os.path.join(certificates, "clients.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    # The handshake belongs to the thread of the connection.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False)
    return server


# A client that refuses the certificate ends the handshake, which is no error of this server.
http.server.ThreadingHTTPServer.handle_error = lambda *_: None

sockets, certificates = sys.argv[1:]
plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
tls = encrypted(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler), certificates)
unix = UnixServer(os.path.join(sockets, "functions.sock"), Handler)
unix_tls = encrypted(UnixServer(os.path.join(sockets, "encrypted.sock"), Handler), certificates)
for server in (plain, tls, unix, unix_tls):
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"plain": plain.server_address[1], "tls": tls.server_address[1]}), flush=True)
sys.stdin.read()
