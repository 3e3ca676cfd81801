mock_provider "aws" {}

variables {
  name = "orders/coordinator"
}

run "tags_stay_what_they_are_and_images_are_scanned" {
  assert {
    condition     = aws_ecr_repository.images.image_tag_mutability == "IMMUTABLE"
    error_message = "A tag can come to mean another image."
  }

  assert {
    condition     = aws_ecr_repository.images.image_scanning_configuration[0].scan_on_push
    error_message = "Images are not scanned."
  }

  assert {
    condition     = jsondecode(aws_ecr_lifecycle_policy.images.policy).rules[0].selection.countNumber == 20
    error_message = "Another number of images is kept."
  }
}

run "the_image_before_must_be_kept" {
  command = plan

  variables {
    images_max = 1
  }

  expect_failures = [var.images_max]
}
