output "cluster_arn" {
  description = "The ECS cluster."
  value       = var.cluster_arn == null ? aws_ecs_cluster.coordinator[0].arn : var.cluster_arn
}

output "service_name" {
  description = "The ECS service."
  value       = aws_ecs_service.coordinator.name
}

output "task_role_arn" {
  description = "The role of the coordinator, for policies of keys, queues and buses in other accounts."
  value       = aws_iam_role.task.arn
}

output "task_policy" {
  description = "What the coordinator may do, as JSON."
  value       = local.task_policy
}

output "security_group_id" {
  description = "The coordinators' security group."
  value       = aws_security_group.coordinator.id
}

output "log_group_name" {
  description = "Where the coordinators' log is."
  value       = aws_cloudwatch_log_group.coordinator.name
}

output "url" {
  description = "Where the traffic port is reached, if there is a load balancer."
  value       = var.load_balancer == null ? null : "http://${aws_lb.traffic[0].dns_name}"
}
