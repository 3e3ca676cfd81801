output "url" {
  description = "Where images are pushed to and pulled from, without a tag."
  value       = aws_ecr_repository.images.repository_url
}

output "arn" {
  description = "The repository's ARN."
  value       = aws_ecr_repository.images.arn
}
