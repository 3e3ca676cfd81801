mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/orders" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/satchel/orders" }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/orders" }
  }

  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/orders:1" }
  }

  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/orders/1", dns_name = "orders.elb.example" }
  }

  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/orders/1" }
  }
}

variables {
  name           = "orders"
  application    = "orders"
  image          = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/orders:1.2.0"
  repository_arn = "arn:aws:ecr:eu-central-1:123456789012:repository/orders"
  state_bucket   = { name = "orders-state", arn = "arn:aws:s3:::orders-state" }
  lease_table    = { name = "orders-leases", arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders-leases" }
  function_arns  = ["arn:aws:lambda:eu-central-1:123456789012:function:orders:live"]
  vpc_id         = "vpc-1"
  subnet_ids     = ["subnet-1", "subnet-2"]
}

run "two_tasks_run_and_a_deployment_never_leaves_none" {
  assert {
    condition     = aws_ecs_service.coordinator[0].desired_count == 2
    error_message = "There is no standby."
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].deployment_minimum_healthy_percent == 100 && aws_ecs_service.coordinator[0].deployment_maximum_percent == 200
    error_message = "A deployment stops what runs before what follows is healthy."
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].deployment_circuit_breaker[0].enable && aws_ecs_service.coordinator[0].deployment_circuit_breaker[0].rollback
    error_message = "What does not come up is not rolled back."
  }

  assert {
    condition     = one(aws_ecs_task_definition.coordinator.runtime_platform).cpu_architecture == "ARM64"
    error_message = "The task runs elsewhere."
  }
}

run "the_container_runs_satchel_with_time_to_hand_over" {
  variables {
    stop_timeout_seconds = 110
    lease_time_seconds   = 20
    extra_arguments      = ["--pending-limit", "1GiB"]
  }

  assert {
    condition = jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command == [
      "run", "--module", "/etc/satchel/module.yaml", "--state", "s3://orders-state/orders", "--lease-table", "orders-leases",
      "--application", "orders", "--lease-time", "20s", "--stop-timeout", "110s", "--http", "0.0.0.0:8080", "--admin", "0.0.0.0:8081",
      "--log-format", "json", "--peer", "0.0.0.0:8082", "--pending-limit", "1GiB",
    ]
    error_message = "The command is another one."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].stopTimeout == 120
    error_message = "The container is killed at another time."
  }

  assert {
    condition     = { for variable in jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].environment : variable.name => variable.value } == { SATCHEL_EMF = "true", SATCHEL_MEMORY_LIMIT = "2048MiB", SATCHEL_PENDING_LIMIT = "512MiB" }
    error_message = "The limits do not follow the memory of the task, or there are no metrics."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].healthCheck.command == ["CMD", "/satchel", "health"]
    error_message = "ECS asks something else whether the coordinator is alive."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].user == "65532:65532" && jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].readonlyRootFilesystem
    error_message = "The process may do more in its container than it needs."
  }
}

run "a_small_task_costs_little_and_its_limits_follow_its_memory" {
  variables {
    size  = "small"
    tasks = 1
  }

  assert {
    condition     = aws_ecs_task_definition.coordinator.cpu == "256" && aws_ecs_task_definition.coordinator.memory == "512" && aws_ecs_service.coordinator[0].desired_count == 1
    error_message = "The task is larger than the smallest."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].memory == 512
    error_message = "The process does not see its limit."
  }

  assert {
    condition     = { for variable in jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].environment : variable.name => variable.value } == { SATCHEL_MEMORY_LIMIT = "128MiB", SATCHEL_PENDING_LIMIT = "64MiB" }
    error_message = "The limits do not follow the memory of the task, or metrics are written that cost more than they tell."
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].launch_type == "FARGATE" && length(aws_ecs_service.coordinator[0].capacity_provider_strategy) == 0
    error_message = "The task can be taken away, though nobody asked for that."
  }
}

run "a_size_may_be_changed_in_part" {
  command = plan

  variables {
    size       = "small"
    memory_mib = 1024
    metrics    = true
  }

  assert {
    condition     = aws_ecs_task_definition.coordinator.cpu == "256" && aws_ecs_task_definition.coordinator.memory == "1024"
    error_message = "The variable does not override the size."
  }
}

