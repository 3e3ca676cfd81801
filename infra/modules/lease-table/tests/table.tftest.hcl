mock_provider "aws" {}

variables {
  name = "orders-leases"
}

run "the_table_has_the_key_that_satchel_uses_and_is_paid_by_use" {
  assert {
    condition     = aws_dynamodb_table.leases.hash_key == "pk" && aws_dynamodb_table.leases.range_key == null
    error_message = "The table has another key."
  }

  assert {
    condition     = [for attribute in aws_dynamodb_table.leases.attribute : "${attribute.name} ${attribute.type}"] == ["pk S"]
    error_message = "The key is no string."
  }

  assert {
    condition     = aws_dynamodb_table.leases.billing_mode == "PAY_PER_REQUEST"
    error_message = "Capacity is provisioned."
  }

  assert {
    condition     = aws_dynamodb_table.leases.point_in_time_recovery[0].enabled
    error_message = "The table cannot be recovered."
  }
}

run "a_name_that_dynamodb_would_refuse_is_refused_first" {
  command = plan

  variables {
    name = "no"
  }

  expect_failures = [var.name]
}
