"""Functions on the official Python SDK, as in an application that migrates from Flink."""

import json
from datetime import timedelta

from statefun import (
    BoolType, DoubleType, FloatType, IntType, LongType, StatefulFunctions, StringType, ValueSpec,
    kinesis_egress_message, make_json_type, message_builder)

functions = StatefulFunctions()

Order = make_json_type("shop/order")
# Type of a request without a typename.
Json = make_json_type("satchel/json")


def reply(context, value, value_type=Json):
    caller = context.caller
    context.send(message_builder(caller.typename, caller.id, value=value, value_type=value_type))


@functions.bind("shop/basket", specs=[
    ValueSpec("count", IntType),
    ValueSpec("last", Order),
    ValueSpec("offer", StringType, expire_after_write=timedelta(milliseconds=400)),
    ValueSpec("open", BoolType, expire_after_call=timedelta(milliseconds=400)),
    ValueSpec("kept", StringType, expire_after_call=timedelta(hours=1))])
def basket(context, message):
    """Counts orders and answers with its state."""
    storage = context.storage
    order = message.as_type(Json)
    if order.get("forget"):
        del storage.count
        del storage.last
    if "article" in order:
        storage.count = (storage.count or 0) + 1
        storage.last = order
    for name in ("offer", "open", "kept"):
        if name in order:
            setattr(storage, name, order[name])
    names = ("count", "last", "offer", "open", "kept")
    reply(context, {name: getattr(storage, name) for name in names})


class Rejected(Exception):
    """Rejects a message for good, with a status for a caller that waits."""

    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


@functions.bind("shop/till", specs=[ValueSpec("total", IntType)])
def till(context, message):
    """Adds an amount and answers with the total."""
    amount = message.as_type(Json)
    if not isinstance(amount, int):
        raise Rejected(422, f"{amount!r} is no amount")
    context.storage.total = (context.storage.total or 0) + amount
    reply(context, context.storage.total)


TYPES = {
    "bool": BoolType, "int": IntType, "long": LongType,
    "float": FloatType, "double": DoubleType, "string": StringType}


@functions.bind("shop/types", specs=[ValueSpec(f"a_{name}", tpe) for name, tpe in TYPES.items()])
async def types(context, message):
    """Keeps a value of each built-in type, and answers with the previous one in its own type."""
    name, = (name for name, tpe in TYPES.items() if message.is_type(tpe))
    before = getattr(context.storage, f"a_{name}")
    setattr(context.storage, f"a_{name}", message.as_type(TYPES[name]))
    if before is None:
        reply(context, "nothing was kept")
    else:
        reply(context, before, TYPES[name])


@functions.bind("shop/warehouse", specs=[ValueSpec("asked", LongType)])
def warehouse(context, message):
    """Queries a shelf, whose answer is a separate message; forwards it to the first caller."""
    wanted = message.as_type(Json)
    if context.caller.typename == "shop/shelf":
        first = (wanted["caller"], wanted["for"])
        context.send(message_builder(*first, value=wanted, value_type=Json))
        return
    context.storage.asked = (context.storage.asked or 0) + 1
    asked = context.storage.asked
    question = {"for": context.caller.id, "caller": context.caller.typename, "asked": asked}
    shelf = message_builder("shop/shelf", wanted["shelf"], value=question, value_type=Order)
    context.send(shelf)


@functions.bind("shop/shelf")
def shelf(context, message):
    """Has no state."""
    reply(context, {
        **message.as_type(Order),
        "self": [context.address.typename, context.address.id],
        "from": [context.caller.typename, context.caller.id]})


@functions.bind("shop/alarm", specs=[ValueSpec("rung", Json)])
def alarm(context, message):
    """Rings after a delay unless cancelled; answers with the alarms that rang."""
    order = message.as_type(Json)
    rung = context.storage.rung or []
    if "ring" in order:
        assert context.caller == context.address, context.caller
        context.storage.rung = rung + [order["ring"]]
        return
    if "cancel" in order:
        context.cancel_delayed_message(order["cancel"])
    if "set" in order:
        value = {"ring": order["set"]}
        ring = message_builder("shop/alarm", context.address.id, value=value, value_type=Json)
        context.send_after(timedelta(milliseconds=order["ms"]), ring, order.get("token", ""))
    reply(context, rung)


@functions.bind("shop/records", specs=[ValueSpec("seen", IntType)])
def records(context, message):
    """Forwards a record of an ingress to an egress, keyed by its article."""
    assert context.caller is None, context.caller
    order = message.as_type(Order)
    context.storage.seen = (context.storage.seen or 0) + 1
    article = order["article"]
    shipped = {"to": context.address.id, "article": article, "seen": context.storage.seen}
    context.send_egress(kinesis_egress_message(
        typename="shop/shipments", stream="shipped", value=json.dumps(shipped),
        partition_key=article))


@functions.bind("shop/idle", specs=[ValueSpec("nothing", StringType)])
def idle(context, message):
    """Reads its state and has no effects: the SDK encodes this answer as zero bytes."""
    assert context.storage.nothing is None
