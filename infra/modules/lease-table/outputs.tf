output "name" {
  description = "The table's name, for `--lease-table`."
  value       = aws_dynamodb_table.leases.name
}

output "arn" {
  description = "The table's ARN."
  value       = aws_dynamodb_table.leases.arn
}
