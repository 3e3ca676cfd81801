module satchel/smoke

go 1.22

require (
	github.com/apache/flink-statefun/statefun-sdk-go/v3 v3.3.0
	satchel/lambda v0.0.0
)

require (
	github.com/aws/aws-lambda-go v1.47.0 // indirect
	google.golang.org/protobuf v1.36.6 // indirect
)

replace satchel/lambda => ../../../../function-handler/go
