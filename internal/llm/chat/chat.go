// Package chat is the form in which the model gateway has calls of language models and their answers: that of OpenAI's chat completions
// (https://platform.openai.com/docs/api-reference/chat, as of November 2026), which callers speak and providers are translated to and from.
package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The bounds of a call.
const (
	MaxMessages = 10_000
	MaxTools    = 512
	MaxParts    = 1000 // of one message
)

// Roles of messages.
const (
	RoleSystem    = "system"
	RoleDeveloper = "developer" // a system message of OpenAI's newer models
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// Request is a call.
type Request struct {
	Model             string          `json:"model"`
	Messages          []Message       `json:"messages"`
	Tools             []Tool          `json:"tools,omitempty"`
	ToolChoice        *ToolChoice     `json:"tool_choice,omitempty"`
	ParallelToolCalls *bool           `json:"parallel_tool_calls,omitempty"`
	ResponseFormat    *ResponseFormat `json:"response_format,omitempty"`
	MaxTokens         int             `json:"max_completion_tokens,omitempty"` // 0: not said. The older max_tokens is read as well.
	Temperature       *float64        `json:"temperature,omitempty"`
	TopP              *float64        `json:"top_p,omitempty"`
	Stop              Strings         `json:"stop,omitempty"`
	Seed              *int64          `json:"seed,omitempty"`
	User              string          `json:"user,omitempty"`
	Stream            bool            `json:"stream,omitempty"`
	StreamOptions     *StreamOptions  `json:"stream_options,omitempty"`

	// Extra has the fields that are none of these, by name.
	Extra map[string]json.RawMessage `json:"-"`
	// Raw is what ParseRequest read; nil where the call was made otherwise. Who changes the call sets it to nil, but for Model and Stream, which
	// providers look at by themselves.
	Raw []byte `json:"-"`

	rawModel string // of Raw
	rawBound string // of Raw: the name of the answer's bound, "" without one
}

// AsRead reports whether Raw says what the call is, with that name of the answer's bound if it has one.
func (r *Request) AsRead(bound string) bool {
	return r.Raw != nil && r.Model == r.rawModel && (r.rawBound == "" || r.rawBound == bound)
}

// StreamOptions say what a stream has beside the answer.
type StreamOptions struct {
	IncludeUsage bool `json:"include_usage,omitempty"` // a last chunk with the usage
}

// Message is one of a conversation.
type Message struct {
	Role       string     `json:"role"`
	Content    Content    `json:"content,omitzero"`
	Refusal    string     `json:"refusal,omitempty"`
	Name       string     `json:"name,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"` // of the call that a tool's message answers
}

// Content is what a message says: parts, which are text for the most.
type Content []Part

// IsZero reports whether there is none.
func (c Content) IsZero() bool { return len(c) == 0 }

// Part is a piece of a message: text, or an image of a user's.
type Part struct {
	Type     string    `json:"type"` // "text", "image_url"; "refusal" in what an assistant said
	Text     string    `json:"text,omitempty"`
	Refusal  string    `json:"refusal,omitempty"`
	ImageURL *ImageURL `json:"image_url,omitempty"`
}

// ImageURL is where an image is: an address, or a data: URL with it.
type ImageURL struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"`
}

// Text is a content of one text; "" is none.
func Text(s string) Content {
	if s == "" {
		return nil
	}
	return Content{{Type: "text", Text: s}}
}

// Text returns the text of the content; of parts, one after the other.
func (c Content) Text() string {
	if len(c) == 1 {
		return c[0].Text
	}
	var b strings.Builder
	for i := range c {
		b.WriteString(c[i].Text)
	}
	return b.String()
}

