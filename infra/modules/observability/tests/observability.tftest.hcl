mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/orders-task-failures" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/events/satchel/orders" }
  }

  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:orders" }
  }
}

variables {
  name         = "orders"
  application  = "orders"
  cluster_name = "orders"
  service_name = "orders"
}

run "silence_means_no_owner_and_nothing_else" {
  assert {
    condition     = { for key, alarm in aws_cloudwatch_metric_alarm.alarm : key => alarm.treat_missing_data if alarm.treat_missing_data != "notBreaching" } == { no-owner = "breaching" }
    error_message = "An application without a coordinator raises no alarm, or an idle one does."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.alarm["no-owner"].comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.alarm["no-owner"].threshold == 1 && aws_cloudwatch_metric_alarm.alarm["no-owner"].statistic == "Maximum"
    error_message = "A standby, which reports 0 owners, hides the owner or takes its place."
  }
}

run "each_alarm_reads_a_metric_that_the_coordinator_or_aws_writes" {
  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.alarm : key => "${alarm.namespace} ${alarm.metric_name} ${coalesce(alarm.statistic, alarm.extended_statistic)} ${alarm.threshold} ${alarm.period}x${alarm.evaluation_periods}"
      } == {
      no-owner      = "Satchel Owners Maximum 1 60x3"
      dead-letters  = "Satchel DeadLettersMade Sum 0 300x1"
      ingress-lag   = "Satchel IngressLag Maximum 60000 60x5"
      endpoint-down = "Satchel EndpointsDown Maximum 0 60x3"
      commits-slow  = "Satchel CommitLatency p99 1000 60x5"
      restarting    = "Satchel Starts Sum 6 900x1"
      tasks-failing = "AWS/Events MatchedEvents Sum 2 900x1"
      memory        = "AWS/ECS MemoryUtilization Maximum 85 60x5"
    }
    error_message = "An alarm reads something else: ${jsonencode({ for key, alarm in aws_cloudwatch_metric_alarm.alarm : key => alarm.metric_name })}"
  }

  assert {
    condition = alltrue([for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.dimensions == {
      "Satchel"    = tomap({ Application = "orders" })
      "AWS/Events" = tomap({ RuleName = "orders-task-failures" })
      "AWS/ECS"    = tomap({ ClusterName = "orders", ServiceName = "orders" })
    }[alarm.namespace]])
    error_message = "An alarm reads the metrics of something else."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.alarm) <= 10 && length(aws_cloudwatch_log_metric_filter.partition_failures) == 0
    error_message = "More alarms than an account has for free, or failures that cannot be."
  }
}

run "thresholds_are_those_that_were_asked_for_and_alarms_reach_their_topic" {
  variables {
    topic_arn               = "arn:aws:sns:eu-central-1:123456789012:alarms"
    tasks                   = 1
    no_owner_minutes        = 5
    ingress_lag_max_seconds = 10
    commit_latency_max_ms   = 250
    memory_max_percent      = 90
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.alarm_actions == toset([var.topic_arn]) && alarm.ok_actions == toset([var.topic_arn])])
    error_message = "An alarm, or its end, reaches nobody."
  }

  assert {
    condition = [
      aws_cloudwatch_metric_alarm.alarm["no-owner"].evaluation_periods,
      aws_cloudwatch_metric_alarm.alarm["ingress-lag"].threshold,
      aws_cloudwatch_metric_alarm.alarm["commits-slow"].threshold,
      aws_cloudwatch_metric_alarm.alarm["memory"].threshold,
      aws_cloudwatch_metric_alarm.alarm["restarting"].threshold,
    ] == [5, 10000, 250, 90, 3]
    error_message = "A threshold is another one."
  }
}

