variable "name" {
  description = "Name of the service, and prefix of the names of its resources."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,47}$", var.name))
    error_message = "The name has 1 to 48 letters, digits and hyphens, and begins with a letter."
  }
}

variable "application" {
  description = <<-EOT
    Name of the application (`--application`). Its state lies in the bucket under this prefix.
    Another application is rejected there.
  EOT
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", var.application))
    error_message = "application has 1 to 64 letters, digits, `.`, `-` or `_`; no sign first."
  }
}

variable "image" {
  description = <<-EOT
    Image with `/satchel` and the module files in it (infra/container/Dockerfile). Its tag or digest
    must never name another image later.
  EOT
  type        = string

  validation {
    condition     = can(regex("(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "Use a tag other than `latest`, or a digest: all tasks must run the same image."
  }
}

variable "repository_arn" {
  description = "ECR repository of the image; null for a public image."
  type        = string
  default     = null
}

variable "module_files" {
  description = "Module files inside the image (`--module`)."
  type        = list(string)
  default     = ["/etc/satchel/module.yaml"]

  validation {
    condition     = length(var.module_files) > 0 && alltrue([for file in var.module_files : startswith(file, "/")])
    error_message = "Name at least one module file, each by its absolute path."
  }
}

variable "architecture" {
  description = "Architecture of the image: ARM64, which costs a fifth less, or X86_64."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture is ARM64 or X86_64."
  }
}

variable "size" {
  description = <<-EOT
    Size of a task: `standard` (1 vCPU, 4 GiB), or `small` (0.25 vCPU, 512 MiB) for an application
    with little to do. `cpu_units` and `memory_mib` override it.
  EOT
  type        = string
  default     = "standard"

  validation {
    condition     = contains(["standard", "small"], var.size)
    error_message = "size is standard or small."
  }
}

variable "cpu_units" {
  description = <<-EOT
    CPU units of a task: 1024 is one core; null for those of `size`. A partition uses one core for
    its state machine; compression and I/O run on the others.
  EOT
  type        = number
  default     = null

  validation {
    condition     = var.cpu_units == null ? true : contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu_units)
    error_message = "Fargate has 256, 512, 1024, 2048, 4096, 8192 and 16384 units."
  }
}

variable "memory_mib" {
  description = <<-EOT
    Memory of a task in MiB; null for that of `size`. Half of it (a quarter up to 1 GiB) is for the
    keyed state that is in use (`--memory-limit`), an eighth for everything that waits
    (`--pending-limit`), unless `environment` or `extra_arguments` say otherwise.
  EOT
  type        = number
  default     = null

  validation {
    condition = alltrue([
      for memory_mib in [coalesce(var.memory_mib, var.size == "small" ? 512 : 4096)] :
      memory_mib >= 512 && memory_mib >= 2 * local.cpu_units && memory_mib <= max(2048, 8 * local.cpu_units) && memory_mib <= 122880
    ])
    error_message = "Fargate allows 2 to 8 GiB for each core (512 MiB to 2 GiB for a quarter)."
  }
}

variable "tasks" {
  description = <<-EOT
    Number of tasks. With one partition, one task owns it and the others stand by. Several
    `partitions` are spread evenly over the tasks, of which there are at most as many. With one
    task, nothing is served from its death until ECS has started another (a minute or so). A
    deployment starts the new tasks first. 0 stops the application. Without effect with `scaling`.
  EOT
  type        = number
  default     = 2

  validation {
    condition     = var.tasks >= 0 && floor(var.tasks) == var.tasks
    error_message = "tasks is a whole number of at least 0."
  }

  validation {
    condition = anytrue([
      var.scaling != null,
      coalesce(var.partitions, 1) <= 1,
      var.tasks <= coalesce(var.partitions, 1),
    ])
    error_message = "tasks is at most partitions: a further task would have no partition to own."
  }
}

