"""What the vectors do not tell: concurrency, deadlines, and errors of Python."""

import asyncio
import base64
import json
import sys
import threading
import time
import unittest

from statefun import RequestReplyHandler, StatefulFunctions, StringType, message_builder
from statefun.request_reply_pb2 import FromFunction, ToFunction

from satchel_lambda import TerminalError, lambda_handler
from satchel_lambda._envelope import fit, json_bytes
from satchel_lambda._errors import ERROR_BYTES_MAX, BatchError


class Context:
    """The context of Lambda's runtime."""

    def __init__(self, milliseconds):
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self):
        return self.milliseconds


def batch(typename, *messages, id="x"):
    request = ToFunction()
    target = request.invocation.target
    target.namespace, target.type = typename.split("/")
    target.id = id
    for text in messages:
        message = message_builder(typename, id, value=text, value_type=StringType)
        request.invocation.invocations.add().argument.CopyFrom(message.typed_value)
    return request.SerializeToString()


def bundle(*batches):
    encoded = [base64.b64encode(each).decode() for each in batches]
    return {
        "satchel": 1,
        "bundle": "b",
        "batches": [{"attempt": str(n), "to": to} for n, to in enumerate(encoded)],
    }


def outcomes(answer):
    """For each result the texts that its function sent, or the type and text of its error."""
    found = []
    for result in answer["results"]:
        if "error" in result:
            found.append((result["error"]["type"], result["error"]["message"]))
            continue
        sent = FromFunction.FromString(base64.b64decode(result["from"])).invocation_result
        # Each value is the protobuf message StringWrapper: a tag, a length below 128, the text.
        found.append([each.argument.value[2:].decode() for each in sent.outgoing_messages])
    return found


def say(context, text):
    context.send(message_builder("t/t", "t", value=text, value_type=StringType))


