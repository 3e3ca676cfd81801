//! Tables of property names.

/// Properties that the module file or this software determines, with the reason; no reason where
/// another field of the module file has taken the value.
pub(super) const FIXED: &[(&str, &str)] = &[
    ("bootstrap.servers", ""),
    ("metadata.broker.list", ""),
    ("group.id", ""),
    (
        "auto.offset.reset",
        "the field `autoOffsetResetPosition` determines it",
    ),
    (
        "enable.auto.commit",
        "offsets are part of the state; the group is informed of those that are durable",
    ),
    (
        "auto.commit.interval.ms",
        "offsets are part of the state; the group is informed of those that are durable",
    ),
    (
        "enable.auto.offset.store",
        "offsets are part of the state; the group is informed of those that are durable",
    ),
    (
        "enable.partition.eof",
        "the ends of partitions are not needed",
    ),
    (
        "transactional.id",
        "it derives from the application, so that a new owner fences the former one",
    ),
    (
        "transaction.timeout.ms",
        "the field `deliverySemantic` has the timeout",
    ),
    (
        "enable.idempotence",
        "the field `deliverySemantic` determines it",
    ),
    (
        "enable.gapless.guarantee",
        "the field `deliverySemantic` determines it",
    ),
    (
        "delivery.timeout.ms",
        "records are retried until they are delivered",
    ),
    (
        "message.timeout.ms",
        "records are retried until they are delivered",
    ),
];

/// Properties of Java's client under the names of librdkafka.
pub(super) const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("max.request.size", "message.max.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
];

/// Properties of Java's client (and of Flink's connector) without a counterpart.
pub(super) const NO_EFFECT: &[&str] = &[
    "auto.include.jmx.reporter",
    "default.api.timeout.ms",
    "exclude.internal.topics",
    "flink.disable-metrics",
    "flink.poll-timeout",
    "interceptor.classes",
    "key.deserializer",
    "key.serializer",
    "max.block.ms",
    "max.poll.records",
    "metadata.max.idle.ms",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "partition.assignment.strategy",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.class",
    "partitioner.ignore.keys",
    "security.providers",
    "socket.connection.setup.timeout.max.ms",
    "ssl.cipher.suites",
    "ssl.enabled.protocols",
    "ssl.engine.factory.class",
    "ssl.keymanager.algorithm",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "throw.on.fetch.stable.offset.unsupported",
    "value.deserializer",
    "value.serializer",
];