run "of_several_partitions_failures_count_and_no_owner_is_looked_for" {
  variables {
    tasks                      = 3
    partitions                 = 8
    coordinator_log_group_name = "/satchel/orders"
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.alarm["partitions-failing"].namespace == aws_cloudwatch_log_metric_filter.partition_failures[0].metric_transformation[0].namespace
      && aws_cloudwatch_metric_alarm.alarm["partitions-failing"].metric_name == aws_cloudwatch_log_metric_filter.partition_failures[0].metric_transformation[0].name
      && aws_cloudwatch_metric_alarm.alarm["partitions-failing"].namespace == "Satchel/orders"
      && length(coalesce(aws_cloudwatch_metric_alarm.alarm["partitions-failing"].dimensions, {})) == 0
    )
    error_message = "The alarm reads a metric that the filter does not write."
  }

  assert {
    condition     = aws_cloudwatch_log_metric_filter.partition_failures[0].log_group_name == "/satchel/orders" && aws_cloudwatch_log_metric_filter.partition_failures[0].pattern == "{ $.fields.message = \"partition failed in this process*\" }"
    error_message = "The filter finds something else."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.alarm["no-owner"].alarm_description == "No coordinator serves orders: nothing is served or read." && aws_cloudwatch_metric_alarm.alarm["restarting"].threshold == 9
    error_message = "An alarm speaks of one owner, or of two tasks."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.alarm["partitions-unowned"].metric_name == "PartitionsWithoutOwner" && aws_cloudwatch_metric_alarm.alarm["partitions-unowned"].statistic == "Maximum" && aws_cloudwatch_metric_alarm.alarm["partitions-unowned"].threshold == 0 && aws_cloudwatch_metric_alarm.alarm["partitions-unowned"].dimensions == tomap({ Application = "orders" })
    error_message = "A partition without an owner raises no alarm."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.alarm) == 10
    error_message = "An alarm is missing, or there are more than an account has for free."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_dashboard.dashboard[0].dashboard_body).widgets[1].properties.metrics == [
      ["Satchel", "Owners", "Application", "orders", { label = "share", stat = "Average" }],
    ]
    error_message = "The dashboard looks for one owner."
  }

  assert {
    condition     = contains(jsondecode(aws_cloudwatch_dashboard.dashboard[0].dashboard_body).widgets[2].properties.metrics[*][1], "PartitionsFailed")
    error_message = "Failures of partitions have no graph."
  }
}

run "failures_of_partitions_are_counted_in_a_log_that_is_named" {
  command = plan

  variables {
    partitions = 8
  }

  expect_failures = [var.coordinator_log_group_name]
}

run "only_tasks_of_this_service_that_failed_count" {
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.stops.event_pattern).detail == {
      group      = ["service:orders"]
      clusterArn = [{ suffix = ":cluster/orders" }]
      lastStatus = ["STOPPED"]
      stopCode   = ["EssentialContainerExited", "TaskFailedToStart"]
    }
    error_message = "Other tasks count, or deployments do."
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_cloudwatch_log_resource_policy.stops.policy_document).Statement : startswith(statement.Resource, "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/events/satchel/orders:*")])
    error_message = "EventBridge may write elsewhere."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_log_resource_policy.stops.policy_document).Statement[1].Condition == { ArnEquals = { "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/orders-task-failures" } }
    error_message = "Another rule may write into the log."
  }
}

run "the_dashboard_shows_every_metric_that_has_an_alarm" {
  assert {
    condition = length(setsubtract(
      toset([for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.metric_name]),
      toset(flatten([for widget in jsondecode(aws_cloudwatch_dashboard.dashboard[0].dashboard_body).widgets : [for line in try(widget.properties.metrics, []) : line[1]]])),
    )) == 0
    error_message = "An alarm has no graph."
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.dashboard[0].dashboard_body).widgets) == 9
    error_message = "A widget is missing."
  }
}

run "a_dashboard_may_be_left_out" {
  variables {
    dashboard = false
  }

  assert {
    condition     = length(aws_cloudwatch_dashboard.dashboard) == 0 && output.dashboard_url == null
    error_message = "There is a dashboard."
  }
}

run "what_cannot_work_is_refused_first" {
  command = plan

  variables {
    name                    = "1st"
    tasks                   = 0
    partitions              = 0
    partition_failures_max  = -1
    topic_arn               = "alarms"
    no_owner_minutes        = 0
    dead_letters_max        = -1
    ingress_lag_max_seconds = 0
    endpoint_down_minutes   = 61
    commit_latency_max_ms   = 0
    starts_max              = 0
    task_failures_max       = -1
    memory_max_percent      = 101
  }

  expect_failures = [
    var.name, var.tasks, var.partitions, var.partition_failures_max, var.topic_arn, var.no_owner_minutes, var.dead_letters_max, var.ingress_lag_max_seconds,
    var.endpoint_down_minutes, var.commit_latency_max_ms, var.starts_max, var.task_failures_max, var.memory_max_percent,
  ]
}
