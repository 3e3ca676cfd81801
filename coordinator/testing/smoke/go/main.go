// The function of the smoke scheme, on StateFun's Go SDK: as a handler of Lambda bundles, or over
// HTTP. Over HTTP it prints its port, and ends with its input.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/apache/flink-statefun/statefun-sdk-go/v3/pkg/statefun"
	"satchel/lambda"
)

var (
	function = statefun.TypeNameFrom("smoke/command")
	records  = statefun.TypeNameFrom("smoke/records")
	commands = statefun.MakeJsonType(statefun.TypeNameFrom("smoke/commands"))
	total    = statefun.ValueSpec{Name: "total", ValueType: statefun.Int32Type}
	seen     = statefun.ValueSpec{Name: "seen", ValueType: statefun.Int32Type}
)

// step is a command: one of these fields is set.
type step struct {
	Add    *int32  `json:"add,omitempty"`
	Send   *string `json:"send,omitempty"`
	Then   []step  `json:"then,omitempty"`
	After  *int64  `json:"after,omitempty"`
	Token  string  `json:"token,omitempty"`
	Cancel *string `json:"cancel,omitempty"`
	Emit   *string `json:"emit,omitempty"`
	Noop   *bool   `json:"noop,omitempty"`
}

func command(ctx statefun.Context, message statefun.Message) error {
	var steps []step
	if err := message.As(commands, &steps); err != nil {
		return err
	}
	add(ctx, seen, 1)
	for _, step := range steps {
		switch {
		case step.Add != nil:
			add(ctx, total, *step.Add)
		case step.Send != nil:
			if err := send(ctx, step); err != nil {
				return err
			}
		case step.Cancel != nil:
			token, err := statefun.NewCancellationToken(*step.Cancel)
			if err != nil {
				return err
			}
			ctx.CancelDelayedMessage(token)
		case step.Emit != nil:
			record, err := json.Marshal(map[string]string{"id": *step.Emit})
			if err != nil {
				return err
			}
			ctx.SendEgress(statefun.KinesisEgressBuilder{
				Target: records, Stream: "records", PartitionKey: *step.Emit, Value: record,
			})
		case step.Noop != nil:
			// Functions in Go block.
		default:
			return fmt.Errorf("unknown command %+v", step)
		}
	}
	return nil
}

func add(ctx statefun.Context, state statefun.ValueSpec, amount int32) {
	var value int32
	ctx.Storage().Get(state, &value)
	ctx.Storage().Set(state, value+amount)
}

func send(ctx statefun.Context, step step) error {
	message := statefun.MessageBuilder{
		Target:    statefun.Address{FunctionType: function, Id: *step.Send},
		Value:     step.Then,
		ValueType: commands,
	}
	if step.After == nil {
		ctx.Send(message)
		return nil
	}
	delay := time.Duration(*step.After) * time.Millisecond
	if step.Token == "" {
		ctx.SendAfter(delay, message)
		return nil
	}
	token, err := statefun.NewCancellationToken(step.Token)
	if err != nil {
		return err
	}
	ctx.SendAfterWithCancellationToken(delay, token, message)
	return nil
}

func main() {
	functions := lambda.NewFunctions()
	err := functions.WithSpec(statefun.StatefulFunctionSpec{
		FunctionType: function,
		States:       []statefun.ValueSpec{total, seen},
		Function:     statefun.StatefulFunctionPointer(command),
	})
	if err != nil {
		log.Fatal(err)
	}
	// The SDK logs each registration of a state.
	log.SetOutput(io.Discard)
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		functions.Start()
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go http.Serve(listener, functions.AsHandler())
	io.Copy(io.Discard, os.Stdin)
}
