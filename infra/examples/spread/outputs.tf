output "repository_url" {
  description = "URL to push the coordinator's image to."
  value       = module.repository.url
}

output "state" {
  description = "Location of the state, for `satchel verify --state` and `satchel state`."
  value       = "s3://${module.state_bucket.name}/${var.name}"
}

output "service" {
  description = "Service of the coordinator, and its cluster."
  value       = { cluster = module.coordinator.cluster_arn, name = module.coordinator.service_name }
}

output "log_group" {
  description = "Log group of the coordinators."
  value       = module.coordinator.log_group_name
}

output "url" {
  description = "URL of the traffic port, if there is a load balancer."
  value       = module.coordinator.url
}

output "dashboard_url" {
  description = "URL of the dashboard, if there are alarms."
  value       = one(module.observability[*].dashboard_url)
}