run "tasks_run_on_spot_but_those_that_are_to_stay" {
  variables {
    tasks           = 2
    on_demand_tasks = 1
  }

  assert {
    condition = {
      for strategy in aws_ecs_service.coordinator[0].capacity_provider_strategy :
      strategy.capacity_provider => "${strategy.base} ${strategy.weight}"
    } == { FARGATE = "1 1", FARGATE_SPOT = "0 1000" }
    error_message = "The tasks run on other capacity."
  }

  assert {
    condition     = aws_ecs_cluster_capacity_providers.coordinator[0].capacity_providers == toset(["FARGATE", "FARGATE_SPOT"])
    error_message = "The cluster has no Spot capacity, or the service does not use it."
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].force_new_deployment
    error_message = "A change of the number replaces the service, which is down meanwhile."
  }
}

run "all_tasks_run_on_spot" {
  variables {
    tasks           = 2
    on_demand_tasks = 0
  }

  assert {
    condition     = [for strategy in aws_ecs_service.coordinator[0].capacity_provider_strategy : strategy.capacity_provider] == ["FARGATE_SPOT"]
    error_message = "A task runs on other capacity."
  }
}

run "the_role_has_what_the_application_uses_and_nothing_else" {
  assert {
    condition = jsondecode(output.task_policy).Statement == [
      {
        Sid      = "Invoke"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = ["arn:aws:lambda:eu-central-1:123456789012:function:orders:live"]
      },
      {
        Sid      = "Leases"
        Effect   = "Allow"
        Action   = ["dynamodb:GetItem", "dynamodb:PutItem"]
        Resource = ["arn:aws:dynamodb:eu-central-1:123456789012:table/orders-leases"]
        Condition = {
          "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["orders#*"] }
        }
      },
      {
        Sid      = "StateList"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = ["arn:aws:s3:::orders-state"]
      },
      {
        Sid      = "StateObjects"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        Resource = ["arn:aws:s3:::orders-state/orders/*"]
      },
    ]
    error_message = "The role is another one: ${output.task_policy}"
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.execution.policy).Statement : statement.Sid] == ["Log", "Image", "Registry"]
    error_message = "Starting a task needs something else: ${aws_iam_role_policy.execution.policy}"
  }
}

run "streams_that_are_read_are_not_written" {
  variables {
    source_stream_arns       = ["arn:aws:kinesis:eu-central-1:123456789012:stream/in"]
    target_stream_arns       = ["arn:aws:kinesis:eu-central-1:123456789012:stream/out"]
    exactly_once_stream_arns = ["arn:aws:kinesis:eu-central-1:123456789012:stream/once"]
    fan_out                  = true
  }

  assert {
    condition = {
      for statement in jsondecode(output.task_policy).Statement : statement.Sid => statement.Resource
      if startswith(statement.Sid, "Streams") || startswith(statement.Sid, "FanOut")
      } == {
      StreamsRead    = ["arn:aws:kinesis:eu-central-1:123456789012:stream/in", "arn:aws:kinesis:eu-central-1:123456789012:stream/once"]
      StreamsWrite   = ["arn:aws:kinesis:eu-central-1:123456789012:stream/out", "arn:aws:kinesis:eu-central-1:123456789012:stream/once"]
      FanOutRegister = ["arn:aws:kinesis:eu-central-1:123456789012:stream/in", "arn:aws:kinesis:eu-central-1:123456789012:stream/in/consumer/*"]
      FanOutRead     = ["arn:aws:kinesis:eu-central-1:123456789012:stream/in/consumer/*"]
    }
    error_message = "The role is another one: ${output.task_policy}"
  }
}

run "the_number_of_partitions_is_handed_over" {
  variables {
    partitions = 4
  }

  assert {
    condition     = strcontains(join(" ", jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command), "--partitions 4")
    error_message = "The coordinator is not told of the partitions."
  }
}

