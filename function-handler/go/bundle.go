package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"sort"
	"strings"
	"sync"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
)

const (
	version = 1
	// decompressedBytesMax is the maximum size of all requests of a bundle.
	decompressedBytesMax = 64 << 20
	// responseBytesMax is the maximum size of the response to a synchronous Lambda request.
	responseBytesMax = 6 << 20
	// errorBytesMax is the maximum length of an error text.
	errorBytesMax = 8 << 10
)

type bundle struct {
	Version *int    `json:"satchel"`
	Name    *string `json:"bundle"`
	// Encoding is always identity, because this handler never answers in another one.
	Encoding string  `json:"encoding"`
	Batches  []batch `json:"batches"`
}

type batch struct {
	Attempt *string `json:"attempt"`
	To      *string `json:"to"`
}

type response struct {
	Version  int      `json:"satchel"`
	Bundle   string   `json:"bundle"`
	Encoding string   `json:"encoding"`
	Results  []result `json:"results"`
}

type result struct {
	Attempt string      `json:"attempt"`
	From    *string     `json:"from,omitempty"`
	Error   *batchError `json:"error,omitempty"`
}

type batchError struct {
	Type     string    `json:"type"`
	Message  string    `json:"message"`
	Terminal *terminal `json:"terminal,omitempty"`
}

type terminal struct {
	Index   *int   `json:"index,omitempty"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Start serves the functions on the Lambda Runtime API. It does not return.
func (f *Functions) Start() { lambda.Start(f) }

// Invoke answers a bundle: the payload of a Lambda request.
func (f *Functions) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	request, err := readBundle(payload)
	if err != nil {
		return nil, err
	}
	ctx, cancel := cutoff(ctx)
	defer cancel()
	results := make([]result, len(request.Batches))
	left := decompressedBytesMax
	var done sync.WaitGroup
	for i, batch := range request.Batches {
		results[i].Attempt = *batch.Attempt
		to, failure := unpack(batch, left)
		if failure != nil {
			results[i].Error = failure
			continue
		}
		left -= len(to)
		done.Add(1)
		go func(result *result) {
			defer done.Done()
			from, failure := f.answer(ctx, to)
			if failure != nil {
				log.Printf("batch failed: %s: %s", failure.Type, failure.Message)
				result.Error = failure
				return
			}
			packed := base64.StdEncoding.EncodeToString(from)
			result.From = &packed
		}(&results[i])
	}
	done.Wait()
	answer := response{version, *request.Name, "identity", results}
	fit(&answer, responseBytesMax)
	return json.Marshal(answer)
}

func readBundle(payload []byte) (*bundle, error) {
	var known struct {
		Version *int `json:"satchel"`
	}
	if err := json.Unmarshal(payload, &known); err != nil {
		return nil, invalidRequest("the payload is not a bundle: " + err.Error())
	}
	if known.Version == nil {
		return nil, invalidRequest("the request is neither a bundle (it has no field `satchel`) " +
			"nor an HTTP request")
	}
	if *known.Version != version {
		return nil, invalidRequest(fmt.Sprintf(
			"the bundle has version %d, this side understands version %d", *known.Version, version))
	}
	request := &bundle{Encoding: "identity"}
	if err := json.Unmarshal(payload, request); err != nil {
		return nil, invalidRequest("the payload is not a bundle: " + err.Error())
	}
	if request.Name == nil || request.Batches == nil {
		return nil, invalidRequest("the payload is not a bundle: it has no `bundle` or `batches`")
	}
	if request.Encoding != "identity" {
		return nil, invalidRequest("the payload is not a bundle: the encoding `" +
			request.Encoding + "` is unknown")
	}
	for _, batch := range request.Batches {
		if batch.Attempt == nil || batch.To == nil {
			return nil, invalidRequest("the payload is not a bundle: a batch has `attempt` and `to`")
		}
	}
	return request, nil
}

// invalidRequest is an error whose type the coordinator knows.
func invalidRequest(why string) error {
	return messages.InvokeResponse_Error{Type: "invalid_request", Message: why}
}

func unpack(batch batch, left int) ([]byte, *batchError) {
	invalid := func(why string) *batchError {
		return newBatchError("invalid_request", fmt.Sprintf("attempt %s: %s", *batch.Attempt, why))
	}
	to, err := base64.StdEncoding.Strict().DecodeString(*batch.To)
	if err != nil || strings.ContainsAny(*batch.To, "\r\n") {
		return nil, invalid("the payload is not base64")
	}
	if len(to) > left {
		return nil, invalid(fmt.Sprintf("the parts of a bundle may have %d bytes in all, "+
			"decompressed, and this one exceeds what is left", decompressedBytesMax))
	}
	return to, nil
}

// fit replaces the largest results by errors until the response has at most bytesMax as JSON. Most
// results get through, and a result that is too large by itself displaces no other.
func fit(response *response, bytesMax int) {
	around := *response
	around.Results = []result{}
	total := jsonBytes(around)
	sizes := make([]int, len(response.Results))
	largestFirst := make([]int, len(response.Results))
	for i, result := range response.Results {
		sizes[i], largestFirst[i] = jsonBytes(result), i
		// Each result counts with the comma after it.
		total += sizes[i] + 1
	}
	sort.SliceStable(largestFirst, func(a, b int) bool {
		return sizes[largestFirst[a]] > sizes[largestFirst[b]]
	})
	for _, largest := range largestFirst {
		if total <= bytesMax {
			return
		}
		replaced := result{Attempt: response.Results[largest].Attempt}
		replaced.Error = newBatchError("response_too_large", fmt.Sprintf(
			"the result has %d bytes; Lambda allows %d bytes for the results of all batches of "+
				"a request", sizes[largest], responseBytesMax))
		total += jsonBytes(replaced) - sizes[largest]
		response.Results[largest] = replaced
	}
}

func jsonBytes(value any) int {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return len(encoded)
}

func newBatchError(kind, message string) *batchError {
	return &batchError{Type: kind, Message: shortened(message)}
}

// shortened cuts an error text, so that it cannot displace the results beside it.
func shortened(text string) string {
	text = strings.ToValidUTF8(text, "�")
	if len(text) <= errorBytesMax {
		return text
	}
	return strings.ToValidUTF8(text[:errorBytesMax], "") + "…"
}
