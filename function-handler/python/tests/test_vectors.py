"""The vectors that handlers of every language are tested with; see their README.md."""

import base64
import json
import pathlib
import unittest

from statefun.request_reply_pb2 import FromFunction

import vectors_app
from satchel_lambda import _zstd, invalid_request

FILE = pathlib.Path(__file__).parents[2] / "vectors/bundles.json"
CASES = json.loads(FILE.read_text())


def decoded(data):
    """A FromFunction in the form in which the vectors compare it."""
    answer = FromFunction.FromString(data)
    answer.DiscardUnknownFields()
    for value in answer.incomplete_invocation_context.missing_values:
        if not value.expiration_spec.mode:
            value.ClearField("expiration_spec")
    return answer


def unpacked(encoding, text):
    data = base64.b64decode(text)
    return _zstd.decompress(data, 1 << 30) if encoding == "zstd" else data


class Vectors(unittest.TestCase):
    maxDiff = None

    def test_each_case(self):
        self.check_all([case for case in CASES if "zstd" not in case.get("needs", [])])

    @unittest.skipUnless(_zstd.available, "no zstd is installed")
    def test_each_case_of_compression(self):
        self.check_all([case for case in CASES if "zstd" in case.get("needs", [])])

    def check_all(self, cases):
        self.assertNotEqual(cases, [])
        for case in cases:
            with self.subTest(case["name"]):
                self.check(case)

    def check(self, case):
        if "function_error" in case:
            expected = case["function_error"]
            with self.assertRaises(Exception) as raised:
                vectors_app.handler(case["request"])
            self.assertEqual(type(raised.exception).__name__, expected["errorType"])
            self.assertEqual(type(raised.exception), invalid_request)
            self.assertTrue(
                str(raised.exception).startswith(expected["errorMessage"]), raised.exception)
            return
        answer = vectors_app.handler(case["request"])
        # As Lambda's runtime passes it on.
        answer = json.loads(json.dumps(answer))
        if "http" in case:
            self.check_http(answer, case["http"])
        else:
            self.check_bundle(answer, case["response"])

    def check_http(self, answer, expected):
        self.assertEqual(answer["statusCode"], expected["statusCode"])
        self.assertEqual({**answer["headers"], **expected["headers"]}, answer["headers"])
        if "from" in expected:
            self.assertTrue(answer["isBase64Encoded"])
            self.assertEqual(
                decoded(base64.b64decode(answer["body"])),
                decoded(base64.b64decode(expected["from"])))
        else:
            self.assertTrue(answer["body"].startswith(expected["body"]), answer["body"])

    def check_bundle(self, answer, expected):
        for field in ("satchel", "bundle", "encoding"):
            self.assertEqual(answer[field], expected[field])
        encoding = expected["encoding"]
        self.assertEqual(
            [result["attempt"] for result in answer["results"]],
            [result["attempt"] for result in expected["results"]])
        for result, wanted in zip(answer["results"], expected["results"]):
            if "from" in wanted:
                self.assertEqual(set(result), {"attempt", "from"}, result)
                self.assertEqual(
                    decoded(unpacked(encoding, result["from"])),
                    decoded(unpacked(encoding, wanted["from"])))
                continue
            self.assertEqual(set(result), {"attempt", "error"}, result)
            error, wanted = result["error"], wanted["error"]
            self.assertEqual(error["type"], wanted["type"])
            self.assertEqual(error.get("terminal"), wanted.get("terminal"))
            self.assertIn(wanted["message"], error["message"])


if __name__ == "__main__":
    unittest.main()