run "partitions_are_spread_over_tasks_that_have_time_to_give_them_away" {
  variables {
    tasks              = 3
    partitions         = 8
    load_balancer      = "orders"
    client_cidr_blocks = ["10.0.0.0/16"]
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].desired_count == 3 && length(aws_ecs_service.scaled) == 0
    error_message = "The number of tasks is another one."
  }

  assert {
    condition = alltrue([for argument in ["--partitions 8", "--peer 0.0.0.0:8082", "--stop-timeout 60s"] :
      strcontains(join(" ", jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command), argument)
    ]) && jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].stopTimeout == 70
    error_message = "Tasks do not share the partitions, or are killed while they give them away."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.peers.referenced_security_group_id == aws_security_group.coordinator.id
      && aws_vpc_security_group_ingress_rule.peers.from_port <= 8081
      && aws_vpc_security_group_ingress_rule.peers.to_port == 8082
    )
    error_message = "A task does not reach the partitions of another one."
  }

  assert {
    condition     = aws_lb_target_group.traffic[0].health_check[0].path == "/readyz/traffic"
    error_message = "Requests reach a task that is to stop."
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].deployment_minimum_healthy_percent == 100 && aws_ecs_service.coordinator[0].deployment_maximum_percent == 200
    error_message = "A deployment moves partitions to tasks that it replaces next."
  }

  assert {
    condition = alltrue([for item in ["0", "roster", "member#AbC"] : anytrue([
      for pattern in jsondecode(output.task_policy).Statement[1].Condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] :
      startswith("orders#s3://orders-state/orders#${item}", trimsuffix(pattern, "*")) && endswith(pattern, "*")
    ])])
    error_message = "A task may not write one of its items: ${output.task_policy}"
  }
}

run "the_number_of_tasks_follows_the_load" {
  variables {
    partitions         = 8
    load_balancer      = "orders"
    client_cidr_blocks = ["10.0.0.0/16"]
    scaling            = { tasks_min = 2, tasks_max = 8, messages_waiting_mib = 64 }
  }

  assert {
    condition     = length(aws_ecs_service.coordinator) == 0 && aws_ecs_service.scaled[0].desired_count == 2 && output.service_name == "orders" && output.tasks_max == 8
    error_message = "There is another service, or it starts with another number of tasks."
  }

  assert {
    condition = (
      aws_appautoscaling_target.tasks[0].resource_id == "service/orders/orders"
      && aws_appautoscaling_target.tasks[0].scalable_dimension == "ecs:service:DesiredCount"
      && [aws_appautoscaling_target.tasks[0].min_capacity, aws_appautoscaling_target.tasks[0].max_capacity] == [2, 8]
    )
    error_message = "Something else is scaled."
  }

  assert {
    condition = (
      aws_appautoscaling_policy.cpu[0].target_tracking_scaling_policy_configuration[0].target_value == 60
      && aws_appautoscaling_policy.cpu[0].target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].predefined_metric_type == "ECSServiceAverageCPUUtilization"
    )
    error_message = "The CPU of the tasks is not held near its target."
  }

  assert {
    condition = (
      aws_appautoscaling_policy.messages_waiting[0].target_tracking_scaling_policy_configuration[0].target_value == 67108864
      && aws_appautoscaling_policy.messages_waiting[0].target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].namespace == "Satchel"
      && aws_appautoscaling_policy.messages_waiting[0].target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metric_name == "MessagesWaiting"
      && one(aws_appautoscaling_policy.messages_waiting[0].target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].dimensions) == { name = "Application", value = "orders" }
    )
    error_message = "The policy reads a metric that no coordinator writes."
  }

  assert {
    condition = (
      aws_ecs_service.scaled[0].name == "orders"
      && aws_ecs_service.scaled[0].task_definition == aws_ecs_task_definition.coordinator.arn
      && aws_ecs_service.scaled[0].launch_type == "FARGATE"
      && aws_ecs_service.scaled[0].propagate_tags == "SERVICE"
      && aws_ecs_service.scaled[0].force_new_deployment == false
      && aws_ecs_service.scaled[0].deployment_minimum_healthy_percent == 100
      && aws_ecs_service.scaled[0].deployment_maximum_percent == 200
      && aws_ecs_service.scaled[0].deployment_circuit_breaker[0].rollback
      && aws_ecs_service.scaled[0].network_configuration[0].subnets == toset(var.subnet_ids)
      && aws_ecs_service.scaled[0].network_configuration[0].security_groups == toset([aws_security_group.coordinator.id])
      && one(aws_ecs_service.scaled[0].load_balancer).target_group_arn == aws_lb_target_group.traffic[0].arn
    )
    error_message = "The service differs from one with a fixed number of tasks."
  }
}

