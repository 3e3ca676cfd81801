"""DynamoDB: conditional writes of one item, as leases rely on them."""

import time

from botocore.exceptions import ClientError

from checks import together

WRITERS = 8


def check(context):
    table = context.made["lease_table"]
    clients = [context.client("dynamodb") for _ in range(WRITERS)]
    if context.stand_in:
        context.figures.skip("DynamoDB", "races: the stand-in looks and writes in two steps")
    else:
        races(context, table, clients)
    tail(context, table, clients[0])


def put(client, table, key, writer, counter=0):
    """Writes an item unless there is one with this counter or a higher one."""
    try:
        client.put_item(
            TableName=table,
            Item={"pk": {"S": key}, "owner": {"S": f"{writer}"}, "counter": {"N": f"{counter}"}},
            ConditionExpression="attribute_not_exists(pk) OR #counter < :counter",
            ExpressionAttributeNames={"#counter": "counter"},
            ExpressionAttributeValues={":counter": {"N": f"{counter}"}},
        )
        return True
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return False


def races(context, table, clients):
    rounds = context.samples(100, least=5)
    several, none, wrong = 0, 0, 0
    for number in range(rounds):
        key = f"acceptance#races#{number}"
        won = together(WRITERS, lambda writer: put(clients[writer], table, key, writer))
        several += sum(won) > 1
        none += sum(won) == 0
        item = clients[0].get_item(TableName=table, Key={"pk": {"S": key}}, ConsistentRead=True)
        wrong += any(won) and item["Item"]["owner"]["S"] != f"{won.index(True)}"
    figures = context.figures
    figures.add("DynamoDB", f"races of {WRITERS} conditional writes", rounds)
    figures.expect("DynamoDB", "races with several winners", several, 0)
    figures.expect("DynamoDB", "races without a winner", none, 0)
    figures.expect("DynamoDB", "races whose winner's item is not there", wrong, 0)


def tail(context, table, client):
    seconds = []
    for number in range(context.samples(1000, least=10)):
        begun = time.monotonic()
        if not put(client, table, "acceptance#tail", 0, number + 1):
            raise AssertionError("a conditional write without a rival was refused")
        seconds.append(time.monotonic() - begun)
    context.figures.latencies("DynamoDB", "conditional write of an item", seconds)
