mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
}

variables {
  name               = "orders"
  availability_zones = ["eu-central-1a", "eu-central-1b"]
}

run "each_zone_has_a_subnet_of_its_own_with_a_way_out" {
  assert {
    condition     = { for zone, subnet in aws_subnet.public : zone => subnet.cidr_block } == { "eu-central-1a" = "10.0.0.0/24", "eu-central-1b" = "10.0.1.0/24" }
    error_message = "The subnets are others."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch != true])
    error_message = "Whatever is started here gets a public address, unasked."
  }

  assert {
    condition     = toset([for endpoint in aws_vpc_endpoint.gateway : endpoint.service_name]) == toset(["com.amazonaws.eu-central-1.s3", "com.amazonaws.eu-central-1.dynamodb"])
    error_message = "S3 and DynamoDB are reached over the internet gateway."
  }

  assert {
    condition     = length(output.subnet_ids) == 2
    error_message = "Another number of subnets is given out."
  }
}

run "one_zone_is_too_few" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1a"]
  }

  expect_failures = [var.availability_zones]
}
