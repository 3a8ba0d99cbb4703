package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/sse"
)

// OpenAI speaks the form of OpenAI's chat completions, as many other servers do (https://platform.openai.com/docs/api-reference/chat), and Mistral's,
// which differs in a few names (https://docs.mistral.ai/api).
type OpenAI struct {
	Mistral bool
	// Compatible is for servers that only know the older name of the answer's bound, max_tokens, which OpenAI's newer models refuse.
	Compatible bool
	// Azure takes the key in a header of its own (https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle, the API v1).
	Azure bool
}

// bound is the name of the answer's bound in tokens, and the one that it has elsewhere.
func (o *OpenAI) bound() (name, other string) {
	if o.Mistral || o.Compatible {
		return "max_tokens", "max_completion_tokens"
	}
	return "max_completion_tokens", "max_tokens"
}

// Call implements Provider. What the caller wrote goes on as it was written, but for the model's name and for what this API wants otherwise; the usage of
// a stream is always asked for: it is metered.
func (o *OpenAI) Call(r *chat.Request, key string) (*Call, error) {
	b, err := o.body(r)
	if err != nil {
		return nil, err
	}
	return &Call{Path: "/chat/completions", Header: o.header(key), Body: b}, nil
}

func (o *OpenAI) header(key string) http.Header {
	h := header()
	switch {
	case key == "":
	case o.Azure:
		h.Set("Api-Key", key)
	default:
		h.Set("Authorization", "Bearer "+key)
	}
	return h
}

func (o *OpenAI) body(r *chat.Request) ([]byte, error) {
	q := *r
	if q.Stream && !o.Mistral { // Mistral always tells, and knows no such option
		q.StreamOptions = &chat.StreamOptions{IncludeUsage: true}
	} else {
		q.StreamOptions = nil
	}
	raw := r.Raw
	if raw == nil {
		b, err := json.Marshal(&q)
		if err != nil {
			return nil, err
		}
		raw = b
	}
	name, other := o.bound()
	if !o.Mistral && !r.Stream && r.AsRead(name) {
		return raw, nil
	}
	if o.Mistral {
		return renamed(raw, r)
	}
	all, err := fields(raw, r.Model)
	if err != nil {
		return nil, err
	}
	if _, named := all[other]; named {
		if all[name] == nil {
			all[name] = all[other]
		}
		delete(all, other)
	}
	return rewritten(all, &q)
}

// fields are those of a call in JSON, which names this model.
func fields(raw []byte, model string) (all map[string]json.RawMessage, err error) {
	if err = json.Unmarshal(raw, &all); err == nil {
		all["model"], err = json.Marshal(model)
	}
	return all, err
}

// rewritten is the call with the options of the stream.
func rewritten(all map[string]json.RawMessage, q *chat.Request) (_ []byte, err error) {
	delete(all, "stream_options")
	if q.StreamOptions != nil {
		if all["stream_options"], err = json.Marshal(q.StreamOptions); err != nil {
			return nil, err
		}
	}
	return json.Marshal(all)
}

// renamed has the names that Mistral gives to things, and none that it does not know.
func renamed(b []byte, r *chat.Request) ([]byte, error) {
	all, err := fields(b, r.Model)
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{"max_completion_tokens": "max_tokens", "seed": "random_seed"} {
		if v, ok := all[from]; ok {
			all[to] = v
			delete(all, from)
		}
	}
	for _, name := range []string{"user", "stream_options"} {
		delete(all, name)
	}
	if c := r.ToolChoice; c != nil && c.Mode == "required" {
		all["tool_choice"] = json.RawMessage(`"any"`)
	}
	return json.Marshal(all)
}

// Response implements Provider.
func (o *OpenAI) Response(body []byte) (*chat.Response, error) {
	var in chat.Response
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if len(in.Choices) == 0 {
		return nil, fmt.Errorf("%w: it has no choices", errAnswer)
	}
	in.Object, in.Raw = chat.ObjectResponse, body
	for i := range in.Choices {
		if c := &in.Choices[i]; c.FinishReason != openAIFinish(c.FinishReason) {
			c.FinishReason, in.Raw = openAIFinish(c.FinishReason), nil
		}
	}
	return &in, nil
}

// openAIFinish are the reasons of servers that say something else.
func openAIFinish(reason string) string {
	switch reason {
	case "model_length":
		return chat.FinishLength
	case "", "eos", "error":
		return chat.FinishStop
	}
	return reason
}

// Error implements Provider.
func (o *OpenAI) Error(status int, body []byte) *chat.Error {
	var in struct {
		Error   json.RawMessage
		Message json.RawMessage // Mistral, FastAPI
		Detail  json.RawMessage
	}
	_ = json.Unmarshal(body, &in) // without words the status speaks
	var e struct {
		Message, Type string
		Param         *string
		Code          any
	}
	if json.Unmarshal(in.Error, &e) != nil || e.Message == "" {
		for _, raw := range []json.RawMessage{in.Error, in.Message, in.Detail} {
			if json.Unmarshal(raw, &e.Message) == nil && e.Message != "" {
				break
			}
		}
	}
	code := ""
	if s, ok := e.Code.(string); ok {
		code = s
	}
	out := failure(status, e.Message, e.Type, code)
	if e.Param != nil {
		out.Param = words(*e.Param)
	}
	return out
}

// Stream implements Provider.
func (o *OpenAI) Stream(r io.Reader) Stream { return &openAIStream{in: sse.NewReader(r)} }

type openAIStream struct {
	in       *sse.Reader
	chunk    chat.Chunk
	finished bool
	ended    bool
}

// Next implements Stream.
func (s *openAIStream) Next() (*chat.Chunk, error) {
	for {
		if s.ended {
			return nil, io.EOF
		}
		e, err := s.in.Next()
		switch {
		case (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && s.finished: // some servers leave [DONE] out, or the empty line after it
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case bytes.Equal(bytes.TrimSpace(e.Data), []byte("[DONE]")):
			if !s.finished {
				return nil, fmt.Errorf("%w: the answer ends without a reason", errAnswer)
			}
			s.ended = true
			continue
		}
		var in struct {
			chat.Chunk
			Error *struct{ Message, Type string }
		}
		if err := answer(e.Data, &in); err != nil {
			return nil, err
		}
		if in.Error != nil {
			return nil, failure(http.StatusBadGateway, in.Error.Message, in.Error.Type, "")
		}
		s.chunk = in.Chunk
		s.chunk.Object, s.chunk.Raw = chat.ObjectChunk, e.Data
		if s.chunk.Choices == nil {
			s.chunk.Choices = []chat.ChunkChoice{}
		}
		for i := range s.chunk.Choices {
			if c := &s.chunk.Choices[i]; c.FinishReason != nil && *c.FinishReason != "" {
				if reason := openAIFinish(*c.FinishReason); reason != *c.FinishReason {
					c.FinishReason, s.chunk.Raw = &reason, nil
				}
				s.finished = true
			} else {
				c.FinishReason = nil
			}
		}
		return &s.chunk, nil
	}
}
