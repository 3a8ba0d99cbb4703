package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// object is JSON made in place.
type object = map[string]any

// responsesCall is a call of OpenAI's Responses API.
type responsesCall struct {
	Model             string            `json:"model"`
	Input             json.RawMessage   `json:"input"`
	Instructions      string            `json:"instructions"`
	MaxTokens         int               `json:"max_output_tokens"`
	Temperature       *float64          `json:"temperature"`
	TopP              *float64          `json:"top_p"`
	Stream            bool              `json:"stream"`
	Tools             []json.RawMessage `json:"tools"`
	ToolChoice        json.RawMessage   `json:"tool_choice"`
	ParallelToolCalls *bool             `json:"parallel_tool_calls"`
	User              string            `json:"user"`
	Text              struct {
		Format *struct {
			Type        string          `json:"type"`
			Name        string          `json:"name"`
			Description string          `json:"description"`
			Schema      json.RawMessage `json:"schema"`
			Strict      *bool           `json:"strict"`
		} `json:"format"`
	} `json:"text"`
	Reasoning *struct {
		Effort string `json:"effort"`
	} `json:"reasoning"`
	Metadata json.RawMessage `json:"metadata"`

	// What needs a memory of earlier calls, which there is none of.
	Previous     string          `json:"previous_response_id"`
	Conversation json.RawMessage `json:"conversation"`
	Background   bool            `json:"background"`
	Prompt       json.RawMessage `json:"prompt"`
}

type responsesItem struct {
	Type      string          `json:"type"`
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
	Output    json.RawMessage `json:"output"`
}

type responsesPart struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	Refusal  string `json:"refusal"`
	ImageURL string `json:"image_url"`
	Detail   string `json:"detail"`
}

// parseResponses makes a chat completion of a call of the Responses API, and the form of its answer.
func parseResponses(body []byte, now time.Time) (*chat.Request, form, *chat.Error) {
	var in responsesCall
	if err := json.Unmarshal(body, &in); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			err = fmt.Errorf("%s: a JSON %s cannot be there", kind.Field, kind.Value)
		}
		return nil, nil, invalid(err)
	}
	set := func(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
	for param, there := range map[string]bool{
		"previous_response_id": in.Previous != "", "conversation": set(in.Conversation), "background": in.Background, "prompt": set(in.Prompt),
	} {
		if there {
			return nil, nil, &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Param: param, Message: param + ": nothing of earlier calls is kept here: send the whole conversation as input"}
		}
	}
	r := object{"model": in.Model}
	messages, err := responsesMessages(&in)
	if err != nil {
		return nil, nil, invalid(err)
	}
	r["messages"] = messages
	if in.Stream {
		r["stream"], r["stream_options"] = true, chat.StreamOptions{IncludeUsage: true}
	}
	for name, value := range map[string]any{"max_completion_tokens": in.MaxTokens, "user": in.User} {
		if value != 0 && value != "" {
			r[name] = value
		}
	}
	if in.Temperature != nil {
		r["temperature"] = in.Temperature
	}
	if in.TopP != nil {
		r["top_p"] = in.TopP
	}
	if in.ParallelToolCalls != nil && len(in.Tools) > 0 {
		r["parallel_tool_calls"] = in.ParallelToolCalls
	}
	if set(in.Metadata) {
		r["metadata"] = in.Metadata
	}
	if in.Reasoning != nil && in.Reasoning.Effort != "" {
		r["reasoning_effort"] = in.Reasoning.Effort
	}
	if err := responsesTools(&in, r); err != nil {
		return nil, nil, invalid(err)
	}
	if f := in.Text.Format; f != nil && f.Type != "" {
		format := object{"type": f.Type}
		if f.Type == "json_schema" {
			format["json_schema"] = chat.JSONSchema{Name: f.Name, Description: f.Description, Schema: f.Schema, Strict: f.Strict}
		}
		r["response_format"] = format
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, nil, invalid(err)
	}
	out, err := chat.ParseRequest(b)
	if err != nil {
		return nil, nil, invalid(err)
	}
	return out, newResponsesForm(&in, now), nil
}

