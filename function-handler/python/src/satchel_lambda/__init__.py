"""Serves the functions of StateFun's Python SDK on AWS Lambda, for Satchel.

    from statefun import StatefulFunctions
    from satchel_lambda import TerminalError, lambda_handler

    functions = StatefulFunctions()

    @functions.bind("example/greeter")
    def greet(context, message): ...

    handler = lambda_handler(functions)
"""

from ._envelope import invalid_request
from ._errors import TerminalError
from ._handler import lambda_handler

__all__ = ["TerminalError", "invalid_request", "lambda_handler"]
