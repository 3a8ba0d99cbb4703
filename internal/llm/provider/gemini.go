package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/sse"
)

// Gemini speaks Google's generateContent (https://ai.google.dev/api/generate-content, v1beta).
type Gemini struct {
	Now func() time.Time // answers do not tell when they were made
}

type geminiPart struct {
	Text         string          `json:"text,omitempty"`
	Thought      bool            `json:"thought,omitempty"`
	InlineData   *geminiBlob     `json:"inlineData,omitempty"`
	FileData     *geminiFile     `json:"fileData,omitempty"`
	FunctionCall *geminiFunction `json:"functionCall,omitempty"`
	Response     *geminiResult   `json:"functionResponse,omitempty"`
}

type geminiBlob struct {
	MimeType string `json:"mimeType"`
	Data     string `json:"data"`
}

type geminiFile struct {
	FileURI string `json:"fileUri"`
}

type geminiFunction struct {
	ID   string          `json:"id,omitempty"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args,omitempty"`
}

type geminiResult struct {
	Name     string `json:"name"`
	Response object `json:"response"`
}

type geminiContent struct {
	Role  string       `json:"role,omitempty"`
	Parts []geminiPart `json:"parts"`
}

// Call implements Provider. The model's name is a part of the address.
func (g *Gemini) Call(r *chat.Request, key string) (*Call, error) {
	system, contents, err := geminiContents(r.Messages)
	if err != nil {
		return nil, err
	}
	body := object{"contents": contents}
	if system != "" {
		body["systemInstruction"] = geminiContent{Parts: []geminiPart{{Text: system}}}
	}
	config := object{}
	if r.MaxTokens > 0 {
		config["maxOutputTokens"] = r.MaxTokens
	}
	if r.Temperature != nil {
		config["temperature"] = *r.Temperature
	}
	if r.TopP != nil {
		config["topP"] = *r.TopP
	}
	if len(r.Stop) > 0 {
		if len(r.Stop) > 5 {
			return nil, unable("stop", "this provider takes at most five stop sequences")
		}
		config["stopSequences"] = r.Stop
	}
	if r.Seed != nil {
		config["seed"] = *r.Seed
	}
	if f := r.ResponseFormat; f != nil && f.Type != "text" {
		config["responseMimeType"] = "application/json"
		if f.JSONSchema != nil && len(f.JSONSchema.Schema) > 0 {
			config["responseJsonSchema"] = f.JSONSchema.Schema
		}
	}
	if len(config) > 0 {
		body["generationConfig"] = config
	}
	geminiTools(r, body)
	if err := extras(r, body); err != nil {
		return nil, err
	}
	b, err := json.Marshal(body)
	method := ":generateContent"
	if r.Stream {
		method = ":streamGenerateContent?alt=sse"
	}
	return &Call{Path: "/v1beta/models/" + url.PathEscape(strings.TrimPrefix(r.Model, "models/")) + method, Header: header("X-Goog-Api-Key", key), Body: b}, err
}

func geminiContents(all []chat.Message) (system string, list []geminiContent, err error) {
	add := func(role string, parts ...geminiPart) {
		if n := len(list); n > 0 && list[n-1].Role == role {
			list[n-1].Parts = append(list[n-1].Parts, parts...)
		} else if len(parts) > 0 {
			list = append(list, geminiContent{role, parts})
		}
	}
	var said []string
	names := map[string]string{} // of functions, by the id of the call: this API knows answers by the name
	for i := range all {
		m := &all[i]
		switch m.Role {
		case chat.RoleSystem, chat.RoleDeveloper:
			said = append(said, m.Content.Text())
		case chat.RoleUser:
			for j := range m.Content {
				p := &m.Content[j]
				switch {
				case p.ImageURL == nil:
					add("user", geminiPart{Text: p.Text})
				default:
					if media, data, ok := dataURL(p.ImageURL.URL); ok {
						add("user", geminiPart{InlineData: &geminiBlob{media, data}})
					} else if strings.HasPrefix(p.ImageURL.URL, "https://") {
						add("user", geminiPart{FileData: &geminiFile{p.ImageURL.URL}})
					} else {
						return "", nil, unable("messages", "an image is a data: URL in base64 or an https address")
					}
				}
			}
		case chat.RoleAssistant:
			if text := m.Content.Text(); text != "" {
				add("model", geminiPart{Text: text})
			}
			for j := range m.ToolCalls {
				c := &m.ToolCalls[j]
				names[c.ID] = c.Function.Name
				add("model", geminiPart{FunctionCall: &geminiFunction{Name: c.Function.Name, Args: json.RawMessage(c.Function.Arguments)}})
			}
		case chat.RoleTool:
			name, ok := names[m.ToolCallID]
			if !ok {
				return "", nil, unable("messages", "there is no call with the id %.80q that a tool answers", m.ToolCallID)
			}
			// The answer is to be an object; what is one is passed as it is.
			result, text := object{}, m.Content.Text()
			if json.Unmarshal([]byte(text), &result) != nil || result == nil {
				result = object{"result": text}
			}
			add("user", geminiPart{Response: &geminiResult{name, result}})
		}
	}
	if len(list) == 0 {
		return "", nil, unable("messages", "this provider wants a message of the user's")
	}
	return strings.Join(said, "\n\n"), list, nil
}

