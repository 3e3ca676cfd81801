# Alarms and a dashboard. Most read the metrics that coordinators write into their log in
# CloudWatch's embedded metric format (`--emf`), once a minute each. No agent is needed.

data "aws_region" "here" {}

locals {
  namespace   = "Satchel"
  application = { Application = var.application }
  service     = { ClusterName = var.cluster_name, ServiceName = var.service_name }
  is_spread   = var.partitions > 1

  # By the suffix of the alarm's name. `missing` says how minutes without a value count. Only
  # coordinators that live report, so the absence of metrics is the first alarm's matter.
  alarms = merge(
    local.alarms_of_all,
    { for key, alarm in local.alarms_of_several : key => alarm if local.is_spread },
  )

  alarms_of_all = {
    # Each of several partitions has an owner of its own. Then every coordinator that serves any of
    # them, or forwards to the others, reports that it owns.
    no-owner = {
      description = join(" ", [
        "No coordinator ${local.is_spread ? "serves" : "owns"} ${var.application}:",
        "nothing is served or read.",
      ])
      metric     = "Owners", statistic = "Maximum"
      comparison = "LessThanThreshold", threshold = 1
      period     = 60, periods = var.no_owner_minutes, missing = "breaching"
    }
    dead-letters = {
      description = "${var.application} gave up on messages; see `satchel dead-letters list`."
      metric      = "DeadLettersMade", statistic = "Sum", threshold = var.dead_letters_max
      period      = 300, periods = 1
    }
    ingress-lag = {
      description = "${var.application} is behind its streams or queues."
      metric      = "IngressLag", statistic = "Maximum"
      threshold   = var.ingress_lag_max_seconds * 1000, periods = 5
    }
    endpoint-down = {
      description = "An endpoint of ${var.application} does not answer; its messages wait."
      metric      = "EndpointsDown", statistic = "Maximum", threshold = 0
      periods     = var.endpoint_down_minutes
    }
    commits-slow = {
      description = "Commits of ${var.application} take long: its store is slow."
      metric      = "CommitLatency", percentile = "p99"
      threshold   = var.commit_latency_max_ms, periods = 5
    }
    restarting = {
      description = "Coordinators of ${var.application} start again and again; see their log."
      metric      = "Starts", statistic = "Sum"
      threshold   = coalesce(var.starts_max, 3 * var.tasks), period = 900, periods = 1
    }
    # Also sees what ends before it can report: a missing image, permission or module file.
    tasks-failing = {
      description = "Tasks of ${var.name} end by themselves; see ${local.stops_log_group}."
      namespace   = "AWS/Events", metric = "MatchedEvents", statistic = "Sum"
      dimensions  = { RuleName = local.stops_rule }
      threshold   = var.task_failures_max, period = 900, periods = 1
    }
    # The kernel kills a task at its limit, whatever the memory is for. State alone may fill the
    # coordinator's own limit (`--memory-limit`) and is evicted there.
    memory = {
      description = "A task of ${var.name} is near its memory limit, where it is killed."
      namespace   = "AWS/ECS", metric = "MemoryUtilization", statistic = "Maximum"
      dimensions  = local.service
      threshold   = var.memory_max_percent, periods = 5
    }
  }

  alarms_of_several = {
    # The task lives on, so `restarting` and `tasks-failing` do not see this. A partition that no
    # task can run fails in each of them every 30 s.
    partitions-failing = {
      description = "Partitions of ${var.application} fail in its tasks; see the coordinators' log."
      namespace   = local.partition_failures.namespace
      metric      = local.partition_failures.name, statistic = "Sum"
      dimensions  = {}
      threshold   = var.partition_failures_max, period = 900, periods = 1
    }
    # Every task reports what the roster says. While the roster cannot be read, that is the last it
    # said.
    partitions-unowned = {
      description = "A partition of ${var.application} has no owner: its messages wait."
      metric      = "PartitionsWithoutOwner", statistic = "Maximum", threshold = 0
      periods     = var.no_owner_minutes
    }
  }

  # A metric of a filter has no fixed dimensions, so its namespace names the application.
  partition_failures = {
    namespace = "${local.namespace}/${var.application}"
    name      = "PartitionsFailed"
  }

  stops_rule      = "${var.name}-task-failures"
  stops_log_group = "/aws/events/satchel/${var.name}"
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = try(each.value.namespace, local.namespace)
  metric_name         = each.value.metric
  dimensions          = try(each.value.dimensions, local.application)
  statistic           = try(each.value.statistic, null)
  extended_statistic  = try(each.value.percentile, null)
  comparison_operator = try(each.value.comparison, "GreaterThanThreshold")
  threshold           = each.value.threshold
  period              = try(each.value.period, 60)
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = var.topic_arn == null ? [] : [var.topic_arn]
  ok_actions          = var.topic_arn == null ? [] : [var.topic_arn]
  tags                = var.tags
}

# The coordinator's log has a line for each. Without failures the metric has no values and no price.
resource "aws_cloudwatch_log_metric_filter" "partition_failures" {
  count = local.is_spread ? 1 : 0

  name           = "${var.name}-partition-failures"
  log_group_name = var.coordinator_log_group_name
  pattern        = "{ $.fields.message = \"partition failed in this process*\" }"

  metric_transformation {
    namespace = local.partition_failures.namespace
    name      = local.partition_failures.name
    value     = "1"
    unit      = "Count"
  }
}

# ECS forgets why a task ended after an hour. The log keeps it, and the rule's own metric counts.
resource "aws_cloudwatch_event_rule" "stops" {
  name        = local.stops_rule
  description = "Tasks of ${var.name} that ended by themselves or did not come up"
  tags        = var.tags

  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail = {
      group      = ["service:${var.service_name}"]
      clusterArn = [{ suffix = ":cluster/${var.cluster_name}" }]
      lastStatus = ["STOPPED"]
      stopCode   = ["EssentialContainerExited", "TaskFailedToStart"]
    }
  })
}

resource "aws_cloudwatch_event_target" "stops" {
  rule = aws_cloudwatch_event_rule.stops.name
  arn  = aws_cloudwatch_log_group.stops.arn

  depends_on = [aws_cloudwatch_log_resource_policy.stops]
}

resource "aws_cloudwatch_log_group" "stops" {
  name              = local.stops_log_group
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

# An account has at most ten of these policies in a region.
resource "aws_cloudwatch_log_resource_policy" "stops" {
  policy_name = local.stops_rule
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"] }
        Action    = ["logs:CreateLogStream"]
        Resource  = "${aws_cloudwatch_log_group.stops.arn}:*"
      },
      {
        Effect    = "Allow"
        Principal = { Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"] }
        Action    = ["logs:PutLogEvents"]
        Resource  = "${aws_cloudwatch_log_group.stops.arn}:*:*"
        Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.stops.arn } }
      },
    ]
  })
}
