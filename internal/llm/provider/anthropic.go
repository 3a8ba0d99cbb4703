package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/sse"
)

// Anthropic speaks the Messages API (https://docs.anthropic.com/en/api/messages, version 2023-06-01).
type Anthropic struct {
	Now func() time.Time // answers do not tell when they were made
}

const (
	anthropicVersion = "2023-06-01"
	// anthropicTokens is asked for where the call does not say how long the answer may be: the API wants a number.
	anthropicTokens = 4096
)

// answerTool is the tool that the model is made to call so that its answer keeps a schema.
const answerTool = "answer_in_json"

type anthropicBlock struct {
	Type string `json:"type"`

	Text   string           `json:"text,omitempty"`
	Source *anthropicSource `json:"source,omitempty"`

	ID    string          `json:"id,omitempty"`
	Name  string          `json:"name,omitempty"`
	Input json.RawMessage `json:"input,omitempty"`

	ToolUseID string `json:"tool_use_id,omitempty"`
	Content   string `json:"content,omitempty"`
}

type anthropicSource struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
}

type anthropicMessage struct {
	Role    string           `json:"role"`
	Content []anthropicBlock `json:"content"`
}

// Call implements Provider.
func (a *Anthropic) Call(r *chat.Request, key string) (*Call, error) {
	body := object{"model": r.Model, "max_tokens": anthropicTokens}
	if r.MaxTokens > 0 {
		body["max_tokens"] = r.MaxTokens
	}
	system, messages, err := anthropicMessages(r.Messages)
	if err != nil {
		return nil, err
	}
	if system != "" {
		body["system"] = system
	}
	body["messages"] = messages
	if r.Temperature != nil {
		if *r.Temperature > 1 {
			return nil, unable("temperature", "temperature %v: this provider takes 0 to 1", *r.Temperature)
		}
		body["temperature"] = *r.Temperature
	}
	if r.TopP != nil {
		body["top_p"] = *r.TopP
	}
	if len(r.Stop) > 0 {
		body["stop_sequences"] = r.Stop
	}
	if r.User != "" {
		body["metadata"] = object{"user_id": r.User}
	}
	if r.Stream {
		body["stream"] = true
	}
	if err := anthropicTools(r, body); err != nil {
		return nil, err
	}
	if err := extras(r, body); err != nil {
		return nil, err
	}
	b, err := json.Marshal(body)
	return &Call{Path: "/v1/messages", Header: header("X-Api-Key", key, "Anthropic-Version", anthropicVersion), Body: b}, err
}

// anthropicMessages takes the system's messages out, and joins neighbours of one role: users' and assistants' take turns there, and what tools say
// is the user's.
func anthropicMessages(all []chat.Message) (system string, list []anthropicMessage, err error) {
	add := func(role string, blocks ...anthropicBlock) {
		if n := len(list); n > 0 && list[n-1].Role == role {
			list[n-1].Content = append(list[n-1].Content, blocks...)
		} else if len(blocks) > 0 {
			list = append(list, anthropicMessage{role, blocks})
		}
	}
	var said []string
	for i := range all {
		m := &all[i]
		switch m.Role {
		case chat.RoleSystem, chat.RoleDeveloper:
			said = append(said, m.Content.Text())
		case chat.RoleTool:
			add("user", anthropicBlock{Type: "tool_result", ToolUseID: m.ToolCallID, Content: m.Content.Text()})
		case chat.RoleUser:
			for j := range m.Content {
				block, err := anthropicPart(&m.Content[j])
				if err != nil {
					return "", nil, err
				}
				add("user", block)
			}
		case chat.RoleAssistant:
			if text := m.Content.Text(); text != "" {
				add("assistant", anthropicBlock{Type: "text", Text: text})
			}
			for j := range m.ToolCalls {
				c := &m.ToolCalls[j]
				add("assistant", anthropicBlock{Type: "tool_use", ID: c.ID, Name: c.Function.Name, Input: json.RawMessage(c.Function.Arguments)})
			}
		}
	}
	if len(list) == 0 {
		return "", nil, unable("messages", "this provider wants a message of the user's")
	}
	return strings.Join(said, "\n\n"), list, nil
}

func anthropicPart(p *chat.Part) (anthropicBlock, error) {
	if p.ImageURL == nil {
		return anthropicBlock{Type: "text", Text: p.Text}, nil
	}
	if media, data, ok := dataURL(p.ImageURL.URL); ok {
		return anthropicBlock{Type: "image", Source: &anthropicSource{Type: "base64", MediaType: media, Data: data}}, nil
	}
	if !strings.HasPrefix(p.ImageURL.URL, "https://") {
		return anthropicBlock{}, unable("messages", "an image is a data: URL in base64 or an https address")
	}
	return anthropicBlock{Type: "image", Source: &anthropicSource{Type: "url", URL: p.ImageURL.URL}}, nil
}

