# All that the acceptance run needs: a bucket, a lease table, a stream, a function, the role of the
# coordinator, and, if there is an image, the coordinator itself. `run` makes and destroys it.

data "aws_availability_zones" "here" {
  state = "available"
}

data "aws_caller_identity" "here" {}

module "network" {
  source = "../modules/network"

  name               = var.name
  availability_zones = slice(data.aws_availability_zones.here.names, 0, 2)
}

module "state_bucket" {
  source = "../modules/state-bucket"

  name          = var.bucket_name
  applications  = { (var.name) = 1 }
  force_destroy = true
}

module "lease_table" {
  source = "../modules/lease-table"

  name                = var.name
  deletion_protection = false
}

module "streams" {
  source = "../modules/streams"

  streams = { (var.name) = { shards = var.shards } }
}

module "function" {
  source = "../modules/function"

  name            = var.name
  description     = "Answers as the acceptance run asks it to"
  package         = var.function_package
  runtime         = "python3.12"
  handler         = "handler.handler"
  timeout_seconds = 5
}

# Without an image there are no tasks, but the permissions that they would have.
module "coordinator" {
  source = "../modules/coordinator"

  name           = var.name
  application    = var.name
  image          = coalesce(var.image, "none:none")
  repository_arn = var.repository_arn

  state_bucket = { name = module.state_bucket.name, arn = module.state_bucket.arn }
  lease_table  = { name = module.lease_table.name, arn = module.lease_table.arn }

  function_arns            = [module.function.alias_arn]
  source_stream_arns       = [module.streams.arns[var.name]]
  exactly_once_stream_arns = [module.streams.arns[var.name]]

  size    = "small"
  tasks   = var.image == null ? 0 : 2
  metrics = true

  vpc_id           = module.network.vpc_id
  subnet_ids       = module.network.subnet_ids
  assign_public_ip = true
}

# The coordinator's permissions, for the run itself: ECS alone may use the coordinator's own role.
resource "aws_iam_role" "probe" {
  name = "${var.name}-probe"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.here.account_id}:root" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "probe" {
  name   = "coordinator"
  role   = aws_iam_role.probe.id
  policy = module.coordinator.task_policy
}
