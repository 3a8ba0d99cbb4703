// Package llmtest has servers that answer as providers of language models do, by their public references, and that fail as those do.
package llmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is how a Fake fails, once.
type Fault struct {
	Status     int               // with an error as the provider writes it; 0: not
	Header     map[string]string // of the answer
	Wait       time.Duration     // before the answer begins
	Cut        int               // events of a stream after which the connection breaks; 0: not
	Raw        string            // sent instead of an answer; of a stream after its first event
	Media      string            // Content-Type instead of the right one
	Huge       int               // bytes of an answer's text
	HoldEvents chan struct{}     // of a stream: after the first event it waits for one of these before each
	InStream   bool              // the error comes within the stream, as its first event
	NoUsage    bool
}

// Call is what a Fake was asked.
type Call struct {
	Path   string
	Key    string // what the caller proved itself with
	Header http.Header
	Body   map[string]any
	Raw    []byte
}

// Fake is a provider.
type Fake struct {
	*httptest.Server
	Kind string // openai, azure, mistral, cohere, anthropic, gemini, ollama or compatible

	mu     sync.Mutex
	faults []Fault
	calls  []Call
	answer func(Call) string
}

// New starts a provider of a kind, which answers "It is " and the length of what was asked, in words.
func New(t testing.TB, kind string) *Fake {
	f := &Fake{Kind: kind}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

// Answers has the fake say what fn returns.
func (f *Fake) Answers(fn func(Call) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = fn
}

// Base is the base of the API, as the configuration has it.
func (f *Fake) Base() string {
	if f.Kind == "anthropic" || f.Kind == "gemini" || f.Kind == "ollama" {
		return f.URL
	}
	return f.URL + "/v1"
}

// Fail has the next calls fail, one after the other.
func (f *Fake) Fail(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

// Calls is what was asked so far.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Tokens that every answer takes.
const (
	PromptTokens     = 21
	CompletionTokens = 7
)

func (f *Fake) serve(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c := Call{Path: q.URL.RequestURI(), Header: q.Header.Clone(), Raw: body}
	switch f.Kind {
	case "anthropic":
		c.Key = q.Header.Get("X-Api-Key")
	case "gemini":
		c.Key = q.Header.Get("X-Goog-Api-Key")
	case "azure":
		c.Key = q.Header.Get("Api-Key")
	default:
		c.Key = strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")
	}
	var fault Fault
	f.mu.Lock()
	if len(f.faults) > 0 {
		fault, f.faults = f.faults[0], f.faults[1:]
	}
	answer := f.answer
	bad := json.Unmarshal(body, &c.Body)
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	if bad != nil {
		f.fail(w, http.StatusBadRequest, "the body is no JSON")
		return
	}
	if fault.Wait > 0 {
		select {
		case <-time.After(fault.Wait):
		case <-q.Context().Done():
			return
		}
	}
	for k, v := range fault.Header {
		w.Header().Set(k, v)
	}
	if fault.Status != 0 && !fault.InStream {
		f.fail(w, fault.Status, fmt.Sprintf("a fault of status %d; your key is %s", fault.Status, c.Key))
		return
	}
	text := fmt.Sprintf("It is %d words.", len(strings.Fields(string(body))))
	if answer != nil {
		text = answer(c)
	}
	if fault.Huge > 0 {
		text = strings.Repeat("x", fault.Huge)
	}
	if strings.HasSuffix(q.URL.Path, "/embeddings") || strings.HasSuffix(q.URL.Path, ":batchEmbedContents") || q.URL.Path == "/api/embed" {
		f.embed(w, &c)
		return
	}
	stream, problem := f.check(&c, q)
	if problem != "" {
		f.fail(w, http.StatusBadRequest, problem)
		return
	}
	tool := f.wantsTool(&c)
	if !stream {
		media := "application/json"
		if fault.Media != "" {
			media = fault.Media
		}
		w.Header().Set("Content-Type", media)
		if fault.Raw != "" {
			_, _ = io.WriteString(w, fault.Raw)
			return
		}
		_ = json.NewEncoder(w).Encode(f.whole(text, tool, fault.NoUsage))
		return
	}
	media := "text/event-stream"
	if f.Kind == "ollama" {
		media = "application/x-ndjson"
	}
	if fault.Media != "" {
		media = fault.Media
	}
	w.Header().Set("Content-Type", media)
	control := http.NewResponseController(w)
	events := f.events(text, tool, fault.NoUsage)
	if fault.InStream {
		events = []string{f.streamError(fault.Status)}
	}
	for i, e := range events {
		if fault.Cut > 0 && i == fault.Cut {
			panic(http.ErrAbortHandler)
		}
		if fault.Raw != "" && i == 1 {
			_, _ = io.WriteString(w, fault.Raw)
			return
		}
		if fault.HoldEvents != nil && i > 0 {
			select {
			case <-fault.HoldEvents:
			case <-q.Context().Done():
				return
			}
		}
		if _, err := io.WriteString(w, e); err != nil {
			return
		}
		if control.Flush() != nil {
			return
		}
	}
}

type object = map[string]any

// check is what a provider asks of a call.
func (f *Fake) check(c *Call, q *http.Request) (stream bool, problem string) {
	has := func(name string) bool { return c.Body[name] != nil }
	if c.Key == "" && f.Kind != "compatible" && f.Kind != "ollama" {
		return false, "no key"
	}
	switch f.Kind {
	case "anthropic":
		switch {
		case q.URL.Path != "/v1/messages":
			return false, "no such path"
		case q.Header.Get("Anthropic-Version") == "":
			return false, "anthropic-version: header is required"
		case !has("model") || !has("messages") || !has("max_tokens"):
			return false, "model, messages and max_tokens are required"
		}
		stream, _ = c.Body["stream"].(bool)
	case "gemini":
		stream = strings.HasSuffix(q.URL.Path, ":streamGenerateContent")
		switch {
		case !strings.HasPrefix(q.URL.Path, "/v1beta/models/") || !stream && !strings.HasSuffix(q.URL.Path, ":generateContent"):
			return false, "no such path"
		case stream && q.URL.Query().Get("alt") != "sse":
			return false, "want alt=sse"
		case !has("contents") || has("model") || has("stream"):
			return false, "contents is required, and nothing that is not known"
		}
	case "ollama":
		if q.URL.Path != "/api/chat" || !has("model") || !has("messages") {
			return false, "no such path, or model and messages are missing"
		}
		stream = true // unless it is said otherwise
		if v, ok := c.Body["stream"].(bool); ok {
			stream = v
		}
	default:
		switch {
		case q.URL.Path != "/v1/chat/completions":
			return false, "no such path"
		case !has("model") || !has("messages"):
			return false, "model and messages are required"
		case f.Kind == "mistral" && (has("max_completion_tokens") || has("stream_options") || has("seed")):
			return false, "extra fields are not permitted"
		case (f.Kind == "openai" || f.Kind == "azure") && has("max_tokens"):
			return false, "max_tokens is not supported with this model"
		}
		stream, _ = c.Body["stream"].(bool)
	}
	return stream, ""
}

// wantsTool reports whether the call has tools and nothing yet of what they say; it is the name of the first.
func (f *Fake) wantsTool(c *Call) string {
	tools, _ := c.Body["tools"].([]any)
	if len(tools) == 0 || strings.Contains(string(c.Raw), `"tool_result"`) || strings.Contains(string(c.Raw), `"functionResponse"`) || strings.Contains(string(c.Raw), `"tool_call_id"`) || strings.Contains(string(c.Raw), `"tool_name"`) {
		return ""
	}
	first, _ := tools[0].(object)
	switch f.Kind {
	case "anthropic":
		name, _ := first["name"].(string)
		return name
	case "gemini":
		list, _ := first["functionDeclarations"].([]any)
		if len(list) > 0 {
			fn, _ := list[0].(object)
			name, _ := fn["name"].(string)
			return name
		}
		return ""
	}
	fn, _ := first["function"].(object)
	name, _ := fn["name"].(string)
	return name
}

const toolArguments = `{"place":"Rouen"}`

// argumentsOf are the arguments of a call: what the fake says, if that is JSON and the tool stands for the form of an answer.
func argumentsOf(tool, text string) string {
	if tool == "answer_in_json" && json.Valid([]byte(text)) {
		return text
	}
	return toolArguments
}

func (f *Fake) whole(text, tool string, noUsage bool) any {
	args := json.RawMessage(argumentsOf(tool, text))
	switch f.Kind {
	case "anthropic":
		content, reason := []object{{"type": "text", "text": text}}, "end_turn"
		if tool != "" {
			content, reason = []object{{"type": "tool_use", "id": "toolu_1", "name": tool, "input": args}}, "tool_use"
		}
		return object{
			"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": content, "stop_reason": reason, "stop_sequence": nil,
			"usage": object{"input_tokens": PromptTokens, "output_tokens": CompletionTokens},
		}
	case "gemini":
		part := object{"text": text}
		if tool != "" {
			part = object{"functionCall": object{"name": tool, "args": args}}
		}
		return object{
			"candidates":    []object{{"content": object{"role": "model", "parts": []object{part}}, "finishReason": "STOP", "index": 0}},
			"usageMetadata": object{"promptTokenCount": PromptTokens, "candidatesTokenCount": CompletionTokens, "totalTokenCount": PromptTokens + CompletionTokens},
			"modelVersion":  "gemini-test", "responseId": "r1",
		}
	}
	if f.Kind == "ollama" {
		message := object{"role": "assistant", "content": text}
		if tool != "" {
			message = object{"role": "assistant", "content": "", "tool_calls": []object{{"function": object{"name": tool, "arguments": args}}}}
		}
		return object{
			"model": "llama-test", "created_at": "2026-11-28T07:00:00.123456Z", "message": message, "done": true, "done_reason": "stop",
			"prompt_eval_count": PromptTokens, "eval_count": CompletionTokens, "total_duration": 1000,
		}
	}
	message, reason := object{"role": "assistant", "content": text}, "stop"
	if tool != "" {
		message, reason = object{"role": "assistant", "content": nil, "tool_calls": []object{{"id": "call_1", "type": "function", "function": object{"name": tool, "arguments": toolArguments}}}}, "tool_calls"
	}
	out := object{
		"id": "chatcmpl-1", "object": "chat.completion", "created": 1790000000, "model": "model-test", "system_fingerprint": "fp_1",
		"choices": []object{{"index": 0, "message": message, "finish_reason": reason, "logprobs": nil}}, "usage": usage(),
	}
	if noUsage {
		delete(out, "usage")
	}
	return out
}

func usage() object {
	return object{"prompt_tokens": PromptTokens, "completion_tokens": CompletionTokens, "total_tokens": PromptTokens + CompletionTokens}
}

// events is an answer in pieces.
func (f *Fake) events(text, tool string, noUsage bool) []string {
	var list []string
	add := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		e := "data: " + string(b) + "\n\n"
		if name != "" {
			e = "event: " + name + "\n" + e
		}
		list = append(list, e)
	}
	words := strings.SplitAfter(text, " ")
	arguments := argumentsOf(tool, text)
	pieces := []string{arguments[:6], arguments[6:]}
	switch f.Kind {
	case "anthropic":
		add("message_start", object{"type": "message_start", "message": object{
			"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": []any{}, "stop_reason": nil,
			"usage": object{"input_tokens": PromptTokens, "output_tokens": 1},
		}})
		block, reason := object{"type": "text", "text": ""}, "end_turn"
		if tool != "" {
			block, reason = object{"type": "tool_use", "id": "toolu_1", "name": tool, "input": object{}}, "tool_use"
		}
		add("content_block_start", object{"type": "content_block_start", "index": 0, "content_block": block})
		add("ping", object{"type": "ping"})
		if tool != "" {
			for _, p := range pieces {
				add("content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "input_json_delta", "partial_json": p}})
			}
		} else {
			for _, p := range words {
				add("content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": p}})
			}
		}
		add("content_block_stop", object{"type": "content_block_stop", "index": 0})
		add("message_delta", object{"type": "message_delta", "delta": object{"stop_reason": reason, "stop_sequence": nil}, "usage": object{"output_tokens": CompletionTokens}})
		add("message_stop", object{"type": "message_stop"})
		return list
	case "gemini":
		piece := func(part object, reason string) {
			c := object{"content": object{"role": "model", "parts": []object{part}}, "index": 0}
			out := object{"candidates": []object{c}, "modelVersion": "gemini-test", "responseId": "r1"}
			if reason != "" {
				c["finishReason"] = reason
				out["usageMetadata"] = object{"promptTokenCount": PromptTokens, "candidatesTokenCount": CompletionTokens}
			}
			add("", out)
		}
		if tool != "" {
			piece(object{"functionCall": object{"name": tool, "args": json.RawMessage(arguments)}}, "STOP")
			return list
		}
		for i, p := range words {
			reason := ""
			if i == len(words)-1 {
				reason = "STOP"
			}
			piece(object{"text": p}, reason)
		}
		return list
	}
	if f.Kind == "ollama" {
		line := func(message object, done bool) {
			v := object{"model": "llama-test", "created_at": "2026-11-28T07:00:00.123456Z", "message": message, "done": done}
			if done {
				v["done_reason"], v["prompt_eval_count"], v["eval_count"] = "stop", PromptTokens, CompletionTokens
			}
			b, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			list = append(list, string(b)+"\n")
		}
		if tool != "" {
			line(object{"role": "assistant", "content": "", "tool_calls": []object{{"function": object{"name": tool, "arguments": json.RawMessage(arguments)}}}}, false)
		} else {
			for _, w := range words {
				line(object{"role": "assistant", "content": w}, false)
			}
		}
		line(object{"role": "assistant", "content": ""}, true)
		return list
	}
	chunk := func(delta object, reason any) object {
		return object{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "model-test", "choices": []object{{"index": 0, "delta": delta, "finish_reason": reason}}}
	}
	add("", chunk(object{"role": "assistant", "content": ""}, nil))
	reason := "stop"
	if tool != "" {
		reason = "tool_calls"
		add("", chunk(object{"tool_calls": []object{{"index": 0, "id": "call_1", "type": "function", "function": object{"name": tool, "arguments": ""}}}}, nil))
		for _, p := range pieces {
			add("", chunk(object{"tool_calls": []object{{"index": 0, "function": object{"arguments": p}}}}, nil))
		}
	} else {
		for _, p := range words {
			add("", chunk(object{"content": p}, nil))
		}
	}
	last := chunk(object{}, reason)
	if f.Kind == "mistral" && !noUsage {
		last["usage"] = usage()
	}
	add("", last)
	if f.Kind != "mistral" && !noUsage {
		add("", object{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "model-test", "choices": []any{}, "usage": usage()})
	}
	return append(list, "data: [DONE]\n\n")
}