// anthropicTools adds the tools, and what the form of the answer asks for.
func anthropicTools(r *chat.Request, body object) error {
	var tools []object
	for i := range r.Tools {
		f := &r.Tools[i].Function
		tool := object{"name": f.Name, "input_schema": schemaOr(f.Parameters)}
		if f.Description != "" {
			tool["description"] = f.Description
		}
		tools = append(tools, tool)
	}
	choice := object(nil)
	if c := r.ToolChoice; c != nil {
		switch {
		case c.Function != "":
			choice = object{"type": "tool", "name": c.Function}
		case c.Mode == "required":
			choice = object{"type": "any"}
		default:
			choice = object{"type": c.Mode}
		}
	}
	if f := r.ResponseFormat; f != nil && f.Type != "text" {
		if len(tools) > 0 {
			return unable("response_format", "with tools this provider cannot be held to a form of its answer")
		}
		tool := object{"name": answerTool, "description": "Give the answer, as JSON.", "input_schema": schemaOr(nil)}
		if s := f.JSONSchema; s != nil {
			tool["input_schema"] = schemaOr(s.Schema)
			if s.Description != "" {
				tool["description"] = s.Description
			}
		}
		tools, choice = []object{tool}, object{"type": "tool", "name": answerTool}
	}
	if len(tools) == 0 {
		return nil
	}
	if r.ParallelToolCalls != nil && !*r.ParallelToolCalls {
		if choice == nil {
			choice = object{"type": "auto"}
		}
		if choice["type"] != "none" {
			choice["disable_parallel_tool_use"] = true
		}
	}
	body["tools"] = tools
	if choice != nil {
		body["tool_choice"] = choice
	}
	return nil
}

// schemaOr is a schema, or that of any object.
func schemaOr(schema json.RawMessage) any {
	if len(schema) == 0 {
		return object{"type": "object"}
	}
	return schema
}

type anthropicUsage struct {
	Input      int `json:"input_tokens"`
	CacheWrite int `json:"cache_creation_input_tokens"`
	CacheRead  int `json:"cache_read_input_tokens"`
	Output     int `json:"output_tokens"`
}

// usage is it as OpenAI has it, where the prompt's tokens include those of the cache.
func (u *anthropicUsage) usage() *chat.Usage {
	in := u.Input + u.CacheWrite + u.CacheRead
	out := &chat.Usage{PromptTokens: in, CompletionTokens: u.Output, TotalTokens: in + u.Output}
	if u.CacheRead > 0 {
		out.PromptDetails = &chat.PromptDetails{CachedTokens: u.CacheRead}
	}
	return out
}

type anthropicAnswer struct {
	ID         string           `json:"id"`
	Model      string           `json:"model"`
	Content    []anthropicBlock `json:"content"`
	StopReason string           `json:"stop_reason"`
	Usage      anthropicUsage   `json:"usage"`
}

// anthropicFinish translates why an answer ends.
func anthropicFinish(reason string) string {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return chat.FinishLength
	case "tool_use":
		return chat.FinishToolCalls
	case "refusal":
		return chat.FinishFilter
	}
	return chat.FinishStop
}

// Response implements Provider.
func (a *Anthropic) Response(body []byte) (*chat.Response, error) {
	var in anthropicAnswer
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if in.ID == "" || in.StopReason == "" {
		return nil, fmt.Errorf("%w: no id, or no stop_reason", errAnswer)
	}
	m, reason := chat.Message{Role: chat.RoleAssistant}, anthropicFinish(in.StopReason)
	var text strings.Builder
	for i := range in.Content {
		switch b := &in.Content[i]; {
		case b.Type == "text":
			text.WriteString(b.Text)
		case b.Type == "tool_use" && b.Name == answerTool:
			text.Write(b.Input)
			reason = chat.FinishStop
		case b.Type == "tool_use":
			m.ToolCalls = append(m.ToolCalls, chat.ToolCall{ID: b.ID, Type: "function", Function: chat.FunctionCall{Name: b.Name, Arguments: string(b.Input)}})
		}
	}
	m.Content = chat.Text(text.String())
	return &chat.Response{
		ID: in.ID, Object: chat.ObjectResponse, Created: a.Now().Unix(), Model: in.Model,
		Choices: []chat.Choice{{Message: m, FinishReason: reason}}, Usage: in.Usage.usage(),
	}, nil
}

// Error implements Provider.
func (a *Anthropic) Error(status int, body []byte) *chat.Error {
	var in struct {
		Error struct{ Type, Message string }
	}
	_ = json.Unmarshal(body, &in) // without words the status speaks
	if status == 529 {            // overloaded, a status of this provider's own
		status = http.StatusServiceUnavailable
	}
	return failure(status, in.Error.Message, "", in.Error.Type)
}

