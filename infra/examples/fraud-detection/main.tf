# The application of examples/fraud-detection on AWS: two streams in, one function, one stream
# out, and the coordinator between them.

data "aws_availability_zones" "here" {
  state = "available"
}

locals {
  # As examples/fraud-detection/module.yaml names them.
  sources = ["transactions", "fraud-confirmations"]
  targets = ["alerts"]
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

module "streams" {
  source = "../../modules/streams"

  streams = { for name in concat(local.sources, local.targets) : name => { shards = var.shards } }
}

module "function" {
  source = "../../modules/function"

  name        = "fraud-detection"
  description = "The functions fraud/*"
  package     = var.function_package
  environment = var.scoring_service_url == null ? {} : { SCORING_SERVICE_URL = var.scoring_service_url }
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

  function_arns      = [module.function.alias_arn]
  source_stream_arns = [for name in local.sources : module.streams.arns[name]]
  target_stream_arns = [for name in local.targets : module.streams.arns[name]]

  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.subnet_ids
  assign_public_ip   = true
  load_balancer      = var.load_balancer ? var.name : null
  client_cidr_blocks = var.client_cidr_blocks

  size            = var.size
  tasks           = var.tasks
  on_demand_tasks = var.on_demand_tasks
  metrics         = var.alarms

  traffic_token_secret_arn = var.traffic_token_secret_arn
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
