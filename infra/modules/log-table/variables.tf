variable "name" {
  description = "Name of the table, for `--commit-log dynamodb:NAME`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.name))
    error_message = "A table's name has 3 to 255 letters, digits, underscores, hyphens and dots."
  }
}

variable "deletion_protection" {
  description = "Have DynamoDB reject the deletion of the table, which holds durable state."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "Customer managed KMS key (ARN) for encryption at rest; null for a key of DynamoDB."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key: arn:aws:kms:REGION:ACCOUNT:key/ID."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
