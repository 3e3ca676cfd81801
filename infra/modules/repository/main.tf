# Repository of the coordinator's images.

resource "aws_ecr_repository" "images" {
  name = var.name
  # A restarted task must run the same image as before.
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_delete
  tags                 = var.tags

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "images" {
  repository = aws_ecr_repository.images.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Images beyond the newest ${var.images_max} go."
      selection = {
        tagStatus   = "any"
        countType   = "imageCountMoreThan"
        countNumber = var.images_max
      }
      action = { type = "expire" }
    }]
  })
}