// Stream implements Provider.
func (a *Anthropic) Stream(r io.Reader) Stream {
	return &anthropicStream{in: sse.NewReader(r), calls: map[int]int{}, given: map[int]bool{}, now: a.Now, chunk: chat.Chunk{Object: chat.ObjectChunk}}
}

// anthropicStream makes chunks of events.
type anthropicStream struct {
	in    *sse.Reader
	now   func() time.Time
	chunk chat.Chunk
	usage anthropicUsage
	calls map[int]int  // which tool call a block is; -1: the answer in JSON
	given map[int]bool // blocks of which arguments have come
	ended bool         // message_delta has come
	told  bool         // the usage, too
}

type anthropicEvent struct {
	Type    string
	Index   int
	Message anthropicAnswer
	Block   anthropicBlock `json:"content_block"`
	Delta   struct {
		Type, Text  string
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	}
	Usage anthropicUsage
	Error struct{ Type, Message string }
}

// Next implements Stream.
func (s *anthropicStream) Next() (*chat.Chunk, error) {
	for {
		e, err := s.in.Next()
		if err != nil {
			if errors.Is(err, io.EOF) && !s.told {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		var in anthropicEvent
		if err := answer(e.Data, &in); err != nil {
			return nil, err
		}
		if c, err := s.take(&in); c != nil || err != nil {
			return c, err
		}
	}
}

// take returns the chunk that an event makes, nil if it makes none.
func (s *anthropicStream) take(in *anthropicEvent) (*chat.Chunk, error) {
	switch in.Type {
	case "message_start":
		s.chunk.ID, s.chunk.Model, s.chunk.Created, s.usage = in.Message.ID, in.Message.Model, s.now().Unix(), in.Message.Usage
		return s.with(chat.Delta{Role: chat.RoleAssistant}, nil), nil
	case "content_block_start":
		if in.Block.Type != "tool_use" {
			if in.Block.Type == "text" && in.Block.Text != "" {
				return s.with(chat.Delta{Content: in.Block.Text}, nil), nil
			}
			return nil, nil
		}
		if in.Block.Name == answerTool {
			s.calls[in.Index] = -1
			return nil, nil
		}
		n := len(s.calls)
		s.calls[in.Index] = n
		return s.with(chat.Delta{ToolCalls: []chat.ToolCall{{Index: &n, ID: in.Block.ID, Type: "function", Function: chat.FunctionCall{Name: in.Block.Name}}}}, nil), nil
	case "content_block_delta":
		switch in.Delta.Type {
		case "text_delta":
			return s.with(chat.Delta{Content: in.Delta.Text}, nil), nil
		case "input_json_delta":
			n, ok := s.calls[in.Index]
			switch {
			case !ok:
				return nil, fmt.Errorf("%w: a piece of a call that has not begun", errAnswer)
			case in.Delta.PartialJSON == "":
				return nil, nil
			}
			s.given[in.Index] = true
			switch {
			case n < 0:
				return s.with(chat.Delta{Content: in.Delta.PartialJSON}, nil), nil
			}
			return s.with(chat.Delta{ToolCalls: []chat.ToolCall{{Index: &n, Function: chat.FunctionCall{Arguments: in.Delta.PartialJSON}}}}, nil), nil
		}
	case "content_block_stop":
		// A call without arguments has no piece of them, and is an empty object all the same.
		if n, ok := s.calls[in.Index]; ok && n >= 0 && !s.given[in.Index] {
			return s.with(chat.Delta{ToolCalls: []chat.ToolCall{{Index: &n, Function: chat.FunctionCall{Arguments: "{}"}}}}, nil), nil
		}
	case "message_delta":
		if s.ended {
			return nil, nil
		}
		s.ended = true
		s.usage.Output = max(s.usage.Output, in.Usage.Output)
		reason := anthropicFinish(in.Delta.StopReason)
		if len(s.calls) == 1 && s.calls[0] == -1 && reason == chat.FinishToolCalls {
			reason = chat.FinishStop
		}
		return s.with(chat.Delta{}, finish(reason)), nil
	case "message_stop":
		if !s.ended {
			return nil, fmt.Errorf("%w: the answer ends without a reason", errAnswer)
		}
		s.told = true
		s.chunk.Choices, s.chunk.Usage = []chat.ChunkChoice{}, s.usage.usage()
		return &s.chunk, nil
	case "error":
		return nil, failure(http.StatusBadGateway, in.Error.Message, "", in.Error.Type)
	}
	return nil, nil // ping, and what is to come
}

func (s *anthropicStream) with(d chat.Delta, reason *string) *chat.Chunk {
	s.chunk.Choices = []chat.ChunkChoice{{Delta: d, FinishReason: reason}}
	return &s.chunk
}
