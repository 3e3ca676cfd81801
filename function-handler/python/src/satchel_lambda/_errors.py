"""Errors of batches, as they travel in a bundle."""

# Maximum length of an error text in bytes, so that it cannot displace the results beside it.
ERROR_BYTES_MAX = 8 << 10


class TerminalError(Exception):
    """Rejection of a message for good: the mistake lies in the message, so no retry can succeed.

    The message changes no state, has no effects and is not retried. A caller that waits for a
    reply gets `code` as the HTTP status, and `message`. Without such a caller, the message becomes
    a dead letter. Any other exception is retried.

    An exception that was raised `from` a terminal error is one too.
    """

    def __init__(self, code: int, message: str):
        if not isinstance(code, int) or not 400 <= code <= 500:
            raise ValueError(
                f"a terminal error has a code from 400 to 499, or 500, and not {code!r}")
        super().__init__(message)
        self.code = code
        self.message = str(message)


class BatchError(Exception):
    """Failure of one batch: the field `error` of its result."""

    def __init__(self, kind, message, terminal=None):
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = _shortened(message)
        self.terminal = terminal and {**terminal, "message": _shortened(terminal["message"])}

    def to_json(self):
        error = {"type": self.kind, "message": self.message}
        if self.terminal is not None:
            error["terminal"] = self.terminal
        return error


def terminal_in(error):
    """Returns the terminal error among an exception and its causes, or None."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TerminalError):
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


def _shortened(text):
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= ERROR_BYTES_MAX:
        return encoded.decode()
    return encoded[:ERROR_BYTES_MAX].decode("utf-8", "ignore") + "…"