variable "scaling" {
  description = <<-EOT
    Have the number of tasks follow the load, between `tasks_min` and `tasks_max`; null for `tasks`
    tasks. Needs several `partitions`. ECS starts or stops tasks to hold the average of the tasks
    at or below each target: `cpu_percent` of their CPU (60), and, if it is set,
    `messages_waiting_mib`, the MiB of messages that wait in a task (needs `metrics`). A task that
    is stopped gives its partitions to the others within `stop_timeout_seconds`, and nothing is
    lost. When this changes from or to null, the service is made anew, and the application is down
    meanwhile, unless the service is moved in Terraform's state (`terraform state mv`) between
    `aws_ecs_service.coordinator[0]` and `aws_ecs_service.scaled[0]`.
  EOT
  type = object({
    tasks_min            = number
    tasks_max            = number
    cpu_percent          = optional(number, 60)
    messages_waiting_mib = optional(number)
  })
  default = null

  validation {
    condition = var.scaling == null ? true : alltrue([
      var.scaling.tasks_min >= 1,
      var.scaling.tasks_min <= var.scaling.tasks_max,
      floor(var.scaling.tasks_min) == var.scaling.tasks_min,
      floor(var.scaling.tasks_max) == var.scaling.tasks_max,
    ])
    error_message = "scaling has whole numbers of tasks: 1 <= tasks_min <= tasks_max."
  }

  validation {
    condition     = var.scaling == null ? true : var.scaling.tasks_max <= coalesce(var.partitions, 1)
    error_message = "scaling.tasks_max is at most partitions: a further task would own none."
  }

  validation {
    condition = var.scaling == null ? true : alltrue([
      var.scaling.cpu_percent > 0,
      var.scaling.cpu_percent < 100,
    ])
    error_message = "scaling.cpu_percent is greater than 0 and less than 100."
  }

  validation {
    condition = try(var.scaling.messages_waiting_mib, null) == null ? true : alltrue([
      var.scaling.messages_waiting_mib > 0,
      local.metrics,
    ])
    error_message = "scaling.messages_waiting_mib is greater than 0 and needs metrics, or null."
  }
}

variable "on_demand_tasks" {
  description = <<-EOT
    Number of tasks on ordinary Fargate; the others run on Fargate Spot for about a third of its
    price. AWS may take a Spot task away with two minutes' notice, which is a planned handover, and
    may have none to give: with 0, the application can be down for as long as Spot has no capacity.
    Null for all. When this changes from or to null, the service is made anew, and the application
    is down meanwhile. A cluster of `cluster_arn` needs the capacity providers FARGATE and
    FARGATE_SPOT.
  EOT
  type        = number
  default     = null

  validation {
    condition     = var.on_demand_tasks == null ? true : var.on_demand_tasks >= 0 && floor(var.on_demand_tasks) == var.on_demand_tasks
    error_message = "on_demand_tasks is a whole number of at least 0, or null."
  }
}

variable "metrics" {
  description = <<-EOT
    Have the coordinator write its metrics into its log, from where CloudWatch takes them (`--emf`).
    The module `observability` needs them. CloudWatch charges for each metric; null for true, except
    with `size = "small"`.
  EOT
  type        = bool
  default     = null
}

variable "lease_time_seconds" {
  description = "Seconds without a sign of life after which a standby takes over (`--lease-time`)."
  type        = number
  default     = 10

  validation {
    condition     = var.lease_time_seconds >= 1 && var.lease_time_seconds <= 300
    error_message = "lease_time_seconds is between 1 and 300."
  }
}

variable "stop_timeout_seconds" {
  description = <<-EOT
    Seconds that a task may take after SIGTERM to finish what is in flight and hand over
    (`--stop-timeout`); null for 25, or 60 where partitions are spread over tasks. ECS kills it 10
    seconds later, and never waits longer than 120 seconds. A task gives its partitions away two at
    a time in three fifths of this time, then stops those that are left at once.
  EOT
  type        = number
  default     = null

  validation {
    condition = var.stop_timeout_seconds == null ? true : alltrue([
      var.stop_timeout_seconds >= 1,
      var.stop_timeout_seconds <= 110,
    ])
    error_message = "stop_timeout_seconds is between 1 and 110: ECS kills after 120 seconds."
  }
}

variable "forwarding" {
  description = <<-EOT
    Whether tasks forward requests to the owner, over a port of their own (`--peer`). When tasks are
    replaced, a load balancer then loses no request that takes at most the lease time and 2 seconds.
    Costs one write to the lease table every 10 seconds for each task. Several tasks need it to
    share several `partitions`.
  EOT
  type        = bool
  default     = true

  validation {
    condition = anytrue([
      var.forwarding,
      coalesce(var.partitions, 1) <= 1,
      var.tasks <= 1 && var.scaling == null,
    ])
    error_message = "Several tasks with several partitions need forwarding, to reach one another."
  }
}

