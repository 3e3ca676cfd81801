variable "name" {
  description = "The repository's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 256
    error_message = "A repository's name has 2 to 256 lower-case letters and digits, with single hyphens, underscores, dots and slashes between them."
  }
}

variable "images_max" {
  description = "How many images are kept: the one that runs, and those that one may want to go back to."
  type        = number
  default     = 20

  validation {
    condition     = var.images_max >= 2
    error_message = "Keep at least 2 images: the one that runs, and the one before it."
  }
}

variable "force_delete" {
  description = "Whether `terraform destroy` deletes the repository with the images in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
