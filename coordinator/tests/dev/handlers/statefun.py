"""StateFun's request-reply messages in plain Python, with the part of protobuf that they need.

Unlike generated code, it lets a handler answer wrongly.
"""

import json

LOG = "log"
LOG_TYPE = "faulty/log"


class Batch:
    """A ToFunction.

    `target` is `(namespace, name, id)`, `state` maps a name to bytes or None, `messages` holds
    the arguments as JSON, `failed_attempts` the number of failed attempts of each message, `traces`
    its trace context or an empty text.
    """

    def __init__(self, body):
        request = message(message(body)[100][0])
        self.target = address(request[1][0])
        self.state = dict(map(state, request.get(2, [])))
        self.callers, self.messages, self.failed_attempts, self.traces = [], [], [], []
        for each in map(message, request.get(3, [])):
            self.callers.append(each[1][0] if 1 in each else None)
            self.messages.append(json.loads(value(each[2][0])))
            self.failed_attempts.append(each.get(1001, [0])[0])
            self.traces.append(each.get(1002, [b""])[0].decode())


class Answer:
    """A FromFunction with effects."""

    def __init__(self):
        self.effects = b""

    def set_state(self, name, typename, data):
        mutation = number(1, 1) + text(2, name) + length(3, typed_value(typename, data))
        self.effects += length(1, mutation)

    def send(self, target, typename, data):
        self.effects += length(2, length(1, target) + length(2, typed_value(typename, data)))

    def send_later(self, delay_ms, target, typename, data):
        delayed = number(1, delay_ms) + length(2, target) + length(3, typed_value(typename, data))
        self.effects += length(3, delayed)

    def egress(self, namespace, name, typename, data):
        value = length(3, typed_value(typename, data))
        self.effects += length(4, text(1, namespace) + text(2, name) + value)

    def encode(self):
        return length(100, self.effects)


def incomplete(states):
    """The answer of a function that lacks these states, each a name and a typename."""
    specs = (length(1, text(1, name) + text(3, typename)) for name, typename in states)
    return length(101, b"".join(specs))


def encode_address(namespace, name, identifier):
    return text(1, namespace) + text(2, name) + text(3, identifier)


def typed_value(typename, data):
    return text(1, typename) + number(2, 1) + length(3, data)


def address(body):
    fields = message(body)
    return tuple(fields.get(field, [b""])[0].decode() for field in (1, 2, 3))


def value(body):
    return message(body).get(3, [b""])[0]


def state(body):
    fields = message(body)
    return fields[1][0].decode(), value(fields[2][0]) if 2 in fields else None


def message(body):
    """The fields of a message: number to the list of its values, integers or bytes."""
    fields, at = {}, 0
    while at < len(body):
        key, at = varint(body, at)
        kind = key & 7
        if kind == 0:
            item, at = varint(body, at)
        elif kind == 2:
            size, at = varint(body, at)
            item, at = body[at:at + size], at + size
        else:
            raise ValueError(f"unexpected wire type {kind} in a StateFun message")
        fields.setdefault(key >> 3, []).append(item)
    return fields


def varint(body, at):
    result = shift = 0
    while True:
        byte = body[at]
        at += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return result, at


def encode_varint(number):
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def number(field, content):
    return encode_varint(field << 3) + encode_varint(content)


def length(field, content):
    return encode_varint(field << 3 | 2) + encode_varint(len(content)) + content


def text(field, content):
    return length(field, content.encode())
