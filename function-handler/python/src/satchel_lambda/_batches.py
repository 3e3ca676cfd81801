"""Batches for the functions of StateFun's SDK, each isolated from the others."""

import asyncio
import concurrent.futures
import copy
import logging
import threading

from google.protobuf.message import DecodeError
from statefun import RequestReplyHandler, StatefulFunctions
from statefun.request_reply_pb2 import ToFunction
from statefun.statefun_builder import StatefulFunction

from ._errors import BatchError, terminal_in

log = logging.getLogger("satchel_lambda")


class Batches:
    """Runs batches: functions that are coroutines in one event loop, others in threads."""

    def __init__(self, functions, threads):
        if isinstance(functions, StatefulFunctions):
            functions = RequestReplyHandler(functions)
        if not isinstance(functions, RequestReplyHandler):
            raise TypeError(
                "the functions are StatefulFunctions or a RequestReplyHandler of StateFun's SDK, "
                f"and not {type(functions).__name__}")
        if threads < 1:
            raise ValueError(f"there is at least 1 thread, and not {threads}")
        self._handler = functions
        self._threads_max = threads
        self._threads = self._new_threads()
        self._lock = threading.Lock()
        self._loop = None

    def answer(self, requests, seconds):
        """Answers each of `requests`, which are bytes or a BatchError, by bytes or a BatchError.

        What is not done after `seconds` (None: unlimited) is the error `timeout`.
        """
        answers = self._answer_all(requests, seconds)
        return asyncio.run_coroutine_threadsafe(answers, self._running_loop()).result()

    def _running_loop(self):
        # Started by the first request, because a thread does not survive a fork of its process.
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="satchel-batches", daemon=True).start()
            return self._loop

    async def _answer_all(self, requests, seconds):
        tasks = [self._loop.create_task(self._answer(request)) for request in requests]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        answers = [_result(task) for task in tasks]
        # Each task is cancelled; those that are done ignore it.
        if any([task.cancel() for task in tasks]):
            # A thread cannot be ended. The next batches get others.
            self._threads.shutdown(wait=False)
            self._threads = self._new_threads()
        return answers

    async def _answer(self, request):
        if isinstance(request, BatchError):
            return request
        address = ""
        try:
            batch = Batch(self._handler, request)
            address = batch.address
            if batch.is_async:
                return await batch.run()
            return await self._loop.run_in_executor(self._threads, batch.run_without_loop)
        except BatchError as error:
            # Logged with its trace back, except what the message is to blame for.
            cause = None if error.terminal else error.__cause__
            log.warning("batch for %s failed: %s", address, error, exc_info=cause)
            return error

    def _new_threads(self):
        return concurrent.futures.ThreadPoolExecutor(
            self._threads_max, thread_name_prefix="satchel-function")


class Batch:
    """One batch. Raises BatchError if it cannot be read, or names a function that is not bound."""

    def __init__(self, handler, request):
        self._request = request
        try:
            to_function = ToFunction.FromString(request)
        except DecodeError as error:
            raise BatchError(
                "invalid_request", f"the payload is not a ToFunction: {error}") from None
        if not to_function.HasField("invocation"):
            raise BatchError("invalid_request", "the request holds no batch")
        if not to_function.invocation.HasField("target"):
            raise BatchError("invalid_request", "the batch has no target")
        target = to_function.invocation.target
        typename = f"{target.namespace}/{target.type}"
        self.address = f"{typename}/{target.id}"
        self._messages = len(to_function.invocation.invocations)
        self._counted = CountedFunction(_bound(handler.functions, typename))
        self.is_async = self._counted.is_async
        # The SDK's own loop over the messages, with functions that are counted.
        self._handler = copy.copy(handler)
        self._handler.functions = self._counted

    async def run(self):
        """Returns the answer, or raises BatchError."""
        try:
            return await self._handler.handle_async(self._request)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            raise self._failed(error) from error

    def run_without_loop(self):
        """Returns the answer of a function that is no coroutine, or raises BatchError."""
        answering = self.run()
        try:
            answering.send(None)
        except StopIteration as done:
            return done.value
        answering.close()
        raise BatchError("function", "the handler waits although its function is no coroutine")

    def _failed(self, error):
        terminal = terminal_in(error)
        if terminal is None:
            return BatchError("function", self._located(f"{type(error).__name__}: {error}"))
        text = terminal.message
        index = self._counted.running
        rejection = {"code": terminal.code, "message": text}
        if index is not None:
            rejection = {"index": index, **rejection}
        # The first message of a batch is concluded by this, so its text stands alone.
        return BatchError("terminal", text if index == 0 else self._located(text), rejection)

    def _located(self, text):
        index = self._counted.running
        if index is None or self._messages == 1:
            return text
        return f"message {index + 1} of {self._messages}: {text}"


class CountedFunction:
    """The one bound function of a batch, in place of its StatefulFunctions.

    Knows the message that the function is at: `running` is its position, or None outside.
    """

    def __init__(self, bound):
        self._bound = bound
        self._begun = 0
        self.is_async = bound.is_async
        self.running = None

    def for_typename(self, _typename):
        fun = self._bound.fun

        def counted(context, message):
            self._begin()
            fun(context, message)
            self.running = None

        async def counted_async(context, message):
            self._begin()
            await fun(context, message)
            self.running = None

        return StatefulFunction(
            fun=counted_async if self.is_async else counted,
            specs=self._bound.storage_spec,
            is_async=self.is_async)

    def _begin(self):
        self.running = self._begun
        self._begun += 1


def _bound(functions, typename):
    try:
        bound = functions.for_typename(typename)
    except KeyError:
        bound = None
    if bound is None:
        # Every message of the batch is rejected. The first is, and the others follow it.
        rejection = {"index": 0, "code": 404, "message": f"there is no function {typename}"}
        raise BatchError(
            "unknown_function", f"this handler has no function {typename}", rejection)
    return bound


def _result(task):
    if task.done() and not task.cancelled():
        return task.result()
    error = BatchError(
        "timeout", "the batch was not done before the deadline of the Lambda request")
    if task.done():
        error = BatchError("function", "the function cancelled itself")
    log.warning("batch failed: %s", error)
    return error
