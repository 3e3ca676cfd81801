output "made" {
  description = "Names that the run needs."
  value = {
    application  = var.name
    bucket       = module.state_bucket.name
    lease_table  = module.lease_table.name
    stream       = var.name
    shards       = var.shards
    function     = module.function.name
    alias        = module.function.alias
    probe_role   = aws_iam_role.probe.arn
    task_policy  = module.coordinator.task_policy
    cluster      = module.coordinator.cluster_name
    service      = module.coordinator.service_name
    tasks        = var.image == null ? 0 : 2
    lease_item   = "${var.name}#s3://${module.state_bucket.name}/${var.name}#0"
    stop_seconds = 35
  }

  # The probe's permissions are there when the run begins.
  depends_on = [aws_iam_role_policy.probe]
}
