mock_provider "aws" {}

run "a_stream_is_on_demand_unless_it_says_how_many_shards" {
  variables {
    streams = {
      transactions = {}
      alerts       = { shards = 3, retention_hours = 168 }
    }
  }

  assert {
    condition = {
      for name, stream in aws_kinesis_stream.stream :
      name => [stream.stream_mode_details[0].stream_mode, stream.retention_period, stream.encryption_type]
      } == {
      transactions = ["ON_DEMAND", 24, "KMS"]
      alerts       = ["PROVISIONED", 168, "KMS"]
    }
    error_message = "The streams are others."
  }

  assert {
    condition     = aws_kinesis_stream.stream["alerts"].shard_count == 3
    error_message = "The stream has another number of shards."
  }
}

run "half_a_shard_and_too_short_a_retention_are_refused" {
  command = plan

  variables {
    streams = { transactions = { shards = 0.5, retention_hours = 1 } }
  }

  expect_failures = [var.streams]
}
