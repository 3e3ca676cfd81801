# An application whose work is spread over several coordinators: eight partitions on three tasks,
# behind a load balancer.

data "aws_availability_zones" "here" {
  state = "available"
}

module "network" {
  source = "../../modules/network"

  name               = var.name
  availability_zones = slice(data.aws_availability_zones.here.names, 0, 3)
}

module "state_bucket" {
  source = "../../modules/state-bucket"

  name          = var.state_bucket_name
  applications  = { (var.name) = var.partitions }
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

  partitions      = var.partitions
  tasks           = var.tasks
  on_demand_tasks = var.on_demand_tasks
  size            = var.size
  metrics         = var.alarms

  scaling = var.tasks_max == null ? null : {
    tasks_min = var.tasks
    tasks_max = var.tasks_max
  }

  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.subnet_ids
  assign_public_ip   = true
  load_balancer      = var.load_balancer ? var.name : null
  client_cidr_blocks = var.client_cidr_blocks
}

module "observability" {
  source = "../../modules/observability"
  count  = var.alarms ? 1 : 0

  name         = var.name
  application  = var.name
  cluster_name = module.coordinator.cluster_name
  service_name = module.coordinator.service_name
  tasks        = module.coordinator.tasks_max
  partitions   = var.partitions
  topic_arn    = var.alarm_topic_arn

  coordinator_log_group_name = module.coordinator.log_group_name
}
