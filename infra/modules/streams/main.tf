# Kinesis streams, by the names in the module file.

resource "aws_kinesis_stream" "stream" {
  for_each = var.streams

  name             = each.key
  shard_count      = each.value.shards
  retention_period = each.value.retention_hours
  encryption_type  = "KMS"
  kms_key_id       = var.kms_key_arn == null ? "alias/aws/kinesis" : var.kms_key_arn
  tags             = var.tags

  # Enhanced fan-out registers consumers that Terraform does not know.
  enforce_consumer_deletion = true

  stream_mode_details {
    stream_mode = each.value.shards == null ? "ON_DEMAND" : "PROVISIONED"
  }
}
