"""The function of the vectors, on StateFun's SDK; see vectors/README.md of the handler."""

from statefun import IntType, StatefulFunctions, StringType, ValueSpec, message_builder

from satchel_lambda import TerminalError, lambda_handler

functions = StatefulFunctions()


@functions.bind("vectors/counter", specs=[ValueSpec("count", IntType)])
def counter(context, message):
    command, _, rest = message.as_type(StringType).partition(" ")
    if command == "add":
        context.storage.count = (context.storage.count or 0) + int(rest)
        reply(context, context.storage.count, IntType)
    elif command == "answer":
        reply(context, "x" * int(rest), StringType)
    elif command == "fail":
        raise ValueError(rest)
    elif command == "reject":
        code, _, text = rest.partition(" ")
        raise TerminalError(int(code), text)
    else:
        raise ValueError(f"what is {command}?")


def reply(context, value, value_type):
    caller = context.caller
    context.send(message_builder(caller.typename, caller.id, value=value, value_type=value_type))


handler = lambda_handler(functions)
