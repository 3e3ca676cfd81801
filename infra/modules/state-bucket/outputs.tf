output "name" {
  description = "The bucket's name, for `--state s3://NAME/PREFIX`. Known once objects in it are versioned, and uploads that broke off are dropped."
  value       = aws_s3_bucket.state.id

  depends_on = [aws_s3_bucket_lifecycle_configuration.state, aws_s3_bucket_policy.state]
}

output "arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.state.arn
}
