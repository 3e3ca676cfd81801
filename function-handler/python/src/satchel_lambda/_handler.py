"""The Lambda handler."""

from . import _http
from ._batches import Batches
from ._envelope import Bundle, invalid_request

# Maximum number of functions that run at once in threads.
THREADS = 32


def lambda_handler(functions, *, threads=THREADS):
    """Returns the Lambda handler of StateFun's `StatefulFunctions` or `RequestReplyHandler`.

    It answers bundles of a Satchel coordinator, and StateFun's plain requests through API Gateway
    or a Function URL.

    The batches of a bundle run at the same time: functions that are coroutines (`async def`) in
    one event loop, which is the same for all requests, and others in up to `threads` threads.
    Messages of one address never run at the same time.
    """
    batches = Batches(functions, threads)

    def handler(event, context=None):
        seconds = _seconds(context)
        if isinstance(event, dict) and "satchel" in event:
            bundle = Bundle(event)
            return bundle.respond(batches.answer(bundle.unpack(), seconds))
        if isinstance(event, dict) and _http.method_of(event) is not None:
            return _http.respond(event, lambda body: batches.answer([body], seconds)[0])
        raise invalid_request(
            "the request is neither a bundle (it has no field `satchel`) nor an HTTP request")

    return handler


def _seconds(context):
    """Returns the time for the batches: a little less than Lambda gives for the request.

    At its deadline Lambda would drop every result. A deadline in the past is ignored, because some
    stand-ins for Lambda give a constant one.
    """
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    left = remaining() / 1000 if remaining is not None else 0
    if left <= 0:
        return None
    return left - min(left / 20, 0.5)
