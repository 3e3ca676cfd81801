# An application for little money: a handler, and a coordinator in the smallest task of Fargate.
# No streams, no load balancer, no NAT gateway, no metrics that are paid for one by one.

data "aws_availability_zones" "here" {
  state = "available"
}

module "network" {
  source = "../../modules/network"

  name               = var.name
  availability_zones = slice(data.aws_availability_zones.here.names, 0, 2)
}

module "state_bucket" {
  source = "../../modules/state-bucket"

  name          = var.state_bucket_name
  applications  = { (var.name) = 1 }
  force_destroy = var.destroy_data
}

module "lease_table" {
  source = "../../modules/lease-table"

  name = "${var.name}-leases"
}

module "function" {
  source = "../../modules/function"

  name    = var.name
  package = var.function_package
}

module "repository" {
  source = "../../modules/repository"

  name         = "${var.name}/coordinator"
  force_delete = var.destroy_data
}

module "coordinator" {
  source = "../../modules/coordinator"

  name           = var.name
  application    = var.name
  image          = "${module.repository.url}:${var.image_tag}"
  repository_arn = module.repository.arn

  state_bucket = { name = module.state_bucket.name, arn = module.state_bucket.arn }
  lease_table  = { name = module.lease_table.name, arn = module.lease_table.arn }

  function_arns = [module.function.alias_arn]

  size            = "small"
  tasks           = var.tasks
  on_demand_tasks = var.on_demand_tasks
  metrics         = var.alarms

  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.subnet_ids
  assign_public_ip   = true
  client_cidr_blocks = var.client_cidr_blocks
}

module "observability" {
  source = "../../modules/observability"
  count  = var.alarms ? 1 : 0

  name         = var.name
  application  = var.name
  cluster_name = module.coordinator.cluster_name
  service_name = module.coordinator.service_name
  tasks        = var.tasks
  topic_arn    = var.alarm_topic_arn
}
