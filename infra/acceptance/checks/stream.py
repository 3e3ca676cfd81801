"""Kinesis: order within a shard, and how late reads see what was put."""

import time

from checks import together

KEY = "acceptance"
BATCH = 50
# A shard allows five reads a second.
PAUSE_SECONDS = 0.25
# The stream's clock and the one here are at most this far apart.
CLOCKS_APART_SECONDS = 10


def check(context):
    stream = context.made["stream"]
    client = context.client("kinesis")
    shards = client.list_shards(StreamName=stream)["Shards"]
    order_of_batches(context, client, stream)
    order_of_single_records(context, client, stream)
    if context.stand_in:
        context.figures.skip(
            "Kinesis", "order and loss under concurrent puts: the stand-in loses records of these"
        )
    else:
        concurrent(context, client, stream)
    settling(context, client, stream, shards)


def inversions(numbers):
    """Number of records whose sequence number is below that of their predecessor."""
    return sum(later < earlier for earlier, later in zip(numbers, numbers[1:]))


def order_of_batches(context, client, stream):
    """Records of one key in PutRecords, one request after the other."""
    within, between, failed, last = 0, 0, 0, None
    requests = context.samples(100, least=5)
    for _ in range(requests):
        records = [{"Data": b"x", "PartitionKey": KEY} for _ in range(BATCH)]
        answer = client.put_records(StreamName=stream, Records=records)
        failed += answer["FailedRecordCount"]
        numbers = [
            int(record["SequenceNumber"])
            for record in answer["Records"]
            if "SequenceNumber" in record
        ]
        within += inversions(numbers)
        between += last is not None and bool(numbers) and numbers[0] < last
        last = numbers[-1] if numbers else last
    figures = context.figures
    figures.add("Kinesis", f"PutRecords of {BATCH} records of one key", requests)
    # The documentation promises no order here.
    figures.add("Kinesis", "inversions within a PutRecords request", within)
    figures.add("Kinesis", "inversions between PutRecords requests", between)
    figures.add("Kinesis", "records of PutRecords that were refused", failed)


def order_of_single_records(context, client, stream):
    """Records of one key in PutRecord, with and without SequenceNumberForOrdering."""
    count = context.samples(500, least=10)
    plain, seconds = [], []
    for _ in range(count):
        begun = time.monotonic()
        answer = client.put_record(StreamName=stream, Data=b"x", PartitionKey=KEY)
        seconds.append(time.monotonic() - begun)
        plain.append(int(answer["SequenceNumber"]))
    ordered, last = [], None
    for _ in range(count):
        given = {} if last is None else {"SequenceNumberForOrdering": last}
        last = client.put_record(StreamName=stream, Data=b"x", PartitionKey=KEY, **given)[
            "SequenceNumber"
        ]
        ordered.append(int(last))
    figures = context.figures
    figures.add("Kinesis", "inversions of PutRecord, one after the other", inversions(plain))
    figures.expect("Kinesis", "inversions with SequenceNumberForOrdering", inversions(ordered), 0)
    figures.latencies("Kinesis", "PutRecord", seconds)


def concurrent(context, client, stream):
    """Puts of several threads. Each must be there once, under the number that was answered."""
    each = context.samples(100, least=5)
    begun = time.time()

    def work(writer):
        numbers = []
        for number in range(each):
            data = f"{writer} {number}".encode()
            answer = client.put_record(StreamName=stream, Data=data, PartitionKey=KEY)
            numbers.append((int(answer["SequenceNumber"]), data, answer["ShardId"]))
        return numbers

    put = [pair for part in together(8, work) for pair in part]
    time.sleep(5)
    read = read_since(client, stream, put[0][2], begun - CLOCKS_APART_SECONDS)
    found = {}
    for record in read:
        found.setdefault(int(record["SequenceNumber"]), record["Data"])
    missing = sum(found.get(number) != data for number, data, _ in put)
    figures = context.figures
    figures.add("Kinesis", "concurrent PutRecord of eight threads", len(put))
    figures.expect("Kinesis", "of these, not read under their number", missing, 0)
    figures.expect(
        "Kinesis",
        "inversions in the order of reading",
        inversions([int(record["SequenceNumber"]) for record in read]),
        0,
    )


def read_since(client, stream, shard, moment, seconds_max=60):
    """All records since a moment, until the reader has caught up."""
    iterator = client.get_shard_iterator(
        StreamName=stream, ShardId=shard, ShardIteratorType="AT_TIMESTAMP", Timestamp=moment
    )["ShardIterator"]
    records, until = [], time.monotonic() + seconds_max
    while iterator is not None and time.monotonic() < until:
        answer = client.get_records(ShardIterator=iterator, Limit=10000)
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if answer["MillisBehindLatest"] == 0:
            break
        time.sleep(PAUSE_SECONDS)
    return records


def settling(context, client, stream, shards):
    """How long after its acknowledgement a record is seen by a reader that begins before it, and
    how far the stream's clock is from the one here. Together: the margin of a read-back."""
    late, skews, unseen, empty = [], [], 0, 0
    count = context.samples(40, least=3)
    if not context.stand_in:
        # So that a read-back has little to read beside the record.
        time.sleep(CLOCKS_APART_SECONDS)
    for number in range(count):
        time.sleep(PAUSE_SECONDS)
        data = f"settling {number}".encode()
        begun = time.time()
        answer = client.put_record(StreamName=stream, Data=data, PartitionKey=f"settling {number}")
        acknowledged = time.monotonic()
        record, tries = None, 0
        while record is None and time.monotonic() - acknowledged < 20:
            moment = begun - CLOCKS_APART_SECONDS
            read = read_since(client, stream, answer["ShardId"], moment)
            record = next((one for one in read if one["Data"] == data), None)
            tries += 1
            if record is None:
                time.sleep(PAUSE_SECONDS)
        if record is None:
            unseen += 1
            continue
        empty += tries > 1
        late.append(time.monotonic() - acknowledged)
        skews.append(record["ApproximateArrivalTimestamp"].timestamp() - begun)
    figures = context.figures
    figures.expect("Kinesis", "acknowledged records not read within 20 s", unseen, 0)
    figures.add("Kinesis", "records that the first read-back did not see", f"{empty} of {count}")
    figures.add("Kinesis", "shards", len(shards))
    if late:
        figures.latencies("Kinesis", "read-back by AT_TIMESTAMP, from the answer", late)
        figures.add(
            "Kinesis",
            "arrival by the stream's clock, first",
            round(1000 * min(skews)),
            "ms after the request began",
        )
        figures.add(
            "Kinesis",
            "arrival by the stream's clock, last",
            round(1000 * max(skews)),
            "ms after the request began",
        )
