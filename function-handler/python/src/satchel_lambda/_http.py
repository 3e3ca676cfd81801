"""HTTP requests of API Gateway (both payload versions) and Function URLs: one batch each."""

import base64
import binascii

from ._envelope import RESPONSE_BYTES_MAX
from ._errors import BatchError

CONTENT_TYPE = "application/octet-stream"


def method_of(event):
    """Returns the method if the event is an HTTP request, or None."""
    context = event.get("requestContext")
    http = context.get("http") if isinstance(context, dict) else None
    method = http.get("method") if isinstance(http, dict) else event.get("httpMethod")
    return method if isinstance(method, str) else None


def respond(event, answer_one):
    """Answers an HTTP request with the function that answers one batch."""
    method = method_of(event)
    if method != "POST":
        return _text(405, f"{method} is not served: POST a ToFunction")
    body = event.get("body") or ""
    try:
        body = (
            base64.b64decode(body, validate=True)
            if event.get("isBase64Encoded") else body.encode())
    except (binascii.Error, ValueError) as error:
        return _text(400, f"invalid_request: the body is not base64: {error}")
    if not body:
        return _text(400, "invalid_request: the body is empty: POST a ToFunction")
    answer = answer_one(body)
    if isinstance(answer, BatchError):
        return _error(answer)
    text = base64.b64encode(answer).decode()
    # The JSON around the body is smaller than 1 KiB.
    if len(text) + 1024 > RESPONSE_BYTES_MAX:
        return _text(
            500,
            f"response_too_large: the response has {len(text)} bytes in base64, "
            f"Lambda allows {RESPONSE_BYTES_MAX}")
    return {
        "statusCode": 200,
        "headers": {"content-type": CONTENT_TYPE},
        "body": text,
        "isBase64Encoded": True,
    }


def _error(error):
    if error.terminal is not None:
        headers = {"satchel-terminal-error": str(error.terminal["code"])}
        if "index" in error.terminal:
            headers["satchel-terminal-index"] = str(error.terminal["index"])
        return _text(500, error.terminal["message"], headers)
    status = {"invalid_request": 400, "timeout": 504}.get(error.kind, 500)
    return _text(status, f"{error.kind}: {error.message}")


def _text(status, text, headers=None):
    return {
        "statusCode": status,
        "headers": {"content-type": "text/plain; charset=utf-8", **(headers or {})},
        "body": text,
        "isBase64Encoded": False,
    }
