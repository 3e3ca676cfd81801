# Bucket of the durable state: commit logs, epochs, snapshots and manifests.

resource "aws_s3_bucket" "state" {
  bucket        = var.name
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket                  = aws_s3_bucket.state.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    # A customer managed key needs a bucket key: without it every commit would be a request to KMS
    # too.
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# Satchel overwrites nothing, so versioning costs nothing while objects live. It keeps deleted
# objects for `deleted_objects_days`. In that time a mistaken `aws s3 rm`, or a coordinator with a
# fault or in wrong hands, can be undone: its role may delete objects but not versions. The price
# is the storage of the collected log for that long. For If-None-Match a delete marker counts as
# no object, which is right: Satchel's own rules (epochs) keep collected numbers unusable, not the
# bucket's.
resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  # A process that is killed leaves its multipart upload behind, and S3 keeps charging for the
  # parts.
  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  # Delete markers are removed too: a listing reads past each of them.
  rule {
    id     = "forget-deleted-objects"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.deleted_objects_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  # Snapshots are replaced as long as state changes, and so are most of the deleted bytes. Where two
  # rules apply to one object, S3 follows the shorter.
  dynamic "rule" {
    for_each = local.snapshot_prefixes

    content {
      id     = "forget-replaced-snapshots-${rule.key}"
      status = "Enabled"

      filter {
        prefix = rule.value
      }

      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.state]
}

locals {
  # By application and partition, because S3 matches the beginning of a name only.
  snapshot_prefixes = merge([
    for application, partitions in var.applications : {
      for partition in range(partitions) :
      "${application}-${partition}" => "${application}/partitions/${partition}/snapshots/"
    }
  ]...)

  tls_only = {
    Sid       = "TlsOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }

  # No two owners may write one log number, and nothing is ever overwritten. Satchel sends the
  # condition with every write, and the bucket enforces it. The parts of a multipart upload cannot
  # carry the condition and are exempt. The completion of the upload is not.
  create_only = {
    Sid       = "CreateOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:PutObject"
    Resource  = "${aws_s3_bucket.state.arn}/*"
    Condition = {
      Null = { "s3:if-none-match" = "true" }
      Bool = { "s3:ObjectCreationOperation" = "true" }
    }
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [local.tls_only, local.create_only]
  })

  # S3 rejects two concurrent changes of a bucket's access.
  depends_on = [aws_s3_bucket_public_access_block.state]
}
