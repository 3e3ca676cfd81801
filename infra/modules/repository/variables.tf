variable "name" {
  description = "Name of the repository."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 256
    error_message = "name has 2 to 256 of a-z and 0-9, single `-`, `_`, `.` or `/` between."
  }
}

variable "images_max" {
  description = "Number of images that are kept: the current one, and earlier ones to roll back to."
  type        = number
  default     = 20

  validation {
    condition     = var.images_max >= 2
    error_message = "Keep at least 2 images: the one that runs, and the one before it."
  }
}

variable "force_delete" {
  description = "Have `terraform destroy` delete the repository with the images in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
