output "alarm_arns" {
  description = "ARNs of the alarms, by the suffix of their names."
  value       = { for key, alarm in aws_cloudwatch_metric_alarm.alarm : key => alarm.arn }
}

output "dashboard_url" {
  description = "URL of the dashboard; null if there is none."
  value       = var.dashboard ? "https://${data.aws_region.here.name}.console.aws.amazon.com/cloudwatch/home?region=${data.aws_region.here.name}#dashboards:name=${var.name}" : null
}

output "task_failures_log_group_name" {
  description = "Log group with the reasons why tasks ended."
  value       = aws_cloudwatch_log_group.stops.name
}
