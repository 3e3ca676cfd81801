variable "region" {
  description = "The region to run in."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "The application's name."
  type        = string
  default     = "fraud-detection"
}

variable "state_bucket_name" {
  description = "The name of the bucket for the state, unique in all of AWS."
  type        = string
}

variable "function_package" {
  description = "The zip with the handler: `cargo lambda build --release --arm64 --output-format zip -p fraud-detection`."
  type        = string
}

variable "image_tag" {
  description = "The tag of the coordinator's image in the repository that is made here."
  type        = string
}

variable "shards" {
  description = "How many shards each stream has; null for on demand."
  type        = number
  default     = 1
}

variable "scoring_service_url" {
  description = "The scoring service; null for the stand-in inside the handler."
  type        = string
  default     = null
}

variable "load_balancer" {
  description = "Whether a load balancer inside the network stands in front of the traffic port, for calls over HTTP."
  type        = bool
  default     = false
}

variable "client_cidr_blocks" {
  description = "From where calls over HTTP may come."
  type        = list(string)
  default     = []
}

variable "destroy_data" {
  description = "Whether `terraform destroy` takes the state and the images with it."
  type        = bool
  default     = false
}
