# A small network, if there is none: public subnets in several zones, without NAT gateways. A task
# has a public address for outgoing traffic, and its security group admits no incoming traffic.
# Gateway endpoints make traffic to S3 and DynamoDB free of transfer charges.

data "aws_region" "here" {}

resource "aws_vpc" "network" {
  cidr_block           = var.cidr_block
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(var.tags, { Name = var.name })
}

resource "aws_subnet" "public" {
  for_each = { for index, zone in var.availability_zones : zone => index }

  vpc_id            = aws_vpc.network.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.cidr_block, 8, each.value)
  tags              = merge(var.tags, { Name = "${var.name}-${each.key}" })
}

resource "aws_internet_gateway" "out" {
  vpc_id = aws_vpc.network.id
  tags   = merge(var.tags, { Name = var.name })
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.network.id
  tags   = merge(var.tags, { Name = var.name })
}

resource "aws_route" "out" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.out.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = toset(["s3", "dynamodb"])

  vpc_id            = aws_vpc.network.id
  service_name      = "com.amazonaws.${data.aws_region.here.name}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id]
  tags              = merge(var.tags, { Name = "${var.name}-${each.key}" })
}
