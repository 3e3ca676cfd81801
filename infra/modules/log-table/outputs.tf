output "name" {
  description = "Name of the table, for `--commit-log dynamodb:NAME`."
  value       = aws_dynamodb_table.logs.name
}

output "arn" {
  description = "ARN of the table."
  value       = aws_dynamodb_table.logs.arn
}
