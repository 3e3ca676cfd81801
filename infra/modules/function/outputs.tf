output "name" {
  description = "Name of the function, for `functionName` in the module file."
  value       = aws_lambda_function.function.function_name
}

output "alias" {
  description = "Alias, for `qualifier` in the module file."
  value       = aws_lambda_alias.live.name
}

output "alias_arn" {
  description = "ARN of the alias, which the coordinator needs permission to invoke."
  value       = aws_lambda_alias.live.arn
}

output "version" {
  description = "Version that the alias points to."
  value       = aws_lambda_function.function.version
}
