variable "streams" {
  description = <<-EOT
    Streams by name. `shards`: number of shards (provisioned: $0.015 a shard-hour in us-east-1), or
    null for on demand. `retention_hours`: hours that records stay, 24 to 8760. It bounds how long
    the coordinator may be away: an older position stops the ingress, by name.
  EOT
  type = map(object({
    shards          = optional(number)
    retention_hours = optional(number, 24)
  }))

  validation {
    condition     = alltrue([for name, _ in var.streams : can(regex("^[A-Za-z0-9_.-]{1,128}$", name))])
    error_message = "A stream's name has 1 to 128 letters, digits, underscores, hyphens and dots."
  }

  validation {
    condition     = alltrue([for stream in var.streams : stream.shards == null ? true : stream.shards >= 1 && floor(stream.shards) == stream.shards])
    error_message = "shards is a whole number of at least 1, or null for on demand."
  }

  validation {
    condition     = alltrue([for stream in var.streams : stream.retention_hours >= 24 && stream.retention_hours <= 8760])
    error_message = "retention_hours is between 24 and 8760."
  }
}

variable "kms_key_arn" {
  description = <<-EOT
    Customer managed KMS key (ARN) for encryption at rest; null for the account's own key for
    Kinesis.
  EOT
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