variable "extra_arguments" {
  description = "Further arguments of `satchel run`, such as [\"--pending-limit\", \"1GiB\"]."
  type        = list(string)
  default     = []

  validation {
    condition = length(setintersection(
      [for argument in var.extra_arguments : split("=", argument)[0]],
      ["--module", "--state", "--lease-table", "--application", "--lease-time", "--stop-timeout", "--commit-log", "--http", "--admin", "--peer", "--admin-token-secret", "--http-token-secret", "--log-format", "--emf"],
    )) == 0
    error_message = "extra_arguments repeats a flag that this module sets itself; use its variable."
  }
}

variable "environment" {
  description = <<-EOT
    Environment variables of the coordinator, such as SATCHEL_LOG. No secrets: everyone who may read
    the task definition reads them.
  EOT
  type        = map(string)
  default     = {}
}

variable "state_bucket" {
  description = "Bucket of the durable state: outputs of the module state-bucket."
  type        = object({ name = string, arn = string })
}

variable "lease_table" {
  description = "Table of leases: outputs of the module lease-table."
  type        = object({ name = string, arn = string })
}

variable "commit_log_table" {
  description = <<-EOT
    Table of commit logs: outputs of the module log-table; null to keep the log in the bucket. Only
    the first start of an application chooses: its state remembers where its log is.
  EOT
  type        = object({ name = string, arn = string })
  default     = null
}

variable "partitions" {
  description = <<-EOT
    Number of partitions of a new application; null for one. Its state remembers the number, which
    cannot be changed, so choose the largest number of tasks that it may ever need, or a small
    multiple. They are spread evenly over the tasks. A partition uses one core for its state
    machine, so a task with several runs them on as many vCPUs as it has. Each has an equal part of
    the memory limits of a task (`memory_mib`), because one task may have to run all of them.
  EOT
  type        = number
  default     = null

  validation {
    condition     = var.partitions == null || try(var.partitions >= 1 && var.partitions <= 256 && floor(var.partitions) == var.partitions, false)
    error_message = "partitions is a whole number from 1 to 256."
  }
}

variable "function_arns" {
  description = <<-EOT
    Aliases (or versions) of functions that the coordinator invokes, as endpoints and as egress.
  EOT
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.function_arns : can(regex("^arn:[^:]+:lambda:[^:]+:[0-9]{12}:function:[^:*]+(:[^:*]+)?$", arn))])
    error_message = "function_arns has full ARNs of functions, aliases or versions, no wildcards."
  }
}

variable "function_url_arns" {
  description = "Functions that the coordinator invokes through their function URLs, with IAM."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.function_url_arns : can(regex("^arn:[^:]+:lambda:[^:]+:[0-9]{12}:function:[^:*]+(:[^:*]+)?$", arn))])
    error_message = "function_url_arns has full ARNs of functions, aliases or versions, no wildcards."
  }
}

variable "assumed_role_arns" {
  description = "Roles that module files name (`awsCredentials: {type: assume-role}`)."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.assumed_role_arns : can(regex("^arn:[^:]+:iam::[0-9]{12}:role/[^*]+$", arn))])
    error_message = "assumed_role_arns has full ARNs of roles, no wildcards."
  }
}

variable "source_stream_arns" {
  description = "Kinesis streams that are read."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.source_stream_arns : can(regex("^arn:[^:]+:kinesis:[^:]+:[0-9]{12}:stream/[^/*]+$", arn))])
    error_message = "source_stream_arns has whole ARNs of streams, without wildcards."
  }
}

variable "target_stream_arns" {
  description = "Kinesis streams that are written."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.target_stream_arns : can(regex("^arn:[^:]+:kinesis:[^:]+:[0-9]{12}:stream/[^/*]+$", arn))])
    error_message = "target_stream_arns has whole ARNs of streams, without wildcards."
  }
}

variable "exactly_once_stream_arns" {
  description = <<-EOT
    Kinesis streams that are written with `delivery: exactly-once`, which reads back what is in
    doubt.
  EOT
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.exactly_once_stream_arns : can(regex("^arn:[^:]+:kinesis:[^:]+:[0-9]{12}:stream/[^/*]+$", arn))])
    error_message = "exactly_once_stream_arns has whole ARNs of streams, without wildcards."
  }
}

