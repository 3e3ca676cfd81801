# The table of leases: the owner of each partition. It decides how fast a standby takes over. The
# log decides what is durable, so the loss of this table costs time and no data.

resource "aws_dynamodb_table" "leases" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "pk"
    type = "S"
  }

  # Items of processes that ended. The lease itself has no such attribute.
  ttl {
    attribute_name = "expires"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
  }
}
