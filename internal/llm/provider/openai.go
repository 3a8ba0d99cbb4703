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
}

// Call implements Provider. The usage of a stream is always asked for: it is metered.
func (o *OpenAI) Call(r *chat.Request, key string) (*Call, error) {
	q := *r
	if q.Stream && !o.Mistral { // Mistral always tells, and knows no such option
		q.StreamOptions = &chat.StreamOptions{IncludeUsage: true}
	} else {
		q.StreamOptions = nil
	}
	b, err := json.Marshal(&q)
	if err != nil {
		return nil, err
	}
	if o.Mistral {
		if b, err = renamed(b, r); err != nil {
			return nil, err
		}
	}
	h := header()
	if key != "" {
		h.Set("Authorization", "Bearer "+key)
	}
	return &Call{Path: "/chat/completions", Header: h, Body: b}, nil
}

// renamed has the names that Mistral gives to things, and none that it does not know.
func renamed(b []byte, r *chat.Request) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	for from, to := range map[string]string{"max_completion_tokens": "max_tokens", "seed": "random_seed"} {
		if v, ok := all[from]; ok {
			all[to] = v
			delete(all, from)
		}
	}
	delete(all, "user")
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
	in.Object = chat.ObjectResponse
	for i := range in.Choices {
		in.Choices[i].FinishReason = openAIFinish(in.Choices[i].FinishReason)
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
		case errors.Is(err, io.EOF) && s.finished: // some servers leave [DONE] out
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
		s.chunk.Object = chat.ObjectChunk
		if s.chunk.Choices == nil {
			s.chunk.Choices = []chat.ChunkChoice{}
		}
		for i := range s.chunk.Choices {
			if c := &s.chunk.Choices[i]; c.FinishReason != nil && *c.FinishReason != "" {
				c.FinishReason = finish(openAIFinish(*c.FinishReason))
				s.finished = true
			} else {
				c.FinishReason = nil
			}
		}
		return &s.chunk, nil
	}
}
