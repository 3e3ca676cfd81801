output "arns" {
  description = "ARNs of the streams by name."
  value       = { for name, stream in aws_kinesis_stream.stream : name => stream.arn }
}
