mock_provider "aws" {}

variables {
  name = "orders-log"
}

run "the_table_has_the_keys_that_satchel_uses_and_is_paid_by_use" {
  assert {
    condition     = aws_dynamodb_table.logs.hash_key == "log" && aws_dynamodb_table.logs.range_key == "object"
    error_message = "The table has other keys."
  }

  assert {
    condition     = toset([for attribute in aws_dynamodb_table.logs.attribute : "${attribute.name} ${attribute.type}"]) == toset(["log S", "object S"])
    error_message = "The keys are no strings."
  }

  assert {
    condition     = aws_dynamodb_table.logs.billing_mode == "PAY_PER_REQUEST"
    error_message = "Capacity is provisioned."
  }

  assert {
    condition     = aws_dynamodb_table.logs.deletion_protection_enabled
    error_message = "The table can be deleted, with the state in it."
  }
}

run "a_name_that_dynamodb_would_refuse_is_refused_first" {
  command = plan

  variables {
    name = "no"
  }

  expect_failures = [var.name]
}
