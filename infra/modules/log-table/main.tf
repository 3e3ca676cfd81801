# The table of commit logs, for state whose commits are to take milliseconds. It holds the commits
# since the last snapshots, and with them durable state: without it the state in the bucket is not
# whole.
#
# No point-in-time recovery: a copy of the table from another moment does not fit the bucket. History
# is a feature of the coordinator (`--retention`), and savepoints are copies.

resource "aws_dynamodb_table" "logs" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "log"
  range_key                   = "object"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "log"
    type = "S"
  }

  attribute {
    name = "object"
    type = "S"
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
  }
}
