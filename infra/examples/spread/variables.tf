variable "region" {
  description = "Region to run in. It needs three availability zones."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Name of the application."
  type        = string
  default     = "spread"
}

variable "state_bucket_name" {
  description = "Name of the bucket for the state, unique in all of AWS."
  type        = string
}

variable "function_package" {
  description = "Path of the zip with the handler."
  type        = string
}

variable "image_tag" {
  description = "Tag of the coordinator's image in the repository that is made here."
  type        = string
}

variable "partitions" {
  description = "Number of partitions. It cannot be changed after the first start."
  type        = number
  default     = 8
}

variable "tasks" {
  description = "Number of tasks, over which the partitions are spread."
  type        = number
  default     = 3
}

variable "tasks_max" {
  description = <<-EOT
    Have the number of tasks follow their CPU, from `tasks` up to this; null for `tasks` tasks. A
    change from or to null makes the service anew.
  EOT
  type        = number
  default     = null
}

variable "on_demand_tasks" {
  description = "Number of tasks that are not on Fargate Spot; null for all."
  type        = number
  default     = null
}

variable "size" {
  description = "Size of a task: `standard`, or `small` for an application with little to do."
  type        = string
  default     = "standard"
}

variable "alarms" {
  description = "Make alarms and a dashboard, and have the coordinator write the metrics for them."
  type        = bool
  default     = true
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms are sent to; null for none."
  type        = string
  default     = null
}

variable "load_balancer" {
  description = <<-EOT
    Put a load balancer inside the network in front of the traffic port, for calls over HTTP.
  EOT
  type        = bool
  default     = true
}

variable "client_cidr_blocks" {
  description = "Address blocks that calls over HTTP may come from."
  type        = list(string)
  default     = []
}

variable "destroy_data" {
  description = "Have `terraform destroy` delete the state and the images too."
  type        = bool
  default     = false
}
