package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/flink-statefun/statefun-sdk-go/v3/pkg/statefun"
	"github.com/aws/aws-lambda-go/lambda/messages"
)

var count = statefun.ValueSpec{Name: "count", ValueType: statefun.Int32Type}

// counter is the function of the vectors; see vectors/README.md of the handler.
func counter(ctx statefun.Context, message statefun.Message) error {
	command, rest, _ := strings.Cut(message.AsString(), " ")
	reply := func(value any) {
		ctx.Send(statefun.MessageBuilder{Target: *ctx.Caller(), Value: value})
	}
	switch command {
	case "add":
		amount, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		var sum int32
		ctx.Storage().Get(count, &sum)
		sum += int32(amount)
		ctx.Storage().Set(count, sum)
		reply(sum)
	case "answer":
		length, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		reply(strings.Repeat("x", length))
	case "fail":
		return errors.New(rest)
	case "panic":
		panic(rest)
	case "hang":
		select {}
	case "reject":
		code, text, _ := strings.Cut(rest, " ")
		number, err := strconv.Atoi(code)
		if err != nil {
			return err
		}
		return fmt.Errorf("wrapped: %w", &TerminalError{Code: number, Message: text})
	default:
		return fmt.Errorf("what is %s?", command)
	}
	return nil
}

func functions(t *testing.T) *Functions {
	functions := NewFunctions()
	err := functions.WithSpec(statefun.StatefulFunctionSpec{
		FunctionType: statefun.TypeNameFrom("vectors/counter"),
		States:       []statefun.ValueSpec{count},
		Function:     statefun.StatefulFunctionPointer(counter),
	})
	if err != nil {
		t.Fatal(err)
	}
	return functions
}

type vector struct {
	Name          string
	Needs         []string
	Request       json.RawMessage
	Response      *response
	FunctionError *messages.InvokeResponse_Error `json:"function_error"`
}

func vectors(t *testing.T) []vector {
	file, err := os.ReadFile("../vectors/bundles.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []vector
	if err := json.Unmarshal(file, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestVectors(t *testing.T) {
	functions := functions(t)
	for _, vector := range vectors(t) {
		if slices.Contains(vector.Needs, "zstd") || slices.Contains(vector.Needs, "http") {
			continue
		}
		t.Run(vector.Name, func(t *testing.T) {
			payload, err := functions.Invoke(context.Background(), vector.Request)
			if wanted := vector.FunctionError; wanted != nil {
				var found messages.InvokeResponse_Error
				if !errors.As(err, &found) || found.Type != wanted.Type ||
					!strings.HasPrefix(found.Message, wanted.Message) {
					t.Fatalf("%v instead of %v", err, wanted)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, payload, *vector.Response)
		})
	}
}

func check(t *testing.T, payload []byte, wanted response) {
	var found response
	if err := json.Unmarshal(payload, &found); err != nil {
		t.Fatal(err)
	}
	results := wanted.Results
	for i := range results {
		if results[i].Error == nil || i >= len(found.Results) || found.Results[i].Error == nil {
			continue
		}
		// A part of the message is given.
		message := found.Results[i].Error.Message
		if !strings.Contains(message, results[i].Error.Message) {
			t.Errorf("%q has no %q", message, results[i].Error.Message)
		}
		results[i].Error.Message = message
	}
	expected, err := json.Marshal(wanted)
	if err != nil {
		t.Fatal(err)
	}
	// The SDK encodes the fields of an answer in their order, as the vectors have them.
	if again, _ := json.Marshal(found); string(again) != string(expected) {
		t.Errorf("%s instead of %s", again, expected)
	}
}

// request returns the request of a vector with other messages: texts of the same length.
func request(t *testing.T, name, before, after string) []byte {
	for _, vector := range vectors(t) {
		if vector.Name != name {
			continue
		}
		var sent bundle
		if err := json.Unmarshal(vector.Request, &sent); err != nil {
			t.Fatal(err)
		}
		for _, batch := range sent.Batches {
			to, failure := unpack(batch, decompressedBytesMax)
			if failure != nil {
				continue
			}
			replaced := []byte(strings.ReplaceAll(string(to), before, after))
			*batch.To = base64.StdEncoding.EncodeToString(replaced)
		}
		payload, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}
	t.Fatalf("no vector %q", name)
	return nil
}

func outcomes(t *testing.T, payload []byte) []string {
	var found response
	if err := json.Unmarshal(payload, &found); err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, result := range found.Results {
		if result.Error == nil {
			outcomes = append(outcomes, "ok")
		} else {
			outcomes = append(outcomes, result.Error.Type+": "+result.Error.Message)
		}
	}
	return outcomes
}

func TestAPanicFailsItsBatchOnly(t *testing.T) {
	payload, err := functions(t).Invoke(context.Background(),
		request(t, "a batch that fails fails alone", "fail on request", "panic on reques"))
	if err != nil {
		t.Fatal(err)
	}
	found := outcomes(t, payload)
	if !strings.HasPrefix(found[0], "panic: ") || !strings.HasSuffix(found[0], "on reques") {
		t.Errorf("%q", found[0])
	}
	if last := found[len(found)-1]; last != "ok" {
		t.Errorf("%q", last)
	}
}

func TestABatchThatHangsCostsOnlyItself(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	payload, err := functions(t).Invoke(ctx,
		request(t, "states and messages", "add -5", "hang !"))
	if err != nil {
		t.Fatal(err)
	}
	late := "timeout: the batch was not done before the deadline of the Lambda request"
	if found := outcomes(t, payload); !slices.Equal(found, []string{"ok", late, "ok"}) {
		t.Errorf("%q", found)
	}
}

func TestTheLargestResultsAreReplacedUntilTheResponseFits(t *testing.T) {
	var answer response
	for _, size := range []int{1000, 9000, 4000, 6000} {
		from := strings.Repeat("A", size)
		answer.Results = append(answer.Results, result{Attempt: strconv.Itoa(size), From: &from})
	}
	fit(&answer, 6000)
	var replaced []string
	for _, result := range answer.Results {
		if result.Error != nil {
			replaced = append(replaced, result.Attempt+" "+result.Error.Type)
		}
	}
	wanted := []string{"9000 response_too_large", "6000 response_too_large"}
	if !slices.Equal(replaced, wanted) || jsonBytes(answer) > 6000 {
		t.Errorf("%q, %d bytes", replaced, jsonBytes(answer))
	}
}

func TestALongErrorIsCutBetweenCharacters(t *testing.T) {
	long := newBatchError("function", strings.Repeat("€", errorBytesMax))
	if long.Message != strings.Repeat("€", errorBytesMax/3)+"…" {
		t.Errorf("%d bytes", len(long.Message))
	}
}
