variable "region" {
  description = "Region to run in."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Name of the application."
  type        = string
  default     = "fraud-detection"
}

variable "state_bucket_name" {
  description = "Name of the bucket for the state, unique in all of AWS."
  type        = string
}

variable "function_package" {
  description = <<-EOT
    Path of the zip with the handler, made by `cargo lambda build --release --arm64 --output-format
    zip -p fraud-detection`.
  EOT
  type        = string
}

variable "image_tag" {
  description = "Tag of the coordinator's image in the repository that is made here."
  type        = string
}

variable "size" {
  description = "Size of a task: `standard`, or `small` for an application with little to do."
  type        = string
  default     = "standard"
}

variable "tasks" {
  description = "Number of tasks: one owns, the others stand by."
  type        = number
  default     = 2
}

variable "on_demand_tasks" {
  description = "Number of tasks that are not on Fargate Spot; null for all."
  type        = number
  default     = null
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

variable "shards" {
  description = "Number of shards of each stream; null for on demand."
  type        = number
  default     = 1
}

variable "scoring_service_url" {
  description = "URL of the scoring service; null for the stand-in inside the handler."
  type        = string
  default     = null
}

variable "load_balancer" {
  description = <<-EOT
    Put a load balancer inside the network in front of the traffic port, for calls over HTTP.
  EOT
  type        = bool
  default     = false
}

variable "client_cidr_blocks" {
  description = "Address blocks that calls over HTTP may come from."
  type        = list(string)
  default     = []
}

variable "traffic_token_secret_arn" {
  description = <<-EOT
    Secret in AWS Secrets Manager with the token that calls over HTTP need. Calls from the internet
    are possible only with one.
  EOT
  type        = string
  default     = null
}

variable "destroy_data" {
  description = "Have `terraform destroy` delete the state and the images too."
  type        = bool
  default     = false
}