func responsesMessages(in *responsesCall) ([]object, error) {
	var list []object
	if in.Instructions != "" {
		list = append(list, object{"role": chat.RoleSystem, "content": in.Instructions})
	}
	raw := bytes.TrimSpace(in.Input)
	if len(raw) == 0 {
		return nil, errors.New("input: want a text, or a list of items")
	}
	if raw[0] == '"' {
		return append(list, object{"role": chat.RoleUser, "content": in.Input}), nil
	}
	var items []responsesItem
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, errors.New("input: want a text, or a list of items")
	}
	for i := range items {
		it := &items[i]
		switch it.Type {
		case "", "message":
			content, err := responsesContent(it.Content)
			if err != nil {
				return nil, fmt.Errorf("input: item %d: %w", i, err)
			}
			list = append(list, object{"role": it.Role, "content": content})
		case "function_call":
			call := object{"id": it.CallID, "type": "function", "function": object{"name": it.Name, "arguments": it.Arguments}}
			if n := len(list); n > 0 && list[n-1]["role"] == chat.RoleAssistant {
				calls, _ := list[n-1]["tool_calls"].([]object)
				list[n-1]["tool_calls"] = append(calls, call)
			} else {
				list = append(list, object{"role": chat.RoleAssistant, "tool_calls": []object{call}})
			}
		case "function_call_output":
			content, err := responsesContent(it.Output)
			if err != nil {
				return nil, fmt.Errorf("input: item %d: %w", i, err)
			}
			list = append(list, object{"role": chat.RoleTool, "tool_call_id": it.CallID, "content": content})
		case "reasoning": // only its own provider can read it
		default:
			return nil, fmt.Errorf("input: item %d of type %.40q is not known here: want message, function_call or function_call_output", i, it.Type)
		}
	}
	return list, nil
}

func responsesContent(raw json.RawMessage) (any, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '[' {
		return raw, nil // a text; what else it is chat.ParseRequest says
	}
	var parts []responsesPart
	if err := json.Unmarshal(raw, &parts); err != nil {
		return nil, errors.New("content: want a text or a list of parts")
	}
	list := []chat.Part{}
	for i := range parts {
		p := &parts[i]
		switch p.Type {
		case "input_text", "output_text", "text":
			list = append(list, chat.Part{Type: "text", Text: p.Text})
		case "refusal":
			list = append(list, chat.Part{Type: "refusal", Refusal: p.Refusal})
		case "input_image":
			list = append(list, chat.Part{Type: "image_url", ImageURL: &chat.ImageURL{URL: p.ImageURL, Detail: p.Detail}})
		default:
			return nil, fmt.Errorf("part %d of type %.40q is not known here: want input_text or input_image", i, p.Type)
		}
	}
	return list, nil
}

func responsesTools(in *responsesCall, r object) error {
	var tools []chat.Tool
	for i, raw := range in.Tools {
		var t struct {
			Type string `json:"type"`
			chat.Function
		}
		if err := json.Unmarshal(raw, &t); err != nil || t.Type != "function" {
			return fmt.Errorf("tools: %d is of type %.40q: only functions are known here", i, t.Type)
		}
		tools = append(tools, chat.Tool{Type: "function", Function: t.Function})
	}
	if len(tools) > 0 {
		r["tools"] = tools
	}
	choice := bytes.TrimSpace(in.ToolChoice)
	if len(choice) == 0 || choice[0] == 'n' {
		return nil
	}
	var one struct{ Type, Name string }
	switch {
	case choice[0] == '"':
		r["tool_choice"] = in.ToolChoice
	case json.Unmarshal(choice, &one) == nil && one.Type == "function":
		r["tool_choice"] = chat.ToolChoice{Function: one.Name}
	default:
		return errors.New("tool_choice: want auto, none, required or a function")
	}
	return nil
}

// responsesForm writes answers of the Responses API.
type responsesForm struct {
	head object // what every answer repeats of its call
	now  time.Time

	number int // of the next event
	buf    []byte
	id     string
	model  string
	finish string
	usage  *chat.Usage
	items  []*responsesOutput
	begun  bool
}

// responsesOutput is an item of an answer: a message, or a call of a function.
type responsesOutput struct {
	id       string
	call     bool
	index    int // of the tool call in the stream
	callID   string
	name     string
	text     strings.Builder
	refusal  strings.Builder
	finished bool
}