run "the_number_of_tasks_follows_their_cpu_alone_in_a_cluster_that_is_there" {
  variables {
    partitions      = 2
    cluster_arn     = "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
    scaling         = { tasks_min = 1, tasks_max = 2, cpu_percent = 50 }
    on_demand_tasks = 1
    metrics         = false
  }

  assert {
    condition     = aws_appautoscaling_target.tasks[0].resource_id == "service/shared/orders" && length(aws_appautoscaling_policy.messages_waiting) == 0
    error_message = "Something else is scaled."
  }

  assert {
    condition     = length(aws_ecs_service.scaled[0].capacity_provider_strategy) == 2 && aws_ecs_service.scaled[0].force_new_deployment
    error_message = "The tasks run on other capacity."
  }
}

run "tasks_without_a_partition_are_refused" {
  command = plan

  variables {
    tasks      = 5
    partitions = 4
  }

  expect_failures = [var.tasks]
}

run "tasks_that_do_not_reach_one_another_share_no_partitions" {
  command = plan

  variables {
    tasks      = 2
    partitions = 4
    forwarding = false
  }

  expect_failures = [var.forwarding]
}

run "one_task_runs_several_partitions_alone" {
  command = plan

  variables {
    tasks      = 1
    partitions = 4
    forwarding = false
  }

  assert {
    condition     = aws_ecs_service.coordinator[0].desired_count == 1
    error_message = "There are other tasks."
  }
}

run "standbys_of_one_partition_do_not_scale" {
  command = plan

  variables {
    scaling = { tasks_min = 1, tasks_max = 2 }
  }

  expect_failures = [var.scaling]
}

run "scaling_needs_a_metric_that_is_written" {
  command = plan

  variables {
    partitions = 8
    metrics    = false
    scaling    = { tasks_min = 2, tasks_max = 8, messages_waiting_mib = 64 }
  }

  expect_failures = [var.scaling]
}

run "scaling_has_a_smaller_and_a_larger_number" {
  command = plan

  variables {
    partitions = 8
    scaling    = { tasks_min = 4, tasks_max = 3 }
  }

  expect_failures = [var.scaling]
}

run "a_fraction_of_a_partition_is_refused" {
  command = plan

  variables {
    partitions = 3.5
  }

  expect_failures = [var.partitions]
}

run "a_table_for_the_commit_log_is_named_and_granted_for_this_application_only" {
  variables {
    commit_log_table = { name = "orders-log", arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders-log" }
  }

  assert {
    condition     = strcontains(join(" ", jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command), "--commit-log dynamodb:orders-log")
    error_message = "The coordinator is not told of the table."
  }

  assert {
    condition = [
      for statement in jsondecode(output.task_policy).Statement : [statement.Action, statement.Resource, statement.Condition]
      if statement.Sid == "CommitLog"
      ] == [[
        ["dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"],
        ["arn:aws:dynamodb:eu-central-1:123456789012:table/orders-log"],
        { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["s3://orders-state/orders#*"] } },
    ]]
    error_message = "The role is another one: ${output.task_policy}"
  }
}

run "urls_roles_and_kafka_are_granted_where_they_are_named" {
  variables {
    function_url_arns = ["arn:aws:lambda:eu-central-1:123456789012:function:orders:live"]
    assumed_role_arns = ["arn:aws:iam::210987654321:role/streams"]
    kafka_arns        = ["arn:aws:kafka:eu-central-1:123456789012:cluster/orders/1", "arn:aws:kafka:eu-central-1:123456789012:topic/orders/1/names"]
  }

  assert {
    condition = {
      for statement in jsondecode(output.task_policy).Statement : statement.Sid => statement.Action
      if contains(["InvokeUrls", "Roles"], statement.Sid)
      } == {
      InvokeUrls = ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"]
      Roles      = ["sts:AssumeRole"]
    }
    error_message = "The role is another one: ${output.task_policy}"
  }

  assert {
    condition     = toset(flatten([for statement in jsondecode(output.task_policy).Statement : statement.Resource if statement.Sid == "Kafka"])) == toset(var.kafka_arns)
    error_message = "The role is another one: ${output.task_policy}"
  }
}

run "the_token_for_administration_is_a_secret_that_the_coordinator_may_read" {
  variables {
    admin_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:orders-admin-AbCdEf"
  }

  assert {
    condition     = endswith(join(" ", jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command), "--admin-token-secret ${var.admin_token_secret_arn}")
    error_message = "The coordinator does not know its token."
  }

  assert {
    condition     = [for statement in jsondecode(output.task_policy).Statement : statement.Resource if statement.Sid == "Secrets"] == [[var.admin_token_secret_arn]]
    error_message = "The coordinator may not read its token, or more than that."
  }
}

