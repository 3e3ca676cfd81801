variable "region" {
  description = "Region to run in."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Name of the application."
  type        = string
  default     = "small"
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

variable "tasks" {
  description = "Number of tasks: one owns, the others stand by."
  type        = number
  default     = 1
}

variable "on_demand_tasks" {
  description = "Number of tasks that are not on Fargate Spot; null for all."
  type        = number
  default     = null
}

variable "alarms" {
  description = "Make alarms and a dashboard, and have the coordinator write the metrics for them."
  type        = bool
  default     = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms are sent to; null for none."
  type        = string
  default     = null
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
