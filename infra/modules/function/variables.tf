variable "name" {
  description = "The function's name, as the module file names it in `functionName`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,55}$", var.name))
    error_message = "The name has 1 to 55 letters, digits, hyphens and underscores: its role's name, which is longer, must fit too."
  }
}

variable "description" {
  description = "What the function is for."
  type        = string
  default     = ""
}

variable "package" {
  description = "The path of the zip with the binary `bootstrap` in it, made by `cargo lambda build --release --arm64 --output-format zip`."
  type        = string
}

variable "architecture" {
  description = "What the binary was built for: arm64, which costs a fifth less, or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64."
  }
}

variable "alias" {
  description = "The alias that the coordinator invokes: `qualifier` in the module file."
  type        = string
  default     = "live"

  validation {
    condition     = can(regex("^[A-Za-z_-][A-Za-z0-9_-]{0,127}$", var.alias))
    error_message = "An alias has 1 to 128 letters, digits, hyphens and underscores, and does not begin with a digit."
  }
}

variable "memory_mib" {
  description = "The function's memory, and with it its share of a processor. A bundle of 6 MB and its answer must fit."
  type        = number
  default     = 256

  validation {
    condition     = var.memory_mib >= 128 && var.memory_mib <= 10240
    error_message = "memory_mib is between 128 and 10240."
  }
}

variable "timeout_seconds" {
  description = "How long one request, a bundle of batches, may take. The module file's `timeout`, 30s by default, should be no shorter: the coordinator would give up a request that Lambda goes on with."
  type        = number
  default     = 30

  validation {
    condition     = var.timeout_seconds >= 1 && var.timeout_seconds <= 900
    error_message = "timeout_seconds is between 1 and 900."
  }
}

variable "reserved_concurrency" {
  description = "How many requests may run at once, set apart for this function; -1 for no limit but the account's. The module file's `maxConcurrency` should be no larger."
  type        = number
  default     = -1

  validation {
    condition     = var.reserved_concurrency == -1 || var.reserved_concurrency >= 1
    error_message = "reserved_concurrency is -1 or at least 1: with 0 the function is never invoked."
  }
}

variable "environment" {
  description = "Environment variables of the handler. No secrets: whoever may read the function's configuration reads them."
  type        = map(string)
  default     = {}
}

variable "policy" {
  description = "A policy (JSON) for what the handler itself does in AWS; null if it does nothing there."
  type        = string
  default     = null

  validation {
    condition     = var.policy == null || can(jsondecode(var.policy).Statement)
    error_message = "policy is a policy document as JSON, with Statement."
  }
}

variable "log_retention_days" {
  description = "How long the handler's log is kept."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
