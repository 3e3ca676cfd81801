output "cluster_arn" {
  description = "ECS cluster."
  value       = var.cluster_arn == null ? aws_ecs_cluster.coordinator[0].arn : var.cluster_arn
}

output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = local.cluster_name
}

output "service_name" {
  description = "ECS service."
  value       = one(concat(aws_ecs_service.coordinator[*].name, aws_ecs_service.scaled[*].name))
}

output "tasks_max" {
  description = "Largest number of tasks, for `tasks` of the module observability."
  value       = var.scaling == null ? var.tasks : var.scaling.tasks_max
}

output "task_role_arn" {
  description = "Role of the coordinator, for policies of keys, queues and buses in other accounts."
  value       = aws_iam_role.task.arn
}

output "task_policy" {
  description = "Permissions of the coordinator, as JSON."
  value       = local.task_policy
}

output "security_group_id" {
  description = "Security group of the coordinators."
  value       = aws_security_group.coordinator.id
}

output "log_group_name" {
  description = "Log group of the coordinators."
  value       = aws_cloudwatch_log_group.coordinator.name
}

output "url" {
  description = "URL of the traffic port, if there is a load balancer."
  value       = var.load_balancer == null ? null : "http://${aws_lb.traffic[0].dns_name}"
}
