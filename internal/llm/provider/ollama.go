package provider

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// Ollama speaks Ollama's own API (https://github.com/ollama/ollama/blob/main/docs/api.md), which tells more of a model's context than the one that is
// like OpenAI's. Its streams are lines of JSON.
type Ollama struct{}

// StreamMedia is the media type of its streams.
func (Ollama) StreamMedia() string { return "application/x-ndjson" }

type ollamaMessage struct {
	Role      string       `json:"role"`
	Content   string       `json:"content"`
	Images    []string     `json:"images,omitempty"` // in base64
	ToolCalls []ollamaCall `json:"tool_calls,omitempty"`
	ToolName  string       `json:"tool_name,omitempty"`
}

type ollamaCall struct {
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
}

// Call implements Provider.
func (Ollama) Call(r *chat.Request, key string) (*Call, error) {
	body := object{"model": r.Model, "stream": r.Stream}
	messages, err := ollamaMessages(r.Messages)
	if err != nil {
		return nil, err
	}
	body["messages"] = messages
	options := object{}
	if r.MaxTokens > 0 {
		options["num_predict"] = r.MaxTokens
	}
	if r.Temperature != nil {
		options["temperature"] = *r.Temperature
	}
	if r.TopP != nil {
		options["top_p"] = *r.TopP
	}
	if len(r.Stop) > 0 {
		options["stop"] = r.Stop
	}
	if r.Seed != nil {
		options["seed"] = *r.Seed
	}
	if len(options) > 0 {
		body["options"] = options
	}
	if f := r.ResponseFormat; f != nil && f.Type != "text" {
		body["format"] = "json"
		if f.JSONSchema != nil && len(f.JSONSchema.Schema) > 0 {
			body["format"] = f.JSONSchema.Schema
		}
	}
	switch c := r.ToolChoice; {
	case c != nil && c.Mode == "none":
	case c != nil && c.Mode != "auto":
		return nil, unable("tool_choice", "this server cannot be made to call a tool")
	case len(r.Tools) > 0:
		body["tools"] = r.Tools
	}
	if err := extras(r, body); err != nil {
		return nil, err
	}
	b, err := json.Marshal(body)
	return &Call{Path: "/api/chat", Header: ollamaHeader(key), Body: b}, err
}

func ollamaHeader(key string) http.Header {
	if key == "" {
		return header()
	}
	return header("Authorization", "Bearer "+key)
}

func ollamaMessages(all []chat.Message) ([]ollamaMessage, error) {
	var list []ollamaMessage
	names := map[string]string{} // of functions, by the id of the call
	for i := range all {
		m := &all[i]
		out := ollamaMessage{Role: m.Role, Content: m.Content.Text()}
		switch m.Role {
		case chat.RoleDeveloper:
			out.Role = chat.RoleSystem
		case chat.RoleTool:
			out.ToolName = names[m.ToolCallID]
		}
		for j := range m.Content {
			if u := m.Content[j].ImageURL; u != nil {
				_, data, ok := dataURL(u.URL)
				if !ok {
					return nil, unable("messages", "an image is a data: URL in base64: this server fetches none")
				}
				out.Images = append(out.Images, data)
			}
		}
		for j := range m.ToolCalls {
			var c ollamaCall
			c.Function.Name, c.Function.Arguments = m.ToolCalls[j].Function.Name, json.RawMessage(m.ToolCalls[j].Function.Arguments)
			names[m.ToolCalls[j].ID] = c.Function.Name
			out.ToolCalls = append(out.ToolCalls, c)
		}
		list = append(list, out)
	}
	return list, nil
}

type ollamaAnswer struct {
	Model      string        `json:"model"`
	CreatedAt  time.Time     `json:"created_at"`
	Message    ollamaMessage `json:"message"`
	Done       bool          `json:"done"`
	DoneReason string        `json:"done_reason"`
	Prompt     int           `json:"prompt_eval_count"`
	Answer     int           `json:"eval_count"`
	Error      string        `json:"error"`
}

func (a *ollamaAnswer) usage() *chat.Usage {
	if a.Prompt == 0 && a.Answer == 0 {
		return nil
	}
	return &chat.Usage{PromptTokens: a.Prompt, CompletionTokens: a.Answer, TotalTokens: a.Prompt + a.Answer}
}

// finish is why the answer ends.
func (a *ollamaAnswer) finish(calls bool) string {
	switch {
	case a.DoneReason == "length":
		return chat.FinishLength
	case calls:
		return chat.FinishToolCalls
	}
	return chat.FinishStop
}