variable "kafka_arns" {
  description = <<-EOT
    MSK with IAM: ARNs of the cluster, and of its topics, groups and transactional ids that the
    application uses. The groups and transactional ids of exactly-once egress begin with `satchel-`.
  EOT
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.kafka_arns : can(regex("^arn:[^:]+:kafka:[^:]+:[0-9]{12}:(cluster|topic|group|transactional-id)/.+$", arn))])
    error_message = "kafka_arns has ARNs of clusters, topics, groups and transactional ids of MSK."
  }
}

variable "fan_out" {
  description = "Read streams by enhanced fan-out. The coordinator registers itself as a consumer."
  type        = bool
  default     = false
}

variable "source_queue_arns" {
  description = "SQS queues that are read."
  type        = list(string)
  default     = []
}

variable "target_queue_arns" {
  description = "SQS queues that are written."
  type        = list(string)
  default     = []
}

variable "target_topic_arns" {
  description = "SNS topics that are written."
  type        = list(string)
  default     = []
}

variable "target_event_bus_arns" {
  description = "EventBridge buses that are written."
  type        = list(string)
  default     = []
}

variable "target_table_arns" {
  description = "DynamoDB tables that are written."
  type        = list(string)
  default     = []
}

variable "admin_token_secret_arn" {
  description = <<-EOT
    Secret with the token for administration (`--admin-token-secret`). Without one nothing can be
    changed over the administration port, and only health and metrics are served.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.admin_token_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:[^*]+$", var.admin_token_secret_arn))
    error_message = "admin_token_secret_arn is the whole ARN of a secret, without wildcards."
  }
}

variable "traffic_token_secret_arn" {
  description = <<-EOT
    Secret with the token for traffic (`--http-token-secret`). Without one, every client that
    reaches the traffic port may call every function.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.traffic_token_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:[^*]+$", var.traffic_token_secret_arn))
    error_message = "traffic_token_secret_arn is the whole ARN of a secret, without wildcards."
  }
}

variable "secret_arns" {
  description = "Further secrets that the coordinator reads."
  type        = list(string)
  default     = []
}

variable "kms_key_arns" {
  description = "Customer managed keys that encrypt the bucket, the streams or the queues."
  type        = list(string)
  default     = []
}

variable "cluster_arn" {
  description = "ECS cluster to run in; null to make one."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "VPC to run in."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets to run in, in different zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 1
    error_message = "Name at least one subnet; two, in different zones, survive the loss of one."
  }
}

variable "assign_public_ip" {
  description = <<-EOT
    Give tasks a public address for outgoing traffic: true in public subnets, false in subnets with
    a NAT gateway or with endpoints of all services used. Nothing gets in by it.
  EOT
  type        = bool
  default     = false
}

variable "client_cidr_blocks" {
  description = "Address blocks that may reach the traffic port; none by default."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for block in var.client_cidr_blocks : can(cidrhost(block, 0))])
    error_message = "client_cidr_blocks has address blocks such as 10.0.0.0/16."
  }

  # Two halves of the internet are the internet: no network of one's own is wider than 10.0.0.0/8.
  validation {
    condition     = var.traffic_token_secret_arn != null || alltrue([for block in var.client_cidr_blocks : try(tonumber(split("/", block)[1]), 0) >= 8])
    error_message = "client_cidr_blocks lets the internet (a block wider than /8) call every function; set traffic_token_secret_arn, so that callers need a token."
  }
}

variable "load_balancer" {
  description = <<-EOT
    Name (at most 32 characters) of a load balancer inside the network, port 80, in front of the
    traffic port; null for none. It asks /readyz/traffic, which every task with `forwarding` answers
    until it is to stop. Never /readyz: ECS replaces every task that its balancer finds unhealthy,
    which a standby under /readyz always is. In a deployment ECS also waits for the new tasks to be
    healthy before it stops the old owner, which would never happen. Without `forwarding` it asks
    /healthz, and requests reach standbys too. These answer 503 with Retry-After and have done
    nothing, and clients retry.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.load_balancer == null ? true : can(regex("^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$", var.load_balancer))
    error_message = "load_balancer has 1 to 32 letters, digits or `-`; no `-` first or last."
  }
}

variable "log_retention_days" {
  description = "Days that the coordinator's log is kept."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
