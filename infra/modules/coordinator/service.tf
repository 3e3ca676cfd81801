# The service, and how its number of tasks follows the load.
#
# A smaller number loses nothing: ECS stops a task with SIGTERM, and the task gives its partitions
# to the others before it ends.

locals {
  cluster_name = one(concat(
    aws_ecs_cluster.coordinator[*].name,
    [for arn in var.cluster_arn[*] : element(split("/", arn), 1)],
  ))

  # A new task is in use after its start, a look at the roster, and the moves of its partitions, one
  # after another. A smaller number waits longer, so that a short pause moves nothing.
  scale_out_cooldown_seconds = 120
  scale_in_cooldown_seconds  = 600
}

resource "aws_ecs_service" "coordinator" {
  count = var.scaling == null ? 1 : 0

  name            = var.name
  cluster         = var.cluster_arn == null ? aws_ecs_cluster.coordinator[0].arn : var.cluster_arn
  task_definition = aws_ecs_task_definition.coordinator.arn
  launch_type     = var.on_demand_tasks == null ? "FARGATE" : null
  desired_count   = var.tasks
  propagate_tags  = "SERVICE"
  tags            = var.tags

  # Without it, a change of the strategy would replace the service.
  force_new_deployment = var.on_demand_tasks != null

  dynamic "capacity_provider_strategy" {
    for_each = local.capacity

    content {
      capacity_provider = capacity_provider_strategy.value.provider
      base              = capacity_provider_strategy.value.base
      weight            = capacity_provider_strategy.value.weight
    }
  }

  # ECS starts new tasks first and stops the old ones when the new ones are healthy, so there is
  # always a task that owns or can take over, and each partition moves about once, to a new task. A
  # deployment that does not come up is rolled back.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.coordinator.id]
    assign_public_ip = var.assign_public_ip
  }

  dynamic "load_balancer" {
    for_each = var.load_balancer == null ? [] : [var.load_balancer]

    content {
      target_group_arn = aws_lb_target_group.traffic[0].arn
      container_name   = "coordinator"
      container_port   = local.traffic_port
    }
  }

  # A task that starts before its permissions exist would stop at once. ECS rejects a service whose
  # target group has no listener, or whose cluster lacks its capacity provider.
  depends_on = [
    aws_iam_role_policy.task,
    aws_iam_role_policy.execution,
    aws_lb_listener.traffic,
    aws_ecs_cluster_capacity_providers.coordinator,
  ]
}

# The same service, whose number of tasks is not Terraform's. A `lifecycle` cannot depend on a
# variable, so there are two. A test holds this one to the settings of the other.
resource "aws_ecs_service" "scaled" {
  count = var.scaling == null ? 0 : 1

  name            = var.name
  cluster         = var.cluster_arn == null ? aws_ecs_cluster.coordinator[0].arn : var.cluster_arn
  task_definition = aws_ecs_task_definition.coordinator.arn
  launch_type     = var.on_demand_tasks == null ? "FARGATE" : null
  desired_count   = var.scaling.tasks_min
  propagate_tags  = "SERVICE"
  tags            = var.tags

  force_new_deployment = var.on_demand_tasks != null

  dynamic "capacity_provider_strategy" {
    for_each = local.capacity

    content {
      capacity_provider = capacity_provider_strategy.value.provider
      base              = capacity_provider_strategy.value.base
      weight            = capacity_provider_strategy.value.weight
    }
  }

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.coordinator.id]
    assign_public_ip = var.assign_public_ip
  }

  dynamic "load_balancer" {
    for_each = var.load_balancer == null ? [] : [var.load_balancer]

    content {
      target_group_arn = aws_lb_target_group.traffic[0].arn
      container_name   = "coordinator"
      container_port   = local.traffic_port
    }
  }

  depends_on = [
    aws_iam_role_policy.task,
    aws_iam_role_policy.execution,
    aws_lb_listener.traffic,
    aws_ecs_cluster_capacity_providers.coordinator,
  ]

  lifecycle {
    ignore_changes = [desired_count]
  }
}

resource "aws_appautoscaling_target" "tasks" {
  count = var.scaling == null ? 0 : 1

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.scaled[0].name}"
  min_capacity       = var.scaling.tasks_min
  max_capacity       = var.scaling.tasks_max
  tags               = var.tags
}

# Several policies: the number of tasks grows as soon as one of them wants it, and shrinks when all
# of them do.
resource "aws_appautoscaling_policy" "cpu" {
  count = var.scaling == null ? 0 : 1

  name               = "${var.name}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.tasks[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.tasks[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.tasks[0].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.scaling.cpu_percent
    scale_out_cooldown = local.scale_out_cooldown_seconds
    scale_in_cooldown  = local.scale_in_cooldown_seconds

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

# Each task writes the bytes that wait in its partitions into its log (`--emf`). Their average is
# that of the tasks.
resource "aws_appautoscaling_policy" "messages_waiting" {
  count = try(var.scaling.messages_waiting_mib, null) == null ? 0 : 1

  name               = "${var.name}-messages-waiting"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.tasks[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.tasks[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.tasks[0].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.scaling.messages_waiting_mib * 1024 * 1024
    scale_out_cooldown = local.scale_out_cooldown_seconds
    scale_in_cooldown  = local.scale_in_cooldown_seconds

    customized_metric_specification {
      namespace   = "Satchel"
      metric_name = "MessagesWaiting"
      statistic   = "Average"

      dimensions {
        name  = "Application"
        value = var.application
      }
    }
  }
}
