# One page for the question whether the application is well, and if not, since when.

locals {
  # Title, and lines: metric, label, statistic, and dimensions if they are not the application's.
  graphs = [
    # Every coordinator of several partitions reports 1 while it serves.
    local.is_spread ? {
      title = "Share of tasks that serve (1 is right)"
      lines = [{ metric = "Owners", label = "share", stat = "Average" }]
      } : {
      title = "Owners (1 is right)"
      lines = [{ metric = "Owners", label = "owners", stat = "Maximum" }]
    },
    {
      title = "Starts and failures of tasks${local.is_spread ? " and partitions" : ""}"
      lines = concat([
        { metric = "Starts", label = "starts", stat = "Sum" },
        {
          namespace  = "AWS/Events", metric = "MatchedEvents", label = "failed tasks", stat = "Sum"
          dimensions = { RuleName = local.stops_rule }
        },
        ], [
        for line in [
          {
            namespace  = local.partition_failures.namespace, metric = local.partition_failures.name
            label      = "failed partitions", stat = "Sum"
            dimensions = {}
          },
          { metric = "PartitionsWithoutOwner", label = "partitions without owner", stat = "Maximum" },
        ] : line if local.is_spread
      ])
    },
    {
      title = "Ingress lag (ms)"
      lines = [{ metric = "IngressLag", label = "lag", stat = "Maximum" }]
    },
    {
      title = "Messages waiting (bytes)"
      lines = [{ metric = "MessagesWaiting", label = "waiting", stat = "Maximum" }]
    },
    {
      title = "Endpoints down, dead letters made"
      lines = [
        { metric = "EndpointsDown", label = "endpoints down", stat = "Maximum" },
        { metric = "DeadLettersMade", label = "dead letters", stat = "Sum" },
      ]
    },
    {
      title = "Commit latency (ms)"
      lines = [
        { metric = "CommitLatency", label = "p50", stat = "p50" },
        { metric = "CommitLatency", label = "p99", stat = "p99" },
        { metric = "CommitLatency", label = "max", stat = "Maximum" },
      ]
    },
    {
      title = "Commits"
      lines = [{ metric = "CommitsMade", label = "commits", stat = "Sum" }]
    },
    {
      title = "Memory and CPU (percent)"
      lines = [
        { metric = "MemoryUsed", label = "memory of the coordinator", stat = "Maximum" },
        {
          namespace  = "AWS/ECS", metric = "MemoryUtilization", label = "memory of the tasks", stat = "Maximum"
          dimensions = local.service
        },
        {
          namespace  = "AWS/ECS", metric = "CPUUtilization", label = "CPU of the tasks", stat = "Maximum"
          dimensions = local.service
        },
      ]
    },
  ]

  alarm_widget = {
    type = "alarm", x = 0, y = 0, width = 24, height = 3
    properties = {
      title  = "Alarms of ${var.application}"
      alarms = [for key in sort(keys(local.alarms)) : aws_cloudwatch_metric_alarm.alarm[key].arn]
    }
  }

  graph_widgets = [for index, graph in local.graphs : {
    type = "metric", x = 12 * (index % 2), y = 3 + 6 * floor(index / 2), width = 12, height = 6
    properties = {
      title  = graph.title
      region = data.aws_region.here.name
      view   = "timeSeries"
      period = 60
      yAxis  = { left = { min = 0 } }
      metrics = [for line in graph.lines : concat(
        [try(line.namespace, local.namespace), line.metric],
        flatten([for name, value in try(line.dimensions, local.application) : [name, value]]),
        [{ label = line.label, stat = line.stat }],
      )]
    }
  }]
}

resource "aws_cloudwatch_dashboard" "dashboard" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = concat([local.alarm_widget], local.graph_widgets) })
}
