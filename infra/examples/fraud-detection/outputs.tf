output "repository_url" {
  description = "Where the coordinator's image is pushed to."
  value       = module.repository.url
}

output "state" {
  description = "Where the state is, for `satchel verify --state` and `satchel state`."
  value       = "s3://${module.state_bucket.name}/${var.name}"
}

output "log_group" {
  description = "Where the coordinators' log is."
  value       = module.coordinator.log_group_name
}

output "service" {
  description = "The coordinator's service, and the cluster that it runs in."
  value       = { cluster = module.coordinator.cluster_arn, name = module.coordinator.service_name }
}

output "task_policy" {
  description = "What the coordinator may do, as JSON."
  value       = module.coordinator.task_policy
}

output "url" {
  description = "Where the traffic port is reached, if there is a load balancer."
  value       = module.coordinator.url
}
