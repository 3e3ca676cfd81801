# A handler on Lambda: a zip, such as the one that `cargo lambda build --release --arm64
# --output-format zip` makes, a version of it, and an alias that names the version to invoke.

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_iam_role" "function" {
  name = "${var.name}-function"
  tags = var.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "logs" {
  name = "logs"
  role = aws_iam_role.function.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function.arn}:*"
    }]
  })
}

# Permissions for what the handler's own code does in AWS. State, messages, timers and records
# travel in requests and answers and need none.
resource "aws_iam_role_policy" "own" {
  count = var.policy == null ? 0 : 1

  name   = "own"
  role   = aws_iam_role.function.id
  policy = var.policy
}

resource "aws_lambda_function" "function" {
  function_name                  = var.name
  description                    = var.description
  role                           = aws_iam_role.function.arn
  runtime                        = var.runtime
  handler                        = var.handler
  architectures                  = [var.architecture]
  filename                       = var.package
  source_code_hash               = filebase64sha256(var.package)
  publish                        = true
  memory_size                    = var.memory_mib
  timeout                        = var.timeout_seconds
  reserved_concurrent_executions = var.reserved_concurrency
  tags                           = var.tags

  environment {
    variables = var.environment
  }

  # Lambda writes three lines about each request (START, END, REPORT) at level INFO. At WARN they
  # are neither delivered nor paid for; requests that time out, crash or run out of memory still are
  # reported.
  logging_config {
    log_format            = "JSON"
    system_log_level      = "WARN"
    application_log_level = var.log_level
    log_group             = aws_cloudwatch_log_group.function.name
  }

  depends_on = [aws_iam_role_policy.logs]
}

# The coordinator invokes the alias. The alias moves only when a new version exists, so no request
# reaches a function that is half updated. To roll back, move the alias back.
resource "aws_lambda_alias" "live" {
  name             = var.alias
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}
