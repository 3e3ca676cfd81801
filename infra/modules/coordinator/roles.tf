# Two roles: one for ECS to start a task, one for the coordinator itself. Each statement has the
# exact actions on the exact resources.

locals {
  assume = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      # Only for tasks of this account: no other account can make ECS act with this role.
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.here.account_id } }
    }]
  })

  # Actions and resources of each statement, by its Sid. A statement without resources is left out.
  task_permissions = {
    # Objects are created, read and, after the grace of a condemnation, deleted. None is
    # overwritten, and no version is deleted.
    StateObjects = {
      actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      resources = ["${var.state_bucket.arn}/${var.application}/*"]
    }
    # For the whole bucket: without it S3 answers 403 instead of 404 for an object that does not
    # exist, and a condition on the prefix does not hold in a GetObject.
    StateList = {
      actions   = ["s3:ListBucket"]
      resources = [var.state_bucket.arn]
    }
    # Only the items of this application, in a table that others may share: `APPLICATION#STATE#0`
    # (the lease), `#roster` and `#member#KEY`.
    Leases = {
      actions   = ["dynamodb:GetItem", "dynamodb:PutItem"]
      resources = [var.lease_table.arn]
      condition = { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["${var.application}#*"] } }
    }
    # Only the log of this application, in a table that others may share.
    CommitLog = {
      actions   = ["dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]
      resources = var.commit_log_table == null ? [] : [var.commit_log_table.arn]
      condition = { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["s3://${var.state_bucket.name}/${var.application}#*"] } }
    }
    Invoke = {
      actions   = ["lambda:InvokeFunction"]
      resources = var.function_arns
    }
    # Function URLs need both since October 2025.
    InvokeUrls = {
      actions   = ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"]
      resources = var.function_url_arns
    }
    Roles = {
      actions   = ["sts:AssumeRole"]
      resources = var.assumed_role_arns
    }
    # Exactly-once egress reads back what is in doubt.
    StreamsRead = {
      actions   = ["kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"]
      resources = distinct(concat(var.source_stream_arns, var.exactly_once_stream_arns))
    }
    # Egress with a strict ordering puts record by record.
    StreamsWrite = {
      actions   = ["kinesis:PutRecord", "kinesis:PutRecords"]
      resources = distinct(concat(var.target_stream_arns, var.exactly_once_stream_arns))
    }
    FanOutRegister = {
      actions   = ["kinesis:DescribeStreamConsumer", "kinesis:RegisterStreamConsumer"]
      resources = flatten([for arn in var.fan_out ? var.source_stream_arns : [] : [arn, "${arn}/consumer/*"]])
    }
    FanOutRead = {
      actions   = ["kinesis:SubscribeToShard"]
      resources = [for arn in var.fan_out ? var.source_stream_arns : [] : "${arn}/consumer/*"]
    }
    QueuesRead = {
      actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
      resources = var.source_queue_arns
    }
    QueuesWrite = {
      actions   = ["sqs:SendMessage"]
      resources = var.target_queue_arns
    }
    TopicsWrite = {
      actions   = ["sns:Publish"]
      resources = var.target_topic_arns
    }
    EventBusesWrite = {
      actions   = ["events:PutEvents"]
      resources = var.target_event_bus_arns
    }
    TablesWrite = {
      actions   = ["dynamodb:PutItem"]
      resources = var.target_table_arns
    }
    # MSK with IAM: clusters, topics, groups and transactional ids.
    Kafka = {
      actions = [
        "kafka-cluster:AlterGroup",
        "kafka-cluster:AlterTransactionalId",
        "kafka-cluster:Connect",
        "kafka-cluster:DescribeGroup",
        "kafka-cluster:DescribeTopic",
        "kafka-cluster:DescribeTransactionalId",
        "kafka-cluster:ReadData",
        "kafka-cluster:WriteData",
        "kafka-cluster:WriteDataIdempotently",
      ]
      resources = var.kafka_arns
    }
    Secrets = {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = distinct(concat([for arn in [var.admin_token_secret_arn, var.traffic_token_secret_arn] : arn if arn != null], var.secret_arns))
    }
    Keys = {
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = var.kms_key_arns
    }
  }

  task_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for sid, permission in local.task_permissions : merge(
      {
        Sid      = sid
        Effect   = "Allow"
        Action   = permission.actions
        Resource = permission.resources
      },
      try({ Condition = permission.condition }, {}),
    ) if length(permission.resources) > 0]
  })

  execution_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.coordinator.arn}:*"]
      }],
      var.repository_arn == null ? [] : [
        {
          Sid      = "Image"
          Effect   = "Allow"
          Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = [var.repository_arn]
        },
        {
          # This action does not support resources.
          Sid      = "Registry"
          Effect   = "Allow"
          Action   = ["ecr:GetAuthorizationToken"]
          Resource = ["*"]
        },
      ],
    )
  })
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-coordinator"
  assume_role_policy = local.assume
  tags               = var.tags
}

resource "aws_iam_role_policy" "task" {
  name   = "coordinator"
  role   = aws_iam_role.task.id
  policy = local.task_policy
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = local.assume
  tags               = var.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "execution"
  role   = aws_iam_role.execution.id
  policy = local.execution_policy
}
