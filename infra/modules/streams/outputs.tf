output "arns" {
  description = "The streams' ARNs by name."
  value       = { for name, stream in aws_kinesis_stream.stream : name => stream.arn }
}
