module satchel/lambda

go 1.22

require (
	github.com/apache/flink-statefun/statefun-sdk-go/v3 v3.3.0
	github.com/aws/aws-lambda-go v1.47.0
	google.golang.org/protobuf v1.36.6
)
