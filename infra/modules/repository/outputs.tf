output "url" {
  description = "URL to push images to and pull them from, without a tag."
  value       = aws_ecr_repository.images.repository_url
}

output "arn" {
  description = "ARN of the repository."
  value       = aws_ecr_repository.images.arn
}