func geminiTools(r *chat.Request, body object) {
	if len(r.Tools) == 0 {
		return
	}
	var list []object
	for i := range r.Tools {
		f := &r.Tools[i].Function
		one := object{"name": f.Name}
		if f.Description != "" {
			one["description"] = f.Description
		}
		if len(f.Parameters) > 0 {
			one["parametersJsonSchema"] = f.Parameters
		}
		list = append(list, one)
	}
	body["tools"] = []object{{"functionDeclarations": list}}
	if c := r.ToolChoice; c != nil {
		calling := object{"mode": map[string]string{"auto": "AUTO", "none": "NONE", "required": "ANY", "": "ANY"}[c.Mode]}
		if c.Function != "" {
			calling["allowedFunctionNames"] = []string{c.Function}
		}
		body["toolConfig"] = object{"functionCallingConfig": calling}
	}
}

type geminiAnswer struct {
	ResponseID   string `json:"responseId"`
	ModelVersion string
	Candidates   []struct {
		Content      geminiContent
		FinishReason string
		Index        int
	}
	PromptFeedback struct{ BlockReason string }
	Usage          *geminiUsage `json:"usageMetadata"`
}

type geminiUsage struct {
	Prompt   int `json:"promptTokenCount"`
	Answer   int `json:"candidatesTokenCount"`
	Thoughts int `json:"thoughtsTokenCount"`
	Cached   int `json:"cachedContentTokenCount"`
}

func (u *geminiUsage) usage() *chat.Usage {
	if u == nil {
		return nil
	}
	out := &chat.Usage{PromptTokens: u.Prompt, CompletionTokens: u.Answer + u.Thoughts, TotalTokens: u.Prompt + u.Answer + u.Thoughts}
	if u.Cached > 0 {
		out.PromptDetails = &chat.PromptDetails{CachedTokens: u.Cached}
	}
	if u.Thoughts > 0 {
		out.OutputDetails = &chat.OutputDetails{ReasoningTokens: u.Thoughts}
	}
	return out
}

// geminiFinish translates why an answer ends; "" as long as it does not.
func geminiFinish(reason string, calls bool) string {
	switch reason {
	case "", "FINISH_REASON_UNSPECIFIED":
		return ""
	case "MAX_TOKENS":
		return chat.FinishLength
	case "STOP":
		if calls {
			return chat.FinishToolCalls
		}
		return chat.FinishStop
	case "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY":
		return chat.FinishFilter
	}
	return chat.FinishStop
}

// geminiBlocked is the error of a prompt that is not answered at all.
func geminiBlocked(in *geminiAnswer) error {
	if in.PromptFeedback.BlockReason == "" {
		return nil
	}
	return &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Code: "content_filter", Message: "the provider does not answer this prompt: " + words(in.PromptFeedback.BlockReason)}
}

// Response implements Provider.
func (g *Gemini) Response(body []byte) (*chat.Response, error) {
	var in geminiAnswer
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if err := geminiBlocked(&in); err != nil {
		return nil, err
	}
	if len(in.Candidates) == 0 {
		return nil, fmt.Errorf("%w: it has no candidates", errAnswer)
	}
	out := &chat.Response{ID: in.ResponseID, Object: chat.ObjectResponse, Created: g.Now().Unix(), Model: in.ModelVersion, Usage: in.Usage.usage()}
	for i := range in.Candidates {
		c := &in.Candidates[i]
		m := chat.Message{Role: chat.RoleAssistant}
		var text strings.Builder
		for j := range c.Content.Parts {
			switch p := &c.Content.Parts[j]; {
			case p.Thought:
			case p.FunctionCall != nil:
				m.ToolCalls = append(m.ToolCalls, p.FunctionCall.call(in.ResponseID, len(m.ToolCalls)))
			default:
				text.WriteString(p.Text)
			}
		}
		m.Content = chat.Text(text.String())
		reason := geminiFinish(c.FinishReason, len(m.ToolCalls) > 0)
		if reason == "" {
			return nil, fmt.Errorf("%w: it ends without a reason", errAnswer)
		}
		out.Choices = append(out.Choices, chat.Choice{Index: c.Index, Message: m, FinishReason: reason})
	}
	return out, nil
}