func newResponsesForm(in *responsesCall, now time.Time) *responsesForm {
	format := any(object{"type": "text"})
	if in.Text.Format != nil && in.Text.Format.Type != "" {
		format = in.Text.Format
	}
	orNull := func(raw json.RawMessage, otherwise any) any {
		if len(raw) == 0 {
			return otherwise
		}
		return raw
	}
	tools := in.Tools
	if tools == nil {
		tools = []json.RawMessage{}
	}
	head := object{
		"object": "response", "error": nil, "previous_response_id": nil, "store": false, "temperature": in.Temperature, "top_p": in.TopP, "tools": tools,
		"tool_choice": orNull(in.ToolChoice, "auto"), "parallel_tool_calls": in.ParallelToolCalls == nil || *in.ParallelToolCalls, "metadata": orNull(in.Metadata, object{}),
		"text": object{"format": format}, "instructions": nil, "max_output_tokens": nil,
	}
	if in.Instructions != "" {
		head["instructions"] = in.Instructions
	}
	if in.MaxTokens > 0 {
		head["max_output_tokens"] = in.MaxTokens
	}
	return &responsesForm{head: head, now: now, id: "resp_" + rand.Text()}
}

// json is the item; status says how far it is.
func (o *responsesOutput) json(status string) object {
	if o.call {
		return object{"type": "function_call", "id": o.id, "call_id": o.callID, "name": o.name, "arguments": o.text.String(), "status": status}
	}
	content := []object{}
	if o.text.Len() > 0 || o.refusal.Len() == 0 && o.finished {
		content = append(content, textPart(o.text.String()))
	}
	if o.refusal.Len() > 0 {
		content = append(content, object{"type": "refusal", "refusal": o.refusal.String()})
	}
	return object{"type": "message", "id": o.id, "role": chat.RoleAssistant, "status": status, "content": content}
}

func textPart(s string) object {
	return object{"type": "output_text", "text": s, "annotations": []any{}, "logprobs": []any{}}
}

// answer is the whole answer as far as it is.
func (f *responsesForm) answer(status string) object {
	out := object{}
	for k, v := range f.head {
		out[k] = v
	}
	out["id"], out["created_at"], out["model"], out["status"], out["incomplete_details"], out["usage"] = f.id, f.now.Unix(), f.model, status, nil, nil
	output := []object{}
	for _, o := range f.items {
		s := "completed"
		if status != "completed" && status != "incomplete" {
			s = "in_progress"
		}
		output = append(output, o.json(s))
	}
	out["output"] = output
	if status == "incomplete" {
		reason := "max_output_tokens"
		if f.finish == chat.FinishFilter {
			reason = "content_filter"
		}
		out["incomplete_details"] = object{"reason": reason}
	}
	if u := f.usage; u != nil {
		cached, reasoning := 0, 0
		if u.PromptDetails != nil {
			cached = u.PromptDetails.CachedTokens
		}
		if u.OutputDetails != nil {
			reasoning = u.OutputDetails.ReasoningTokens
		}
		out["usage"] = object{
			"input_tokens": u.PromptTokens, "input_tokens_details": object{"cached_tokens": cached}, "output_tokens": u.CompletionTokens,
			"output_tokens_details": object{"reasoning_tokens": reasoning}, "total_tokens": u.PromptTokens + u.CompletionTokens,
		}
	}
	return out
}

func (f *responsesForm) status() string {
	if f.finish == chat.FinishLength || f.finish == chat.FinishFilter {
		return "incomplete"
	}
	return "completed"
}

func (f *responsesForm) add(call bool) *responsesOutput {
	o := &responsesOutput{call: call, id: "msg_" + rand.Text()}
	if call {
		o.id = "fc_" + rand.Text()
	}
	f.items = append(f.items, o)
	return o
}

func (f *responsesForm) whole(r *chat.Response) ([]byte, error) {
	f.model, f.usage = r.Model, r.Usage
	if len(r.Choices) > 0 {
		c := &r.Choices[0]
		f.finish = c.FinishReason
		if text := c.Message.Content.Text(); text != "" || c.Message.Refusal != "" || len(c.Message.ToolCalls) == 0 {
			o := f.add(false)
			o.finished = true
			o.text.WriteString(text)
			o.refusal.WriteString(c.Message.Refusal)
		}
		for i := range c.Message.ToolCalls {
			t := &c.Message.ToolCalls[i]
			o := f.add(true)
			o.callID, o.name = t.ID, t.Function.Name
			o.text.WriteString(t.Function.Arguments)
		}
	}
	return json.Marshal(f.answer(f.status()))
}

