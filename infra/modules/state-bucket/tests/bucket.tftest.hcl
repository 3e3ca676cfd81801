mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { id = "orders-state", arn = "arn:aws:s3:::orders-state" }
  }
}

variables {
  name = "orders-state"
}

run "the_bucket_is_private_versioned_and_encrypted" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.state.block_public_acls,
      aws_s3_bucket_public_access_block.state.block_public_policy,
      aws_s3_bucket_public_access_block.state.ignore_public_acls,
      aws_s3_bucket_public_access_block.state.restrict_public_buckets,
    ])
    error_message = "The bucket can be made public."
  }

  assert {
    condition     = aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "What is deleted is gone."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.state.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Objects are not encrypted by default."
  }

  assert {
    condition     = aws_s3_bucket.state.force_destroy == false
    error_message = "A destroy takes all state with it, unasked."
  }
}

run "the_policy_refuses_plain_http_and_every_overwrite" {
  assert {
    condition = jsondecode(aws_s3_bucket_policy.state.policy).Statement == [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::orders-state", "arn:aws:s3:::orders-state/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "CreateOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "arn:aws:s3:::orders-state/*"
        Condition = {
          Null = { "s3:if-none-match" = "true" }
          Bool = { "s3:ObjectCreationOperation" = "true" }
        }
      },
    ]
    error_message = "The bucket's policy is another one: ${aws_s3_bucket_policy.state.policy}"
  }
}

run "uploads_that_broke_off_and_deleted_objects_are_forgotten_in_time" {
  variables {
    deleted_objects_days = 30
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.state.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 1
    error_message = "Parts of uploads that broke off stay."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.state.rule[1].noncurrent_version_expiration[0].noncurrent_days == 30
    error_message = "Deleted objects are kept for another time."
  }
}

run "replaced_snapshots_are_forgotten_after_a_day_and_other_objects_later" {
  variables {
    applications = { orders = 2, fraud = 1 }
  }

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.state.rule : rule.filter[0].prefix => rule.noncurrent_version_expiration[0].noncurrent_days
      if startswith(rule.id, "forget-replaced-snapshots-")
      } == {
      "orders/partitions/0/snapshots/" = 1
      "orders/partitions/1/snapshots/" = 1
      "fraud/partitions/0/snapshots/"  = 1
    }
    error_message = "Snapshots are kept for another time, or others than these."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.state.rule : rule.noncurrent_version_expiration[0].noncurrent_days if rule.id == "forget-deleted-objects"] == [7]
    error_message = "Log objects, manifests and epochs are kept for another time."
  }
}

run "more_rules_than_s3_has_are_refused_first" {
  command = plan

  variables {
    applications = { orders = 901 }
  }

  expect_failures = [var.applications]
}

run "a_key_of_ones_own_is_used_through_a_bucket_key" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1a2b"
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.state.rule).bucket_key_enabled
    error_message = "Every commit is a request to the key service."
  }

  assert {
    condition = one(one(aws_s3_bucket_server_side_encryption_configuration.state.rule).apply_server_side_encryption_by_default) == {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = "arn:aws:kms:eu-central-1:123456789012:key/1a2b"
    }
    error_message = "Objects are encrypted with another key."
  }
}

run "a_name_that_s3_would_refuse_is_refused_first" {
  command = plan

  variables {
    name = "Orders_State"
  }

  expect_failures = [var.name]
}

run "an_alias_is_no_key" {
  command = plan

  variables {
    kms_key_arn = "alias/orders"
  }

  expect_failures = [var.kms_key_arn]
}
