mock_provider "aws" {
  mock_resource "aws_iam_role" {
    defaults = { id = "fraud-function", arn = "arn:aws:iam::123456789012:role/fraud-function" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/fraud" }
  }

  mock_resource "aws_lambda_function" {
    defaults = { version = "7" }
  }
}

variables {
  name = "fraud"
  # Any file will do: nothing is deployed.
  package = "tests/function.tftest.hcl"
}

run "a_handler_is_a_version_behind_an_alias_for_arm" {
  assert {
    condition     = aws_lambda_function.function.publish && aws_lambda_alias.live.name == "live" && aws_lambda_alias.live.function_version == "7"
    error_message = "The alias does not point to the version that was published."
  }

  assert {
    condition     = aws_lambda_function.function.runtime == "provided.al2023" && aws_lambda_function.function.architectures == tolist(["arm64"])
    error_message = "The function runs elsewhere."
  }

  assert {
    condition     = aws_lambda_function.function.source_code_hash == filebase64sha256("tests/function.tftest.hcl")
    error_message = "A new package would not be deployed."
  }
}

run "a_handler_may_be_in_another_language" {
  command = plan

  variables {
    runtime = "python3.12"
    handler = "app.handler"
  }

  assert {
    condition     = aws_lambda_function.function.runtime == "python3.12" && aws_lambda_function.function.handler == "app.handler"
    error_message = "The function runs in another runtime."
  }
}

run "a_handler_may_write_its_log_and_nothing_else" {
  assert {
    condition = jsondecode(aws_iam_role_policy.logs.policy).Statement == [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/fraud:*"
    }]
    error_message = "The function's role is another one: ${aws_iam_role_policy.logs.policy}"
  }

  assert {
    condition     = length(aws_iam_role_policy.own) == 0
    error_message = "The function may do more."
  }
}

run "lines_of_the_platform_about_each_request_are_not_paid_for" {
  command = plan

  assert {
    condition     = aws_lambda_function.function.logging_config[0].log_format == "JSON" && aws_lambda_function.function.logging_config[0].system_log_level == "WARN"
    error_message = "Lambda logs START, END and REPORT of each request."
  }

  assert {
    condition     = aws_lambda_function.function.logging_config[0].application_log_level == "INFO"
    error_message = "Lines of the handler without a level, such as a panic, are lost."
  }
}

run "what_lambda_would_refuse_is_refused_first" {
  command = plan

  variables {
    architecture         = "arm"
    timeout_seconds      = 901
    memory_mib           = 64
    reserved_concurrency = 0
    policy               = "{}"
    alias                = "1st"
    log_level            = "info"
  }

  expect_failures = [
    var.architecture, var.timeout_seconds, var.memory_mib, var.reserved_concurrency, var.policy, var.alias, var.log_level,
  ]
}