run "the_token_for_traffic_is_a_secret_that_the_coordinator_may_read_and_opens_the_port_to_all" {
  variables {
    admin_token_secret_arn   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:orders-admin-AbCdEf"
    traffic_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:orders-traffic-AbCdEf"
    client_cidr_blocks       = ["0.0.0.0/0"]
  }

  assert {
    condition     = endswith(join(" ", jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command), "--http-token-secret ${var.traffic_token_secret_arn}")
    error_message = "The coordinator does not know its token."
  }

  assert {
    condition     = [for statement in jsondecode(output.task_policy).Statement : statement.Resource if statement.Sid == "Secrets"] == [[var.admin_token_secret_arn, var.traffic_token_secret_arn]]
    error_message = "The coordinator may not read its tokens, or more than that."
  }
}

run "the_internet_calls_nothing_without_a_token" {
  command = plan

  variables {
    client_cidr_blocks = ["0.0.0.0/0"]
  }

  expect_failures = [var.client_cidr_blocks]
}

run "half_of_the_internet_calls_nothing_without_a_token" {
  command = plan

  variables {
    client_cidr_blocks = ["10.0.0.0/8", "128.0.0.0/1"]
  }

  expect_failures = [var.client_cidr_blocks]
}

run "nobody_reaches_a_coordinator_but_its_peers_until_a_client_is_named" {
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 0 && length(aws_lb.traffic) == 0 && output.url == null
    error_message = "The traffic port is open."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.peers.cidr_ipv4 == null
    error_message = "Peers are more than the coordinators themselves."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.peers.to_port == 8082
    error_message = "Standbys do not reach the owner."
  }
}

run "without_forwarding_a_balancer_asks_whether_a_coordinator_lives" {
  variables {
    load_balancer      = "orders"
    client_cidr_blocks = ["10.0.0.0/16"]
    forwarding         = false
  }

  assert {
    condition     = aws_lb_target_group.traffic[0].health_check[0].path == "/healthz"
    error_message = "ECS would go on replacing the standbys."
  }

  assert {
    condition     = !contains(jsondecode(aws_ecs_task_definition.coordinator.container_definitions)[0].command, "--peer")
    error_message = "The peer port is open."
  }
}

run "a_balancer_asks_whether_a_coordinator_lives_and_reaches_its_administration_only_by_its_own_group" {
  variables {
    load_balancer      = "orders"
    client_cidr_blocks = ["10.0.0.0/16"]
  }

  assert {
    condition     = aws_lb_target_group.traffic[0].health_check[0].path == "/readyz/traffic" && aws_lb_target_group.traffic[0].health_check[0].port == "8081"
    error_message = "ECS would go on replacing the standbys."
  }

  assert {
    condition     = aws_lb.traffic[0].internal && output.url == "http://orders.elb.example"
    error_message = "The balancer is elsewhere."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.clients : rule.to_port] == [8080]
    error_message = "Clients reach more than the traffic port."
  }
}

run "a_cluster_that_is_there_is_used" {
  variables {
    cluster_arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
  }

  assert {
    condition     = length(aws_ecs_cluster.coordinator) == 0 && aws_ecs_service.coordinator[0].cluster == "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
    error_message = "The service runs in a cluster of its own."
  }
}

run "what_cannot_work_is_refused_before_anything_is_made" {
  command = plan

  variables {
    image                = "satchel:latest"
    stop_timeout_seconds = 111
    memory_mib           = 256
    on_demand_tasks      = -1
    architecture         = "arm64"
    module_files         = ["module.yaml"]
    extra_arguments      = ["--state=s3://elsewhere/x"]
    function_arns        = ["*"]
    source_stream_arns   = ["arn:aws:kinesis:eu-central-1:123456789012:stream/*"]
    client_cidr_blocks   = ["everywhere"]
  }

  expect_failures = [
    var.image, var.stop_timeout_seconds, var.memory_mib, var.architecture, var.module_files, var.extra_arguments, var.function_arns,
    var.source_stream_arns, var.client_cidr_blocks, var.on_demand_tasks,
  ]
}

run "sizes_that_fargate_does_not_have_are_refused" {
  command = plan

  variables {
    size       = "small"
    cpu_units  = 512
    memory_mib = null
  }

  expect_failures = [var.memory_mib]
}

run "a_size_is_one_of_two" {
  command = plan

  variables {
    size = "tiny"
  }

  expect_failures = [var.size]
}