// calls are the tool calls, of which first is the number of the first.
func (a *ollamaAnswer) calls(first int, stream bool) []chat.ToolCall {
	var list []chat.ToolCall
	for i := range a.Message.ToolCalls {
		f := &a.Message.ToolCalls[i].Function
		c := chat.ToolCall{ID: "call_" + strconv.Itoa(first+i), Type: "function", Function: chat.FunctionCall{Name: f.Name, Arguments: string(f.Arguments)}}
		if stream {
			n := first + i
			c.Index = &n
		}
		list = append(list, c)
	}
	return list
}

func (a *ollamaAnswer) id() string { return "ollama-" + strconv.FormatInt(a.CreatedAt.UnixNano(), 36) }

// Response implements Provider.
func (Ollama) Response(body []byte) (*chat.Response, error) {
	var in ollamaAnswer
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if !in.Done || in.Message.Role == "" {
		return nil, fmt.Errorf("%w: it is not done, or has no message", errAnswer)
	}
	calls := in.calls(0, false)
	m := chat.Message{Role: chat.RoleAssistant, Content: chat.Text(in.Message.Content), ToolCalls: calls}
	return &chat.Response{
		ID: in.id(), Object: chat.ObjectResponse, Created: in.CreatedAt.Unix(), Model: in.Model,
		Choices: []chat.Choice{{Message: m, FinishReason: in.finish(len(calls) > 0)}}, Usage: in.usage(),
	}, nil
}

// Error implements Provider.
func (Ollama) Error(status int, body []byte) *chat.Error {
	var in struct{ Error string }
	_ = json.Unmarshal(body, &in) // without words the status speaks
	return failure(status, in.Error, "", "")
}

// maxLine is the size of the longest line of a stream, in bytes.
const maxLine = 4 << 20

// Stream implements Provider.
func (Ollama) Stream(r io.Reader) Stream {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 16<<10), maxLine)
	return &ollamaStream{in: s, chunk: chat.Chunk{Object: chat.ObjectChunk}}
}

type ollamaStream struct {
	in    *bufio.Scanner
	chunk chat.Chunk
	begun bool
	calls int
	usage *chat.Usage // to be told yet
	done  bool
}

// Next implements Stream.
func (s *ollamaStream) Next() (*chat.Chunk, error) {
	if s.done {
		if s.usage == nil {
			return nil, io.EOF
		}
		s.chunk.Choices, s.chunk.Usage, s.usage = []chat.ChunkChoice{}, s.usage, nil
		return &s.chunk, nil
	}
	for s.in.Scan() {
		if len(s.in.Bytes()) == 0 {
			continue
		}
		var in ollamaAnswer
		if err := answer(s.in.Bytes(), &in); err != nil {
			return nil, err
		}
		if in.Error != "" {
			return nil, failure(http.StatusBadGateway, in.Error, chat.ErrorServer, "")
		}
		d := chat.Delta{Content: in.Message.Content, ToolCalls: in.calls(s.calls, true)}
		s.calls += len(d.ToolCalls)
		if !s.begun {
			s.begun, d.Role = true, chat.RoleAssistant
			s.chunk.ID, s.chunk.Model, s.chunk.Created = in.id(), in.Model, in.CreatedAt.Unix()
		}
		c := chat.ChunkChoice{Delta: d}
		if in.Done {
			s.done, s.usage = true, in.usage()
			c.FinishReason = finish(in.finish(s.calls > 0))
		}
		s.chunk.Choices = []chat.ChunkChoice{c}
		return &s.chunk, nil
	}
	if err := s.in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("%w: a line has more than %d bytes", errAnswer, maxLine)
		}
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

// Embed implements Embedder.
func (Ollama) Embed(r *chat.EmbeddingRequest, key string) (*Call, error) {
	if r.Tokens {
		return nil, unable("input", "this server takes texts, no token numbers")
	}
	body := object{"model": r.Model, "input": r.Input}
	if r.Dimensions > 0 {
		body["dimensions"] = r.Dimensions
	}
	b, err := json.Marshal(body)
	return &Call{Path: "/api/embed", Header: ollamaHeader(key), Body: b}, err
}

// Embeddings implements Embedder.
func (Ollama) Embeddings(r *chat.EmbeddingRequest, body []byte) (*chat.EmbeddingResponse, error) {
	var in struct {
		Model      string
		Embeddings [][]float32
		Prompt     int `json:"prompt_eval_count"`
	}
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if len(in.Embeddings) != len(r.Input) {
		return nil, fmt.Errorf("%w: %d vectors of %d texts", errAnswer, len(in.Embeddings), len(r.Input))
	}
	out := &chat.EmbeddingResponse{Object: "list", Model: r.Model}
	if in.Prompt > 0 {
		out.Usage = &chat.Usage{PromptTokens: in.Prompt, TotalTokens: in.Prompt}
	}
	for i, v := range in.Embeddings {
		out.Data = append(out.Data, chat.Embedding{Object: "embedding", Index: i, Vector: chat.Vector{Values: v, Base64: r.Format == chat.FormatBase64}})
	}
	return out, nil
}
