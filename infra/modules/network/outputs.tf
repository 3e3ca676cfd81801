output "vpc_id" {
  description = "Id of the network."
  value       = aws_vpc.network.id
}

output "subnet_ids" {
  description = "Ids of the subnets. Known once there is a route out of them."
  value       = [for zone in var.availability_zones : aws_subnet.public[zone].id]

  depends_on = [aws_route.out, aws_route_table_association.public, aws_vpc_endpoint.gateway]
}
