"""The bundle: several batches in one Lambda request, and their results.

The form is that of the crate `satchel-protocol`, module `bundle`.
"""

import base64
import binascii
import json

from . import _zstd
from ._errors import BatchError

VERSION = 1
# Maximum size of all `to` of a bundle, decompressed.
DECOMPRESSED_BYTES_MAX = 64 << 20
# Maximum size of the response to a synchronous Lambda request.
RESPONSE_BYTES_MAX = 6 << 20
# Total size of the answers from which compression saves more than it costs.
COMPRESSED_FROM_BYTES = 32 << 10
# Average size of the answers below which each of them, a frame of its own, hardly shrinks.
COMPRESSED_PART_BYTES_MIN = 1 << 10


class invalid_request(ValueError):  # noqa: N801
    """A Lambda request that is neither a bundle of a known version nor an HTTP request.

    Lambda reports the name of the class as the type of the error, and the coordinator knows this
    name.
    """


class Bundle:
    """A request whose form has been checked."""

    def __init__(self, event):
        version = event["satchel"]
        if type(version) is not int or version < 0:
            raise _not_a_bundle("`satchel` is no version")
        if version != VERSION:
            raise invalid_request(
                f"the bundle has version {version}, this side understands version {VERSION}")
        self.name = event.get("bundle")
        self.encoding = event.get("encoding", "identity")
        self.accept = event.get("accept", [])
        batches = event.get("batches")
        if not isinstance(self.name, str):
            raise _not_a_bundle("`bundle` is not text")
        if self.encoding not in ("identity", "zstd"):
            raise _not_a_bundle(f"the encoding {self.encoding!r} is unknown")
        if not _is_list_of(str, self.accept):
            raise _not_a_bundle("`accept` is no list of texts")
        if not _is_list_of(dict, batches):
            raise _not_a_bundle("`batches` is no list of objects")
        self.batches = []
        for batch in batches:
            if not isinstance(batch.get("attempt"), str) or not isinstance(batch.get("to"), str):
                raise _not_a_bundle("a batch has the texts `attempt` and `to`")
            self.batches.append((batch["attempt"], batch["to"]))

    def unpack(self):
        """Returns for each batch its bytes, or the BatchError of one that cannot be read."""
        left = DECOMPRESSED_BYTES_MAX
        unpacked = []
        for attempt, text in self.batches:
            try:
                data = self._unpack_one(attempt, text, left)
                left -= len(data)
            except BatchError as error:
                data = error
            unpacked.append(data)
        return unpacked

    def _unpack_one(self, attempt, text, left):
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid(attempt, f"the payload is not base64: {error}") from None
        if self.encoding == "zstd":
            if not _zstd.available:
                raise _invalid(attempt, "the payload does not decompress: no zstd is installed")
            try:
                data = _zstd.decompress(data, left)
            except ValueError as error:
                raise _invalid(attempt, f"the payload does not decompress: {error}") from None
        if len(data) > left:
            raise _invalid(
                attempt,
                f"the parts of a bundle may have {DECOMPRESSED_BYTES_MAX} bytes in all, "
                "decompressed, and this one exceeds what is left")
        return data

    def respond(self, answers):
        """Returns the response: for each batch, in order, its bytes or a BatchError."""
        sizes = [len(answer) for answer in answers if isinstance(answer, bytes)]
        compressed = (
            compression_pays(len(sizes), sum(sizes))
            and "zstd" in self.accept and _zstd.available)
        results = []
        for (attempt, _), answer in zip(self.batches, answers):
            if isinstance(answer, BatchError):
                results.append({"attempt": attempt, "error": answer.to_json()})
            else:
                data = _zstd.compress(answer) if compressed else answer
                results.append({"attempt": attempt, "from": base64.b64encode(data).decode()})
        response = {
            "satchel": VERSION,
            "bundle": self.name,
            "encoding": "zstd" if compressed else "identity",
            "results": results,
        }
        fit(response, RESPONSE_BYTES_MAX)
        return response


def compression_pays(parts, size):
    """Whether zstd saves more than it costs, or the answers do not fit without it."""
    # A result has at most 100 bytes of JSON around its base64 text.
    too_large = (size + 2) // 3 * 4 + 100 * parts > RESPONSE_BYTES_MAX
    return too_large or size >= max(COMPRESSED_FROM_BYTES, COMPRESSED_PART_BYTES_MIN * parts)


def fit(response, bytes_max):
    """Replaces the largest results by errors until the response has at most `bytes_max` as JSON.

    Most results get through, and a result that is too large by itself displaces no other.
    """
    results = response["results"]
    sizes = [json_bytes(result) for result in results]
    # Each result counts with the comma and the space after it.
    total = json_bytes({**response, "results": []}) + sum(size + 2 for size in sizes)
    for largest in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        if total <= bytes_max:
            break
        error = BatchError(
            "response_too_large",
            f"the result has {sizes[largest]} bytes; Lambda allows {RESPONSE_BYTES_MAX} bytes "
            "for the results of all batches of a request")
        replaced = {"attempt": results[largest]["attempt"], "error": error.to_json()}
        total += json_bytes(replaced) - sizes[largest]
        results[largest] = replaced


def json_bytes(value):
    """Returns the size of a value as JSON of Lambda's runtime, or a few bytes more."""
    return len(json.dumps(value))


def _is_list_of(kind, value):
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _not_a_bundle(why):
    return invalid_request(f"the payload is not a bundle: {why}")


def _invalid(attempt, why):
    return BatchError("invalid_request", f"attempt {attempt}: {why}")
