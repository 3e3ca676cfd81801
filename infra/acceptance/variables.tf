variable "region" {
  description = "Region to run in."
  type        = string
}

variable "name" {
  description = "Name of everything that is made."
  type        = string
}

variable "bucket_name" {
  description = "Name of the bucket, unique in all of AWS."
  type        = string
}

variable "function_package" {
  description = "Path of the zip with handler.py."
  type        = string
}

variable "shards" {
  description = "Number of shards of the stream."
  type        = number
  default     = 1
}

variable "image" {
  description = "Image of the coordinator with module.yaml in it; null for no tasks."
  type        = string
  default     = null
}

variable "repository_arn" {
  description = "ECR repository of the image; null for a public image."
  type        = string
  default     = null
}
