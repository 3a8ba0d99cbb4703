// Package provider translates calls of language models between the gateway's form and that of each provider, and their answers back: whole ones,
// streams event by event, errors and usage. It opens no connection.
package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// Call is a request to a provider.
type Call struct {
	Path   string // below the provider's base, with its query
	Header http.Header
	Body   []byte
}

// Provider is a form that providers speak. Its methods may be called by many goroutines at once.
type Provider interface {
	// Call writes a call. key is the provider's; it goes into a header. The error, a *chat.Error, says what of the call the provider cannot do.
	Call(r *chat.Request, key string) (*Call, error)
	// Response reads a whole answer.
	Response(body []byte) (*chat.Response, error)
	// Stream reads the events of an answer that is streamed. Its Next returns io.EOF when the answer is complete, and another error when the stream
	// ends before.
	Stream(r io.Reader) Stream
	// Error reads what the provider says is wrong: body is what came with the status, at most some kilobytes of it.
	Error(status int, body []byte) *chat.Error
}

// Streamer is a provider whose streams are of another media type than text/event-stream.
type Streamer interface {
	StreamMedia() string
}

// Stream is an answer that comes in pieces.
type Stream interface {
	// Next returns the next piece; it is good until the next call.
	Next() (*chat.Chunk, error)
}

// Named returns the provider of a name, as configurations have it, and the base of its addresses. The error lists the names.
func Named(name string) (p Provider, base string, err error) {
	switch name {
	case "openai":
		return &OpenAI{}, "https://api.openai.com/v1", nil
	case "mistral":
		return &OpenAI{Mistral: true}, "https://api.mistral.ai/v1", nil
	case "anthropic":
		return &Anthropic{Now: time.Now}, "https://api.anthropic.com", nil
	case "gemini":
		return &Gemini{Now: time.Now}, "https://generativelanguage.googleapis.com", nil
	case "azure":
		return &OpenAI{Azure: true}, "", nil
	case "cohere": // by its API that is like OpenAI's (https://docs.cohere.com/docs/compatibility-api)
		return &OpenAI{Compatible: true}, "https://api.cohere.ai/compatibility/v1", nil
	case "compatible":
		return &OpenAI{Compatible: true}, "", nil
	case "gateway":
		return &OpenAI{}, "", nil
	case "ollama":
		return Ollama{}, "", nil
	}
	return nil, "", fmt.Errorf("provider %.40q: want openai, anthropic, gemini, mistral, cohere, azure, ollama, compatible, or gateway for cloud-proxy", name)
}

// unable is the error of a call that the provider cannot do.
func unable(param, format string, args ...any) error {
	return &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Param: param, Message: fmt.Sprintf(format, args...)}
}

// errAnswer says that an answer is not understood.
var errAnswer = errors.New("the provider's answer is not understood")

// answer reads an answer in JSON.
func answer(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// maxWords is how much of a provider's words is passed on, in bytes.
const maxWords = 1000

// words shortens what a provider says.
func words(s string) string { return plain.Clip(s, maxWords) }

// failure is an error with the provider's words, or with the status alone.
func failure(status int, message, kind, code string) *chat.Error {
	if message == "" {
		message = "the provider answers " + http.StatusText(status)
	}
	if kind == "" {
		kind = chat.TypeOf(status)
	}
	return &chat.Error{Status: status, Message: words(message), Type: kind, Code: code}
}

// dataURL takes a data: URL apart; ok is false for another address.
func dataURL(s string) (media, base64 string, ok bool) {
	rest, ok := strings.CutPrefix(s, "data:")
	if !ok {
		return "", "", false
	}
	media, base64, ok = strings.Cut(rest, ";base64,")
	return media, base64, ok && media != ""
}

// object is JSON made in place.
type object = map[string]any

// header is what every call has.
func header(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// finish is a reason as chunks have it.
func finish(reason string) *string { return &reason }

// dropped are OpenAI's options that change nothing of an answer where they are left out.
var dropped = []string{"metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier", "verbosity", "user"}

// unmet are OpenAI's options that a caller relies on, by the value that asks for nothing ("" for none).
var unmet = map[string]string{
	"n": "1", "logprobs": "false", "top_logprobs": "0", "logit_bias": "{}", "presence_penalty": "0", "frequency_penalty": "0", "modalities": `["text"]`,
	"audio": "", "prediction": "", "web_search_options": "", "functions": "[]", "function_call": "", "reasoning_effort": "",
}

// extras writes what the gateway has no field for into the call of a provider whose form is another: OpenAI's options are left out or refused, and
// whatever else there is goes on as it is, since the caller may mean just this provider.
func extras(r *chat.Request, body object) error {
	for name, value := range r.Extra {
		if nothing, ok := unmet[name]; ok {
			if v := string(value); v != "null" && v != nothing {
				return unable(name, "%s: this provider cannot do that", name)
			}
			continue
		}
		if slices.Contains(dropped, name) {
			continue
		}
		if _, taken := body[name]; taken {
			return unable(name, "%.80s: the gateway writes this itself for this provider", name)
		}
		body[name] = value
	}
	return nil
}
