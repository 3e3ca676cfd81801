variable "name" {
  description = "Name of the network."
  type        = string
}

variable "availability_zones" {
  description = "Zones to have a subnet in. Two tasks in two zones survive the loss of one."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 2 && length(distinct(var.availability_zones)) == length(var.availability_zones)
    error_message = "Name at least two zones, each once."
  }
}

variable "cidr_block" {
  description = "Addresses of the network. Each subnet gets a 256th of them."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.cidr_block, 8, 0)) && try(tonumber(split("/", var.cidr_block)[1]), 0) >= 16 && try(tonumber(split("/", var.cidr_block)[1]), 99) <= 20
    error_message = "cidr_block is an IPv4 block between /16 and /20."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
