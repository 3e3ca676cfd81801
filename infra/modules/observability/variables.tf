variable "name" {
  description = "Prefix of the names of alarms, and name of the dashboard."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,47}$", var.name))
    error_message = "name has 1 to 48 letters, digits and hyphens, and begins with a letter."
  }
}

variable "application" {
  description = "Name of the application (`--application`): the dimension of its metrics."
  type        = string
}

variable "cluster_name" {
  description = "Name of the ECS cluster: an output of the module coordinator."
  type        = string
}

variable "service_name" {
  description = "Name of the ECS service: an output of the module coordinator."
  type        = string
}

variable "tasks" {
  description = "Number of tasks of the service: the output `tasks_max` of the module coordinator."
  type        = number
  default     = 2

  validation {
    condition     = var.tasks >= 1 && floor(var.tasks) == var.tasks
    error_message = "tasks is a whole number of at least 1."
  }
}

variable "partitions" {
  description = <<-EOT
    Number of partitions of the application. With several, each task owns some of them, so the
    alarms and the dashboard do not look for one owner, and there is an alarm about partitions that
    fail.
  EOT
  type        = number
  default     = 1

  validation {
    condition     = var.partitions >= 1 && floor(var.partitions) == var.partitions
    error_message = "partitions is a whole number of at least 1."
  }
}

variable "coordinator_log_group_name" {
  description = <<-EOT
    Log group of the coordinators: the output `log_group_name` of the module coordinator. Needed
    with several partitions, whose failures are counted there.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.partitions <= 1 || var.coordinator_log_group_name != null
    error_message = "coordinator_log_group_name is needed with several partitions."
  }
}

variable "topic_arn" {
  description = "SNS topic that alarms, and their ends, are sent to; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.topic_arn == null || can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[^:*]+$", var.topic_arn))
    error_message = "topic_arn is the whole ARN of a topic."
  }
}

variable "no_owner_minutes" {
  description = <<-EOT
    Alarm after this many minutes in which no task reported that it owns the application, or no task
    reported at all. A takeover takes the lease time and a few seconds. Of several partitions, each
    task reports that it serves, and another alarm after as many minutes says that one of them has
    no owner.
  EOT
  type        = number
  default     = 3

  validation {
    condition     = var.no_owner_minutes >= 1 && var.no_owner_minutes <= 60 && floor(var.no_owner_minutes) == var.no_owner_minutes
    error_message = "no_owner_minutes is a whole number between 1 and 60."
  }
}

variable "dead_letters_max" {
  description = "Alarm if more dead letters than this are made within five minutes."
  type        = number
  default     = 0

  validation {
    condition     = var.dead_letters_max >= 0
    error_message = "dead_letters_max is at least 0."
  }
}

variable "ingress_lag_max_seconds" {
  description = "Alarm if ingress is further behind than this for five minutes."
  type        = number
  default     = 60

  validation {
    condition     = var.ingress_lag_max_seconds > 0
    error_message = "ingress_lag_max_seconds is greater than 0."
  }
}

variable "endpoint_down_minutes" {
  description = "Alarm if an endpoint has been down for this many minutes. Its messages wait."
  type        = number
  default     = 3

  validation {
    condition     = var.endpoint_down_minutes >= 1 && var.endpoint_down_minutes <= 60 && floor(var.endpoint_down_minutes) == var.endpoint_down_minutes
    error_message = "endpoint_down_minutes is a whole number between 1 and 60."
  }
}

variable "commit_latency_max_ms" {
  description = <<-EOT
    Alarm if of 100 commits more than one takes longer than this, in milliseconds, for five minutes.
  EOT
  type        = number
  default     = 1000

  validation {
    condition     = var.commit_latency_max_ms > 0
    error_message = "commit_latency_max_ms is greater than 0."
  }
}

variable "starts_max" {
  description = <<-EOT
    Alarm if coordinators start more often than this within 15 minutes; null for three times the
    number of tasks. A deployment starts each task once.
  EOT
  type        = number
  default     = null

  validation {
    condition     = var.starts_max == null ? true : var.starts_max >= 1
    error_message = "starts_max is at least 1."
  }
}

variable "task_failures_max" {
  description = <<-EOT
    Alarm if more tasks than this end by themselves, or do not come up, within 15 minutes. Tasks that
    ECS stops for a deployment, or that Spot takes away, do not count.
  EOT
  type        = number
  default     = 2

  validation {
    condition     = var.task_failures_max >= 0
    error_message = "task_failures_max is at least 0."
  }
}

variable "partition_failures_max" {
  description = <<-EOT
    Alarm if more partitions than this fail in a task within 15 minutes. The task goes on with its
    other partitions, and releases the one that failed for other tasks.
  EOT
  type        = number
  default     = 2

  validation {
    condition     = var.partition_failures_max >= 0
    error_message = "partition_failures_max is at least 0."
  }
}

variable "memory_max_percent" {
  description = <<-EOT
    Alarm if a task uses more of its memory than this, in percent, for five minutes. At its limit it
    is killed.
  EOT
  type        = number
  default     = 85

  validation {
    condition     = var.memory_max_percent > 0 && var.memory_max_percent <= 100
    error_message = "memory_max_percent is greater than 0 and at most 100."
  }
}

variable "dashboard" {
  description = "Make a dashboard. CloudWatch charges for each one after the third of an account."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "Days that the reasons why tasks ended are kept."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