// fail writes an error as the provider does.
func (f *Fake) fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(f.errorBody(status, message))
}

func (f *Fake) errorBody(status int, message string) any {
	kind := "invalid_request_error"
	switch {
	case status == 429:
		kind = "rate_limit_error"
	case status >= 500:
		kind = "api_error"
	}
	switch f.Kind {
	case "ollama":
		return object{"error": message}
	case "anthropic":
		return object{"type": "error", "error": object{"type": kind, "message": message}}
	case "gemini":
		return object{"error": object{"code": status, "message": message, "status": "INVALID_ARGUMENT"}}
	case "mistral":
		return object{"object": "error", "message": message, "type": kind, "param": nil, "code": nil}
	}
	return object{"error": object{"message": message, "type": kind, "param": nil, "code": nil}}
}

func (f *Fake) streamError(status int) string {
	b, err := json.Marshal(f.errorBody(status, "overloaded within the stream"))
	if err != nil {
		panic(err)
	}
	if f.Kind == "ollama" {
		return string(b) + "\n"
	}
	if f.Kind == "anthropic" {
		return "event: error\ndata: " + string(b) + "\n\n"
	}
	return "data: " + string(b) + "\n\n"
}

func (f *Fake) embed(w http.ResponseWriter, c *Call) {
	w.Header().Set("Content-Type", "application/json")
	if f.Kind == "gemini" {
		list, _ := c.Body["requests"].([]any)
		var out []object
		for i := range list {
			out = append(out, object{"values": []float64{float64(i), 0.5, -0.25}})
		}
		_ = json.NewEncoder(w).Encode(object{"embeddings": out})
		return
	}
	n := 1
	if list, ok := c.Body["input"].([]any); ok {
		n = len(list)
	}
	if f.Kind == "ollama" {
		out := [][]float64{}
		for i := range n {
			out = append(out, []float64{float64(i), 0.5, -0.25})
		}
		_ = json.NewEncoder(w).Encode(object{"model": c.Body["model"], "embeddings": out, "prompt_eval_count": PromptTokens})
		return
	}
	var data []object
	for i := range n {
		data = append(data, object{"object": "embedding", "index": i, "embedding": []float64{float64(i), 0.5, -0.25}})
	}
	_ = json.NewEncoder(w).Encode(object{"object": "list", "data": data, "model": c.Body["model"], "usage": object{"prompt_tokens": PromptTokens, "total_tokens": PromptTokens}})
}
