output "name" {
  description = "Name of the table, for `--lease-table`."
  value       = aws_dynamodb_table.leases.name
}

output "arn" {
  description = "ARN of the table."
  value       = aws_dynamodb_table.leases.arn
}
