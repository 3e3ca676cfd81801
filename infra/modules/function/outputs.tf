output "name" {
  description = "The function's name, for `functionName` in the module file."
  value       = aws_lambda_function.function.function_name
}

output "alias" {
  description = "The alias, for `qualifier` in the module file."
  value       = aws_lambda_alias.live.name
}

output "alias_arn" {
  description = "The alias's ARN: what the coordinator needs permission to invoke."
  value       = aws_lambda_alias.live.arn
}

output "version" {
  description = "The version that the alias points to."
  value       = aws_lambda_function.function.version
}
