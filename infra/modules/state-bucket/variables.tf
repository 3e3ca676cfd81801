variable "name" {
  description = "Name of the bucket, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name has 3 to 63 of a-z, 0-9 or `-`; no `-` first or last, no dots (TLS)."
  }
}

variable "applications" {
  description = <<-EOT
    Applications whose state is in the bucket, with their number of partitions. Replaced snapshots of
    these can be restored for one day instead of `deleted_objects_days`: a large state that changes
    is written anew often, and each version would be paid for that long.
  EOT
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for name, _ in var.applications : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", name))])
    error_message = "applications has names of 1 to 64 letters, digits, `.`, `-` or `_`."
  }

  validation {
    condition     = alltrue([for partitions in values(var.applications) : partitions >= 1 && floor(partitions) == partitions]) && sum(concat([0], values(var.applications))) <= 900
    error_message = "applications has whole numbers of at least 1, 900 in all: S3 allows 1000 rules."
  }
}

variable "deleted_objects_days" {
  description = <<-EOT
    Days in which deleted objects can be restored; one day for replaced snapshots of `applications`.
  EOT
  type        = number
  default     = 7

  validation {
    condition     = var.deleted_objects_days >= 1 && floor(var.deleted_objects_days) == var.deleted_objects_days
    error_message = "deleted_objects_days is a whole number of at least 1."
  }
}

variable "kms_key_arn" {
  description = "Customer managed KMS key (ARN) for encryption at rest; null for keys of S3."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is arn:aws:kms:REGION:ACCOUNT:key/ID; not the ARN of an alias."
  }
}

variable "force_destroy" {
  description = <<-EOT
    Have `terraform destroy` delete the bucket with everything in it. All state of the application
    is in it.
  EOT
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
