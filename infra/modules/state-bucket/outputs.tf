output "name" {
  description = <<-EOT
    Name of the bucket, for `--state s3://NAME/PREFIX`. Known once its versioning, its rule for
    incomplete uploads and its policy are in place.
  EOT
  value       = aws_s3_bucket.state.id

  depends_on = [aws_s3_bucket_lifecycle_configuration.state, aws_s3_bucket_policy.state]
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.state.arn
}