// call is the n-th call of an answer. Where it has no id one is made, which callers want for their answer.
func (f *geminiFunction) call(answer string, n int) chat.ToolCall {
	c := chat.ToolCall{ID: f.ID, Type: "function", Function: chat.FunctionCall{Name: f.Name, Arguments: string(f.Args)}}
	if c.ID == "" {
		c.ID = "call_" + answer + "_" + strconv.Itoa(n)
	}
	if c.Function.Arguments == "" {
		c.Function.Arguments = "{}"
	}
	return c
}

// Error implements Provider.
func (g *Gemini) Error(status int, body []byte) *chat.Error {
	type says struct {
		Error struct{ Message, Status string }
	}
	var in says
	if json.Unmarshal(body, &in) != nil { // a stream's error is in a list
		var list []says
		if json.Unmarshal(body, &list) == nil && len(list) > 0 {
			in = list[0]
		}
	}
	if status == http.StatusBadRequest && strings.Contains(in.Error.Message, "API key") {
		status = http.StatusUnauthorized // so says this provider of a wrong key
	}
	return failure(status, in.Error.Message, "", strings.ToLower(in.Error.Status))
}

// Stream implements Provider.
func (g *Gemini) Stream(r io.Reader) Stream {
	return &geminiStream{in: sse.NewReader(r), created: g.Now().Unix()}
}

type geminiStream struct {
	in       *sse.Reader
	created  int64
	chunk    chat.Chunk
	usage    *geminiUsage
	begun    bool
	calls    int
	finished bool
	told     bool
}

// Next implements Stream.
func (s *geminiStream) Next() (*chat.Chunk, error) {
	for {
		e, err := s.in.Next()
		switch {
		case errors.Is(err, io.EOF) && s.finished && !s.told && s.usage != nil: // the usage of the last event is that of all
			s.told = true
			s.chunk.Choices, s.chunk.Usage = []chat.ChunkChoice{}, s.usage.usage()
			return &s.chunk, nil
		case errors.Is(err, io.EOF) && !s.finished:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		var in struct {
			geminiAnswer
			Error *struct{ Message, Status string }
		}
		if err := answer(e.Data, &in); err != nil {
			return nil, err
		}
		if in.Error != nil {
			return nil, failure(http.StatusBadGateway, in.Error.Message, "", strings.ToLower(in.Error.Status))
		}
		if err := geminiBlocked(&in.geminiAnswer); err != nil {
			return nil, err
		}
		if in.Usage != nil {
			s.usage = in.Usage
		}
		if c := s.take(&in.geminiAnswer); c != nil {
			return c, nil
		}
	}
}

// take returns the chunk of an event, nil if it says nothing new.
func (s *geminiStream) take(in *geminiAnswer) *chat.Chunk {
	s.chunk = chat.Chunk{ID: in.ResponseID, Object: chat.ObjectChunk, Created: s.created, Model: in.ModelVersion, Choices: []chat.ChunkChoice{}}
	for i := range in.Candidates {
		c := &in.Candidates[i]
		var d chat.Delta
		if !s.begun {
			s.begun, d.Role = true, chat.RoleAssistant
		}
		for j := range c.Content.Parts {
			switch p := &c.Content.Parts[j]; {
			case p.Thought:
			case p.FunctionCall != nil:
				call, n := p.FunctionCall.call(in.ResponseID, s.calls), s.calls
				call.Index = &n
				s.calls++
				d.ToolCalls = append(d.ToolCalls, call)
			default:
				d.Content += p.Text
			}
		}
		out := chat.ChunkChoice{Index: c.Index, Delta: d}
		if reason := geminiFinish(c.FinishReason, s.calls > 0); reason != "" {
			s.finished, out.FinishReason = true, finish(reason)
		}
		if d.Role != "" || d.Content != "" || d.ToolCalls != nil || out.FinishReason != nil {
			s.chunk.Choices = append(s.chunk.Choices, out)
		}
	}
	if len(s.chunk.Choices) == 0 {
		return nil
	}
	return &s.chunk
}
