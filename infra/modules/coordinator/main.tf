# The coordinator as a service on Fargate. One task owns the partition. The others stand by, and
# take over when it is gone. Several partitions are spread over the tasks: each task owns some, and
# the others take these over when it is gone.

data "aws_caller_identity" "here" {}

data "aws_region" "here" {}

locals {
  traffic_port = 8080
  admin_port   = 8081
  peer_port    = 8082

  command = concat(
    ["run"],
    flatten([for file in var.module_files : ["--module", file]]),
    [
      "--state", "s3://${var.state_bucket.name}/${var.application}",
      "--lease-table", var.lease_table.name,
      "--application", var.application,
      "--lease-time", "${var.lease_time_seconds}s",
      "--stop-timeout", "${local.stop_timeout_seconds}s",
      "--http", "0.0.0.0:${local.traffic_port}",
      # Reachable from other tasks: standbys ask the owner for its handover, and the load balancer
      # asks for its health. Without a token only these and metrics are served.
      "--admin", "0.0.0.0:${local.admin_port}",
      "--log-format", "json",
    ],
    var.commit_log_table == null ? [] : ["--commit-log", "dynamodb:${var.commit_log_table.name}"],
    var.partitions == null ? [] : ["--partitions", tostring(var.partitions)],
    # Tasks forward requests to the owner, and partitions of different tasks send one another
    # messages. The tasks authenticate one another.
    var.forwarding ? ["--peer", "0.0.0.0:${local.peer_port}"] : [],
    var.admin_token_secret_arn == null ? [] : ["--admin-token-secret", var.admin_token_secret_arn],
    var.traffic_token_secret_arn == null ? [] : ["--http-token-secret", var.traffic_token_secret_arn],
    var.extra_arguments,
  )

  sizes = {
    standard = { cpu_units = 1024, memory_mib = 4096 }
    small    = { cpu_units = 256, memory_mib = 512 }
  }
  # An unknown size is rejected by its own validation.
  cpu_units  = coalesce(var.cpu_units, try(local.sizes[var.size].cpu_units, 1024))
  memory_mib = coalesce(var.memory_mib, try(local.sizes[var.size].memory_mib, 4096))
  metrics    = coalesce(var.metrics, var.size != "small")

  # A small task keeps more than the coordinator would by itself for everything that is not state:
  # the process, and snapshots on their way.
  environment = merge(
    {
      SATCHEL_MEMORY_LIMIT  = "${floor(local.memory_mib / (local.memory_mib > 1024 ? 2 : 4))}MiB"
      SATCHEL_PENDING_LIMIT = "${floor(local.memory_mib / 8)}MiB"
    },
    local.metrics ? { SATCHEL_EMF = "true" } : {},
    var.environment,
  )

  # The first tasks run on ordinary Fargate, all others on Spot. A capacity provider without weight
  # gets no tasks, not even those of its base.
  capacity = concat(
    coalesce(var.on_demand_tasks, 0) == 0 ? [] : [{ provider = "FARGATE", base = var.on_demand_tasks, weight = 1 }],
    var.on_demand_tasks == null ? [] : [{ provider = "FARGATE_SPOT", base = 0, weight = 1000 }],
  )

  is_spread = coalesce(var.partitions, 1) > 1 && var.forwarding

  # A task gives its partitions away two at a time in three fifths of this time.
  stop_timeout_seconds = coalesce(var.stop_timeout_seconds, local.is_spread ? 60 : 25)

  # After --stop-timeout the process ends by itself. ECS kills the container this much later.
  stop_margin_seconds = 10
}

resource "aws_cloudwatch_log_group" "coordinator" {
  name              = "/satchel/${var.name}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_ecs_cluster" "coordinator" {
  count = var.cluster_arn == null ? 1 : 0

  name = var.name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "coordinator" {
  count = var.cluster_arn == null && var.on_demand_tasks != null ? 1 : 0

  cluster_name       = aws_ecs_cluster.coordinator[0].name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_ecs_task_definition" "coordinator" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.cpu_units
  memory                   = local.memory_mib
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([{
    name      = "coordinator"
    image     = var.image
    essential = true
    # The limit of the task is not seen inside of it, that of the container is.
    memory      = local.memory_mib
    command     = local.command
    environment = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]

    # The container writes no files: its state is in S3.
    readonlyRootFilesystem = true
    user                   = "65532:65532"
    linuxParameters        = { capabilities = { drop = ["ALL"] } }

    # On SIGTERM the task hands over: it stops reading, finishes what is in flight, commits, and
    # releases the lease, or gives its partitions to the other tasks.
    stopTimeout = local.stop_timeout_seconds + local.stop_margin_seconds

    # Liveness, not readiness: a standby is healthy.
    healthCheck = {
      command     = ["CMD", "/satchel", "health"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }

    portMappings = concat([
      { name = "traffic", containerPort = local.traffic_port, hostPort = local.traffic_port, protocol = "tcp" },
      { name = "admin", containerPort = local.admin_port, hostPort = local.admin_port, protocol = "tcp" },
      ], var.forwarding ? [
      { name = "peer", containerPort = local.peer_port, hostPort = local.peer_port, protocol = "tcp" },
    ] : [])

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.coordinator.name
        awslogs-region        = data.aws_region.here.name
        awslogs-stream-prefix = "coordinator"
        # The coordinator must not block on its log.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
  }])
}

