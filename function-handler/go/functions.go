// Package lambda serves the functions of StateFun's Go SDK on AWS Lambda, for Satchel.
//
//	functions := lambda.NewFunctions()
//	err := functions.WithSpec(statefun.StatefulFunctionSpec{…})
//	…
//	functions.Start()
//
// It is an example to copy: two files, without compression. See README.md.
package lambda

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/flink-statefun/statefun-sdk-go/v3/pkg/statefun"
	"google.golang.org/protobuf/encoding/protowire"
)

// TerminalError rejects a message for good: the mistake lies in the message, so no retry can
// succeed. The message changes no state, has no effects and is not retried. A caller that waits
// for a reply gets Code (400 to 499, or 500) as the HTTP status, and Message. Without such a
// caller, the message becomes a dead letter. Any other error is retried.
type TerminalError struct {
	Code    int
	Message string
}

func (e *TerminalError) Error() string { return e.Message }

// Functions is StateFun's registry of functions. A panic of a function fails its batch only.
type Functions struct {
	sdk   statefun.StatefulFunctions
	types map[string]bool
}

// NewFunctions creates an empty registry, as statefun.StatefulFunctionsBuilder does.
func NewFunctions() *Functions {
	return &Functions{sdk: statefun.StatefulFunctionsBuilder(), types: map[string]bool{}}
}

// WithSpec registers a function.
func (f *Functions) WithSpec(spec statefun.StatefulFunctionSpec) error {
	if spec.Function != nil {
		spec.Function = counted{spec.Function}
	}
	if err := f.sdk.WithSpec(spec); err != nil {
		return err
	}
	f.types[spec.FunctionType.String()] = true
	return nil
}

// AsHandler creates the SDK's handler, for serving over HTTP.
func (f *Functions) AsHandler() statefun.RequestReplyHandler { return f.sdk.AsHandler() }

// batchKey is the key of the running batch in a context.
type batchKey struct{}

// running is the batch that a function is called for.
type running struct {
	begun int
	// at is the position of the message that the function is at, or -1 outside.
	at int
}

// counted counts the messages of a batch, and turns panics into errors: the SDK ends the process
// if a function panics with a value that is no error.
type counted struct{ function statefun.StatefulFunction }

func (c counted) Invoke(ctx statefun.Context, message statefun.Message) (err error) {
	batch, _ := ctx.Value(batchKey{}).(*running)
	if batch == nil {
		// Over HTTP.
		batch = &running{}
	}
	batch.at = batch.begun
	batch.begun++
	defer func() {
		if panicked := recover(); panicked != nil {
			err = panicError(panicked)
		}
	}()
	if err := c.function.Invoke(ctx, message); err != nil {
		return err
	}
	batch.at = -1
	return nil
}

type panicked struct{ error }

func panicError(value any) error {
	if err, ok := value.(error); ok {
		return panicked{err}
	}
	return panicked{fmt.Errorf("%v", value)}
}

// answer serves one batch before the deadline.
func (f *Functions) answer(ctx context.Context, request []byte) ([]byte, *batchError) {
	type outcome struct {
		from []byte
		err  *batchError
	}
	done := make(chan outcome, 1)
	go func() {
		from, err := f.answerNow(ctx, request)
		done <- outcome{from, err}
	}()
	select {
	case outcome := <-done:
		return outcome.from, outcome.err
	case <-ctx.Done():
		why := "the batch was not done before the deadline of the Lambda request"
		return nil, newBatchError("timeout", why)
	}
}

func (f *Functions) answerNow(ctx context.Context, request []byte) (_ []byte, err *batchError) {
	target, err := readTarget(request)
	if err != nil {
		return nil, err
	}
	if !f.types[target.typename] {
		err := newBatchError("unknown_function", "this handler has no function "+target.typename)
		// Every message of the batch is rejected. The first is, and the others follow it.
		first := 0
		why := "there is no function " + target.typename
		err.Terminal = &terminal{Index: &first, Code: 404, Message: why}
		return nil, err
	}
	batch := &running{at: -1}
	defer func() {
		if value := recover(); value != nil {
			err = batch.failed(panicError(value), target.messages)
		}
	}()
	ctx = context.WithValue(ctx, batchKey{}, batch)
	from, failure := f.sdk.AsHandler().Invoke(ctx, request)
	if failure != nil {
		return nil, batch.failed(failure, target.messages)
	}
	return from, nil
}

func (r *running) failed(err error, messages int) *batchError {
	located := func(text string) string {
		if r.at < 0 || messages == 1 {
			return text
		}
		return fmt.Sprintf("message %d of %d: %s", r.at+1, messages, text)
	}
	var rejected *TerminalError
	if errors.As(err, &rejected) && (rejected.Code >= 400 && rejected.Code <= 500) {
		failed := newBatchError("terminal", located(rejected.Message))
		failed.Terminal = &terminal{Code: rejected.Code, Message: shortened(rejected.Message)}
		if r.at >= 0 {
			at := r.at
			failed.Terminal.Index = &at
		}
		if r.at == 0 {
			// The first message of a batch is concluded by this, so its text stands alone.
			failed.Message = failed.Terminal.Message
		}
		return failed
	}
	if errors.As(err, &panicked{}) {
		return newBatchError("panic", located(err.Error()))
	}
	return newBatchError("function", located(err.Error()))
}

// target is what the answer to a request depends on.
type target struct {
	typename string
	messages int
}

// readTarget reads the fields of ToFunction, whose generated code the SDK keeps to itself.
func readTarget(request []byte) (target, *batchError) {
	batch, err := fields(request, 100)
	if err != nil {
		return target{}, newBatchError("invalid_request", "the payload is not a ToFunction: "+err.Error())
	}
	if len(batch) == 0 {
		return target{}, newBatchError("invalid_request", "the request holds no batch")
	}
	last := batch[len(batch)-1]
	addresses, err := fields(last, 1)
	if err == nil && len(addresses) == 0 {
		return target{}, newBatchError("invalid_request", "the batch has no target")
	}
	var messages, namespace, name [][]byte
	if err == nil {
		messages, err = fields(last, 3)
	}
	if err == nil {
		namespace, err = fields(addresses[0], 1)
	}
	if err == nil {
		name, err = fields(addresses[0], 2)
	}
	if err != nil {
		return target{}, newBatchError("invalid_request", "the payload is not a ToFunction: "+err.Error())
	}
	text := func(field [][]byte) string {
		if len(field) == 0 {
			return ""
		}
		return string(field[len(field)-1])
	}
	return target{typename: text(namespace) + "/" + text(name), messages: len(messages)}, nil
}

// fields returns the values of one field of a message.
func fields(message []byte, wanted protowire.Number) ([][]byte, error) {
	var found [][]byte
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return nil, protowire.ParseError(length)
		}
		message = message[length:]
		if number == wanted && kind == protowire.BytesType {
			value, length := protowire.ConsumeBytes(message)
			if length < 0 {
				return nil, protowire.ParseError(length)
			}
			found = append(found, value)
		}
		length = protowire.ConsumeFieldValue(number, kind, message)
		if length < 0 {
			return nil, protowire.ParseError(length)
		}
		message = message[length:]
	}
	return found, nil
}

// cutoff is a little before the deadline, at which Lambda would drop every result. A deadline in
// the past is ignored, because some stand-ins for Lambda give a constant one.
func cutoff(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	left := time.Until(deadline)
	if !ok || left <= 0 {
		return context.WithCancel(context.WithoutCancel(ctx))
	}
	return context.WithTimeout(ctx, left-min(left/20, 500*time.Millisecond))
}
