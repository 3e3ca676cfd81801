variable "name" {
  description = "Name of the function: `functionName` in the module file."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,55}$", var.name))
    error_message = "name has 1 to 55 letters, digits, `-` or `_`; its role's name is longer."
  }
}

variable "description" {
  description = "Purpose of the function."
  type        = string
  default     = ""
}

variable "package" {
  description = <<-EOT
    Path of the zip with the handler: for Rust and Go with the binary `bootstrap`, as made by `cargo
    lambda build --release --arm64 --output-format zip`; for other languages with their sources or
    classes, and packages.
  EOT
  type        = string
}

variable "runtime" {
  description = "Runtime of Lambda, such as `python3.12`, `nodejs22.x` or `java21`."
  type        = string
  default     = "provided.al2023"
}

variable "handler" {
  description = "Name of the handler in the package, as its runtime takes it: `app.handler`."
  type        = string
  default     = "bootstrap"
}

variable "architecture" {
  description = "Architecture of the binary: arm64, which costs a fifth less, or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64."
  }
}

variable "alias" {
  description = "Alias that the coordinator invokes: `qualifier` in the module file."
  type        = string
  default     = "live"

  validation {
    condition     = can(regex("^[A-Za-z_-][A-Za-z0-9_-]{0,127}$", var.alias))
    error_message = "alias has 1 to 128 letters, digits, hyphens and underscores; no digit first."
  }
}

variable "memory_mib" {
  description = <<-EOT
    Memory of the function in MiB, and with it its share of a processor. A bundle of 6 MB and its
    answer must fit.
  EOT
  type        = number
  default     = 256

  validation {
    condition     = var.memory_mib >= 128 && var.memory_mib <= 10240
    error_message = "memory_mib is between 128 and 10240."
  }
}

variable "timeout_seconds" {
  description = <<-EOT
    Seconds that one request, a bundle of batches, may take. The module file's `timeout` (30s by
    default) should be no shorter, or the coordinator gives up a request that Lambda still runs.
  EOT
  type        = number
  default     = 30

  validation {
    condition     = var.timeout_seconds >= 1 && var.timeout_seconds <= 900
    error_message = "timeout_seconds is between 1 and 900."
  }
}

variable "reserved_concurrency" {
  description = <<-EOT
    Requests that may run at once, reserved for this function; -1 for the account's limit only. The
    module file's `maxConcurrency` should be no larger.
  EOT
  type        = number
  default     = -1

  validation {
    condition     = var.reserved_concurrency == -1 || var.reserved_concurrency >= 1
    error_message = "reserved_concurrency is -1 or at least 1; 0 would never invoke it."
  }
}

variable "environment" {
  description = <<-EOT
    Environment variables of the handler. No secrets: everyone who may read the function's
    configuration reads them.
  EOT
  type        = map(string)
  default     = {}
}

variable "policy" {
  description = <<-EOT
    Policy (JSON) for what the handler itself does in AWS; null if it does nothing there.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.policy == null || can(jsondecode(var.policy).Statement)
    error_message = "policy is a policy document as JSON, with Statement."
  }
}

variable "log_level" {
  description = <<-EOT
    Least level of the handler's own log lines that is kept. A line without a level, such as the text
    of a panic, counts as INFO: above that level it is lost.
  EOT
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"], var.log_level)
    error_message = "log_level is TRACE, DEBUG, INFO, WARN, ERROR or FATAL."
  }
}

variable "log_retention_days" {
  description = "Days that the handler's log is kept."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