// UnmarshalJSON reads a string, null, or parts.
func (c *Content) UnmarshalJSON(b []byte) error {
	*c = nil
	switch b[0] {
	case 'n':
		return nil
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*c = Content{{Type: "text", Text: s}}
		return nil
	}
	var parts []Part
	if err := json.Unmarshal(b, &parts); err != nil {
		return errors.New("content: want a text or a list of parts")
	}
	if len(parts) > MaxParts {
		return fmt.Errorf("content: %d parts: want at most %d", len(parts), MaxParts)
	}
	for i := range parts {
		switch p := &parts[i]; {
		case p.Type == "text" && p.ImageURL == nil:
		case p.Type == "refusal":
		case p.Type == "image_url" && p.ImageURL != nil && p.ImageURL.URL != "":
		default:
			return fmt.Errorf("content: part %d of type %.40q is not known here: want text or image_url", i, p.Type)
		}
	}
	*c = parts
	return nil
}

// MarshalJSON writes one text as a string, and anything else as parts.
func (c Content) MarshalJSON() ([]byte, error) {
	if len(c) == 1 && c[0].Type == "text" {
		return json.Marshal(c[0].Text)
	}
	return json.Marshal([]Part(c))
}

// Tool is a function that the model may call.
type Tool struct {
	Type     string   `json:"type"` // "function"
	Function Function `json:"function"`
}

// Function describes a function: its parameters are a JSON Schema.
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

// ToolCall is a call of a function by the model.
type ToolCall struct {
	Index    *int         `json:"index,omitempty"` // in a stream: which call a piece belongs to
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"` // "function"
	Function FunctionCall `json:"function"`
}

// FunctionCall is the function with its arguments, which are JSON as a text; in a stream a piece of it.
type FunctionCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// ToolChoice says whether and what the model is to call: Mode is "auto", "none" or "required"; with a Function that one is.
type ToolChoice struct {
	Mode     string
	Function string
}