class Bundles(unittest.TestCase):
    def setUp(self):
        self.functions = StatefulFunctions()

    def handler(self, **options):
        return lambda_handler(self.functions, **options)

    def test_functions_of_a_bundle_run_at_the_same_time(self):
        meeting = threading.Barrier(3)
        waiting = []

        @self.functions.bind("t/plain")
        def plain(context, message):
            meeting.wait(60)
            say(context, "met")

        @self.functions.bind("t/coroutine")
        async def coroutine(context, message):
            waiting.append(asyncio.Event())
            if len(waiting) == 3:
                for event in waiting:
                    event.set()
            await waiting[-1].wait()
            say(context, "met")

        batches = [
            batch(f"t/{name}", "hi", id=str(n)) for n in range(3) for name in ("plain", "coroutine")
        ]
        self.assertEqual(outcomes(self.handler()(bundle(*batches))), [["met"]] * 6)

    def test_messages_of_a_batch_run_in_order(self):
        @self.functions.bind("t/echo")
        async def echo(context, message):
            await asyncio.sleep(0)
            say(context, message.as_type(StringType))

        answer = self.handler()(bundle(batch("t/echo", "a", "b", "c"), batch("t/echo", id="y")))
        self.assertEqual(outcomes(answer), [["a", "b", "c"], []])

    def test_coroutines_of_all_requests_share_one_event_loop(self):
        loops = set()

        @self.functions.bind("t/loop")
        async def loop(context, message):
            loops.add(asyncio.get_running_loop())

        handler = self.handler()
        for _ in range(2):
            self.assertEqual(outcomes(handler(bundle(batch("t/loop", "hi")))), [[]])
        self.assertEqual(len(loops), 1)

    def test_requests_may_come_from_several_threads(self):
        meeting = threading.Barrier(2)

        @self.functions.bind("t/plain")
        def plain(context, message):
            meeting.wait(60)
            say(context, "met")

        handler, answers = self.handler(), []

        def invoke():
            answers.append(outcomes(handler(bundle(batch("t/plain", "hi")))))

        threads = [threading.Thread(target=invoke) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [[["met"]]] * 2)

    def test_a_batch_that_hangs_costs_only_itself(self):
        release, cancelled = threading.Event(), []
        self.addCleanup(release.set)

        @self.functions.bind("t/plain")
        def plain(context, message):
            if message.as_type(StringType) == "hang":
                release.wait()
            say(context, "done")

        @self.functions.bind("t/coroutine")
        async def coroutine(context, message):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        handler = self.handler(threads=1)
        request = bundle(batch("t/coroutine", "hang"), batch("t/plain", "go"))
        late = ("timeout", "the batch was not done before the deadline of the Lambda request")
        self.assertEqual(outcomes(handler(request, Context(300))), [late, ["done"]])
        self.assertEqual(outcomes(handler(bundle(batch("t/plain", "hang")), Context(300))), [late])
        # The thread that hangs is not waited for.
        self.assertEqual(outcomes(handler(bundle(batch("t/plain", "go")))), [["done"]])
        self.assertEqual(cancelled, [True])

    def test_a_deadline_in_the_past_is_ignored(self):
        @self.functions.bind("t/plain")
        def plain(context, message):
            time.sleep(0.01)
            say(context, "done")

        request = bundle(batch("t/plain", "go"))
        for milliseconds in (0, -5):
            answer = self.handler()(request, Context(milliseconds))
            self.assertEqual(outcomes(answer), [["done"]])

    def test_errors_name_their_type_and_message(self):
        class Rejected(Exception):
            pass

        @self.functions.bind("t/fails")
        def fails(context, message):
            text = message.as_type(StringType)
            if text == "exit":
                sys.exit(3)
            if text == "cause":
                raise Rejected("bad order") from TerminalError(409, "sold out")
            if text == "chain":
                error = ValueError("loop")
                error.__cause__ = error
                raise error
            if text == "long":
                raise ValueError("€" * ERROR_BYTES_MAX)

        @self.functions.bind("t/cancels")
        async def cancels(context, message):
            raise asyncio.CancelledError

        @self.functions.bind("t/unsendable")
        def unsendable(context, message):
            context.send(message_builder("no-slash", "x", value="x", value_type=StringType))

        with self.assertLogs("satchel_lambda", "WARNING") as logs:
            answer = self.handler()(bundle(
                batch("t/fails", "exit"),
                batch("t/fails", "fine", "cause"),
                batch("t/fails", "fine", "chain"),
                batch("t/cancels", "now"),
                batch("t/fails", "long"),
                batch("t/unsendable", "now", "then")))
        self.assertEqual(len(logs.records), 6)
        found = outcomes(answer)
        kind, long = found.pop(4)
        self.assertEqual((kind, long[-2:], len(long)), (
            "function", "€…", len("ValueError: ") + (ERROR_BYTES_MAX - 12) // 3 + 1))
        self.assertEqual(found[:4], [
            ("function", "SystemExit: 3"),
            ("terminal", "message 2 of 2: sold out"),
            ("function", "message 2 of 2: ValueError: loop"),
            ("function", "the function cancelled itself")])
        # The SDK finds this one after the last message.
        self.assertEqual(found[4][0], "function")
        self.assertNotIn("of 2", found[4][1])
        self.assertEqual(
            answer["results"][1]["error"]["terminal"],
            {"index": 1, "code": 409, "message": "sold out"})
        json.dumps(answer)

    def test_a_handler_of_the_sdk_is_used_as_it_is(self):
        @self.functions.bind("t/plain")
        def plain(context, message):
            say(context, "plain")

        class Own(RequestReplyHandler):
            async def handle_async(self, request_bytes):
                answer = FromFunction.FromString(await super().handle_async(request_bytes))
                answer.invocation_result.outgoing_messages[0].argument.value = b"__own"
                return answer.SerializeToString()

        handler = lambda_handler(Own(self.functions))
        self.assertEqual(outcomes(handler(bundle(batch("t/plain", "go")))), [["own"]])


class Arguments(unittest.TestCase):
    def test_wrong_arguments_are_named(self):
        with self.assertRaisesRegex(TypeError, "and not dict"):
            lambda_handler({})
        with self.assertRaisesRegex(ValueError, "at least 1 thread, and not 0"):
            lambda_handler(StatefulFunctions(), threads=0)
        for code in (399, 501, "404", 200):
            with self.assertRaisesRegex(ValueError, "a terminal error has a code from 400"):
                TerminalError(code, "no")


class Sizes(unittest.TestCase):
    def response(self, *sizes):
        results = [{"attempt": str(size), "from": "A" * size} for size in sizes]
        return {"satchel": 1, "bundle": "b", "encoding": "identity", "results": results}

    def test_only_the_largest_results_are_replaced(self):
        response = self.response(1000, 9000, 4000, 6000)
        fit(response, 6000)
        kinds = [result.get("error", {}).get("type") for result in response["results"]]
        self.assertEqual(kinds, [None, "response_too_large", None, "response_too_large"])
        self.assertLessEqual(json_bytes(response), 6000)

    def test_a_response_that_fits_stays(self):
        response = self.response(100, 100)
        # The estimate counts a comma after the last result, which has none.
        fit(response, json_bytes(response) + 2)
        self.assertEqual(response, self.response(100, 100))
        fit(response, json_bytes(response) - 1)
        self.assertNotEqual(response, self.response(100, 100))

    def test_an_error_is_cut_between_characters(self):
        error = BatchError("function", "€" * ERROR_BYTES_MAX)
        self.assertEqual(error.message, "€" * (ERROR_BYTES_MAX // 3) + "…")


if __name__ == "__main__":
    unittest.main()
