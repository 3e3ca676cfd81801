variable "name" {
  description = "The bucket's name, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits and hyphens, and neither begins nor ends with a hyphen. (Dots, which S3 allows, break TLS.)"
  }
}

variable "deleted_objects_days" {
  description = "For how many days what was deleted can be brought back."
  type        = number
  default     = 7

  validation {
    condition     = var.deleted_objects_days >= 1 && floor(var.deleted_objects_days) == var.deleted_objects_days
    error_message = "deleted_objects_days is a whole number of at least 1."
  }
}

variable "kms_key_arn" {
  description = "A key of one's own for the encryption at rest; null for keys that S3 keeps."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID); an alias could come to mean another key."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes the bucket with everything in it. All state of the application is in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