// UnmarshalJSON reads a mode or {"type":"function","function":{"name":…}}.
func (c *ToolChoice) UnmarshalJSON(b []byte) error {
	var mode string
	if json.Unmarshal(b, &mode) == nil {
		if mode != "auto" && mode != "none" && mode != "required" {
			return fmt.Errorf("tool_choice: %.40q: want auto, none, required or a function", mode)
		}
		*c = ToolChoice{Mode: mode}
		return nil
	}
	var one struct {
		Type     string
		Function struct{ Name string }
	}
	if err := json.Unmarshal(b, &one); err != nil || one.Type != "function" || one.Function.Name == "" {
		return errors.New(`tool_choice: want auto, none, required or {"type":"function","function":{"name":…}}`)
	}
	*c = ToolChoice{Function: one.Function.Name}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (c ToolChoice) MarshalJSON() ([]byte, error) {
	if c.Function == "" {
		return json.Marshal(c.Mode)
	}
	return json.Marshal(map[string]any{"type": "function", "function": map[string]string{"name": c.Function}})
}

// ResponseFormat says in what form the answer is to be.
type ResponseFormat struct {
	Type       string      `json:"type"` // "text", "json_object", "json_schema"
	JSONSchema *JSONSchema `json:"json_schema,omitempty"`
}

// JSONSchema is a schema that the answer is to keep.
type JSONSchema struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

// Strings is a text or a list of them.
type Strings []string

// UnmarshalJSON reads a text, null, or a list of texts.
func (s *Strings) UnmarshalJSON(b []byte) error {
	*s = nil
	if b[0] == '"' {
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*s = Strings{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// ParseRequest reads a call and checks it, as far as every provider would. Errors say what the caller has to change.
func ParseRequest(b []byte) (*Request, error) {
	var r Request
	var older struct {
		MaxTokens int `json:"max_tokens"`
	}
	var all map[string]json.RawMessage
	for _, into := range []any{&r, &older, &all} {
		if err := json.Unmarshal(b, into); err != nil {
			return nil, reason(err)
		}
	}
	if r.MaxTokens == 0 {
		r.MaxTokens = older.MaxTokens
	}
	r.rawModel = r.Model
	switch _, both := all["max_tokens"]; {
	case both && all["max_completion_tokens"] != nil:
		r.rawBound = "both"
	case both:
		r.rawBound = "max_tokens"
	case all["max_completion_tokens"] != nil:
		r.rawBound = "max_completion_tokens"
	}
	for name := range all {
		if slices.Contains(known, name) {
			delete(all, name)
		}
	}
	if len(all) > 0 {
		r.Extra = all
	}
	r.Raw = b
	return &r, r.check()
}

// known are the fields of a Request.
var known = []string{
	"model", "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "max_completion_tokens", "max_tokens", "temperature", "top_p", "stop",
	"seed", "user", "stream", "stream_options",
}

// reason makes an error of encoding/json one for who wrote the JSON.
func reason(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s: a JSON %s cannot be there", kind.Field, kind.Value)
	}
	return err
}

func (r *Request) check() error {
	switch {
	case r.Model == "":
		return errors.New("model: want the name of one")
	case len(r.Messages) == 0:
		return errors.New("messages: want one at least")
	case len(r.Messages) > MaxMessages:
		return fmt.Errorf("messages: %d: want at most %d", len(r.Messages), MaxMessages)
	case len(r.Tools) > MaxTools:
		return fmt.Errorf("tools: %d: want at most %d", len(r.Tools), MaxTools)
	case r.MaxTokens < 0:
		return fmt.Errorf("max_completion_tokens: %d: want a number from 1", r.MaxTokens)
	case r.Temperature != nil && (*r.Temperature < 0 || *r.Temperature > 2):
		return fmt.Errorf("temperature: %v: want 0 to 2", *r.Temperature)
	case r.TopP != nil && (*r.TopP < 0 || *r.TopP > 1):
		return fmt.Errorf("top_p: %v: want 0 to 1", *r.TopP)
	case len(r.Stop) > 16:
		return fmt.Errorf("stop: %d texts: want at most 16", len(r.Stop))
	}
	for i := range r.Messages {
		if err := r.Messages[i].check(); err != nil {
			return fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	names := map[string]bool{}
	for i := range r.Tools {
		t := &r.Tools[i]
		switch {
		case t.Type != "function":
			return fmt.Errorf("tools[%d]: type %.40q: want function", i, t.Type)
		case t.Function.Name == "" || names[t.Function.Name]:
			return fmt.Errorf("tools[%d]: name %.80q: want one that no other has", i, t.Function.Name)
		case len(t.Function.Parameters) > 0 && bytes.TrimSpace(t.Function.Parameters)[0] != '{':
			return fmt.Errorf("tools[%d]: parameters: want a JSON Schema", i)
		}
		names[t.Function.Name] = true
	}
	if c := r.ToolChoice; c != nil && (c.Function != "" && !names[c.Function] || c.Mode == "required" && len(names) == 0) {
		return errors.New("tool_choice: there is no such tool")
	}
	if f := r.ResponseFormat; f != nil {
		switch {
		case f.Type == "text" || f.Type == "json_object":
		case f.Type == "json_schema" && f.JSONSchema != nil && f.JSONSchema.Name != "":
		default:
			return fmt.Errorf("response_format: type %.40q: want text, json_object, or json_schema with a named schema", f.Type)
		}
	}
	return nil
}

func (m *Message) check() error {
	for i := range m.Content {
		if m.Content[i].Type == "image_url" && m.Role != RoleUser {
			return errors.New("only a user's message can have images")
		}
	}
	switch m.Role {
	case RoleSystem, RoleDeveloper, RoleUser:
		if len(m.Content) == 0 && m.Role == RoleUser {
			return errors.New("content: want some")
		}
	case RoleAssistant:
		for i := range m.ToolCalls {
			c := &m.ToolCalls[i]
			if c.ID == "" || c.Function.Name == "" || !json.Valid([]byte(c.Function.Arguments)) {
				return fmt.Errorf("tool_calls[%d]: want an id, a name, and arguments in JSON", i)
			}
		}
	case RoleTool:
		if m.ToolCallID == "" {
			return errors.New("tool_call_id: want that of the call that is answered")
		}
	default:
		return fmt.Errorf("role %.40q: want system, developer, user, assistant or tool", m.Role)
	}
	return nil
}

// Finish reasons.
const (
	FinishStop      = "stop"
	FinishLength    = "length"
	FinishToolCalls = "tool_calls"
	FinishFilter    = "content_filter"
)

// Response is a whole answer.
type Response struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`  // "chat.completion"
	Created int64    `json:"created"` // Unix seconds
	Model   string   `json:"model"`
	Choices []Choice `json:"choices"`
	Usage   *Usage   `json:"usage,omitempty"`

	// Raw is the answer as the provider wrote it, where that has this form already: it may say more than the fields do. nil otherwise.
	Raw []byte `json:"-"`
}

// Choice is one answer of several.
type Choice struct {
	Index        int     `json:"index"`
	Message      Message `json:"message"`
	FinishReason string  `json:"finish_reason"`
}

// Usage is how many tokens a call took.
type Usage struct {
	PromptTokens     int            `json:"prompt_tokens"`
	CompletionTokens int            `json:"completion_tokens"`
	TotalTokens      int            `json:"total_tokens"`
	PromptDetails    *PromptDetails `json:"prompt_tokens_details,omitempty"`
	OutputDetails    *OutputDetails `json:"completion_tokens_details,omitempty"`
}

// Answer is how many tokens the answer took, those of reasoning included: some providers tell of them in the total alone.
func (u *Usage) Answer() int {
	return max(u.CompletionTokens, u.TotalTokens-max(u.PromptTokens, 0), 0)
}

// PromptDetails tell of the prompt's tokens.
type PromptDetails struct {
	CachedTokens int `json:"cached_tokens"` // that the provider had in its cache
}

// OutputDetails tell of the answer's tokens.
type OutputDetails struct {
	ReasoningTokens int `json:"reasoning_tokens"` // that nobody gets to see
}

// Chunk is a piece of a stream.
type Chunk struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"` // "chat.completion.chunk"
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []ChunkChoice `json:"choices"`
	Usage   *Usage        `json:"usage,omitempty"` // of the last piece, which has no choices

	// Raw is the piece as the provider wrote it, where that has this form already; nil otherwise. It is good as long as the piece is.
	Raw []byte `json:"-"`
}

// ChunkChoice is what a piece adds to an answer.
type ChunkChoice struct {
	Index        int     `json:"index"`
	Delta        Delta   `json:"delta"`
	FinishReason *string `json:"finish_reason"` // null until the last piece of the answer
}

// Delta is what is added to the message.
type Delta struct {
	Role      string     `json:"role,omitempty"`
	Content   string     `json:"content,omitempty"`
	Refusal   string     `json:"refusal,omitempty"`
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
}

// Objects of answers.
const (
	ObjectResponse = "chat.completion"
	ObjectChunk    = "chat.completion.chunk"
)

// Error is what a provider says is wrong, as a caller gets it.
type Error struct {
	Status  int    `json:"-"` // HTTP's
	Message string `json:"message"`
	Type    string `json:"type"`
	Param   string `json:"param,omitempty"`
	Code    string `json:"code,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Type, e.Message) }

// Types of errors, as OpenAI has them.
const (
	ErrorInvalid    = "invalid_request_error"
	ErrorKey        = "authentication_error"
	ErrorPermission = "permission_error"
	ErrorMissing    = "not_found_error"
	ErrorRate       = "rate_limit_error"
	ErrorServer     = "server_error"
)

// TypeOf is the type of error that a status stands for.
func TypeOf(status int) string {
	switch {
	case status == 401:
		return ErrorKey
	case status == 403:
		return ErrorPermission
	case status == 404:
		return ErrorMissing
	case status == 429:
		return ErrorRate
	case status < 500:
		return ErrorInvalid
	}
	return ErrorServer
}