// event writes an event to the buffer.
func (f *responsesForm) event(kind string, fields object) error {
	fields["type"], fields["sequence_number"] = kind, f.number
	f.number++
	b, err := json.Marshal(fields)
	if err == nil {
		f.buf = appendEvent(f.buf, kind, b)
	}
	return err
}

func (f *responsesForm) piece(c *chat.Chunk) ([]byte, error) {
	f.buf = f.buf[:0]
	var errs []error
	put := func(kind string, fields object) { errs = append(errs, f.event(kind, fields)) }
	if c.Model != "" {
		f.model = c.Model
	}
	if !f.begun {
		f.begun = true
		put("response.created", object{"response": f.answer("in_progress")})
		put("response.in_progress", object{"response": f.answer("in_progress")})
	}
	if c.Usage != nil {
		u := *c.Usage
		f.usage = &u
	}
	for i := range c.Choices {
		if c.Choices[i].Index != 0 {
			continue
		}
		d := &c.Choices[i].Delta
		if d.Content != "" || d.Refusal != "" {
			o, at := f.message(put)
			o.text.WriteString(d.Content)
			o.refusal.WriteString(d.Refusal)
			if d.Content != "" {
				put("response.output_text.delta", object{"item_id": o.id, "output_index": at, "content_index": 0, "delta": d.Content, "logprobs": []any{}})
			}
			if d.Refusal != "" {
				put("response.refusal.delta", object{"item_id": o.id, "output_index": at, "content_index": 0, "delta": d.Refusal})
			}
		}
		for j := range d.ToolCalls {
			t := &d.ToolCalls[j]
			o, at := f.toolCall(t, put)
			if t.Function.Arguments != "" {
				o.text.WriteString(t.Function.Arguments)
				put("response.function_call_arguments.delta", object{"item_id": o.id, "output_index": at, "delta": t.Function.Arguments})
			}
		}
		if r := c.Choices[i].FinishReason; r != nil {
			f.finish = *r
		}
	}
	return f.buf, errors.Join(errs...)
}

// message is the message that the stream is at; a new one begins.
func (f *responsesForm) message(put func(string, object)) (*responsesOutput, int) {
	at := slices.IndexFunc(f.items, func(o *responsesOutput) bool { return !o.call })
	if at >= 0 {
		return f.items[at], at
	}
	o := f.add(false)
	at = len(f.items) - 1
	put("response.output_item.added", object{"output_index": at, "item": o.json("in_progress")})
	put("response.content_part.added", object{"item_id": o.id, "output_index": at, "content_index": 0, "part": textPart("")})
	return o, at
}

// toolCall is the call that a piece belongs to; a new one begins.
func (f *responsesForm) toolCall(t *chat.ToolCall, put func(string, object)) (*responsesOutput, int) {
	index := 0
	if t.Index != nil {
		index = *t.Index
	}
	at := slices.IndexFunc(f.items, func(o *responsesOutput) bool { return o.call && o.index == index })
	if at >= 0 {
		return f.items[at], at
	}
	o := f.add(true)
	o.index, o.callID, o.name = index, t.ID, t.Function.Name
	at = len(f.items) - 1
	put("response.output_item.added", object{"output_index": at, "item": o.json("in_progress")})
	return o, at
}

func (f *responsesForm) end() ([]byte, error) {
	f.buf = f.buf[:0]
	var errs []error
	put := func(kind string, fields object) { errs = append(errs, f.event(kind, fields)) }
	for at, o := range f.items {
		o.finished = true
		switch {
		case o.call:
			put("response.function_call_arguments.done", object{"item_id": o.id, "output_index": at, "arguments": o.text.String()})
		default:
			put("response.output_text.done", object{"item_id": o.id, "output_index": at, "content_index": 0, "text": o.text.String(), "logprobs": []any{}})
			put("response.content_part.done", object{"item_id": o.id, "output_index": at, "content_index": 0, "part": textPart(o.text.String())})
		}
		put("response.output_item.done", object{"output_index": at, "item": o.json("completed")})
	}
	status := f.status()
	put("response."+status, object{"response": f.answer(status)})
	return f.buf, errors.Join(errs...)
}

func (f *responsesForm) failed(e *chat.Error) []byte {
	f.buf = f.buf[:0]
	if err := f.event("error", object{"message": e.Message, "code": e.Code, "param": e.Param}); err != nil {
		return nil // the connection is closed, which says it too
	}
	return f.buf
}
