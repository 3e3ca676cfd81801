output "cluster_arn" {
  description = "ECS cluster."
  value       = var.cluster_arn == null ? aws_ecs_cluster.coordinator[0].arn : var.cluster_arn
}

output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = var.cluster_arn == null ? aws_ecs_cluster.coordinator[0].name : element(split("/", var.cluster_arn), 1)
}

output "service_name" {
  description = "ECS service."
  value       = aws_ecs_service.coordinator.name
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
