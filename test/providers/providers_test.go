package providers

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"google.golang.org/genai"

	"github.com/quickthorn/quickthorn/internal/llm/llmtest"
)

const key = "sk-0123456789abcdef"

func hedge(llmtest.Call) string { return "It is a hedge." }

func TestAnthropicsLibraryReadsOurStandIn(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "anthropic")
	f.Answers(hedge)
	c := anthropic.NewClient(option.WithBaseURL(f.URL), option.WithAPIKey(key), option.WithMaxRetries(0))
	q := anthropic.MessageNewParams{Model: "claude-test", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is this?"))}}
	m, err := c.Messages.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if m.Content[0].Text != "It is a hedge." || m.StopReason != "end_turn" || m.Usage.InputTokens != llmtest.PromptTokens || m.Usage.OutputTokens != llmtest.CompletionTokens {
		t.Errorf("whole: %s", m.RawJSON())
	}
	stream := func(q anthropic.MessageNewParams) anthropic.Message {
		t.Helper()
		s := c.Messages.NewStreaming(t.Context(), q)
		var all anthropic.Message
		for s.Next() {
			if err := all.Accumulate(s.Current()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := stream(q); all.Content[0].Text != "It is a hedge." || all.Usage.OutputTokens != llmtest.CompletionTokens || all.StopReason != "end_turn" {
		t.Errorf("stream: %+v", all)
	}
	q.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "weather", InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{"place": map[string]any{"type": "string"}}}}}}
	for what, all := range map[string]anthropic.Message{"whole": *must(c.Messages.New(t.Context(), q))(t), "stream": stream(q)} {
		b := all.Content[0]
		var in struct{ Place string }
		if err := json.Unmarshal(b.Input, &in); b.Type != "tool_use" || b.Name != "weather" || err != nil || in.Place != "Rouen" || all.StopReason != "tool_use" {
			t.Errorf("%s, a tool: %+v, %v", what, b, err)
		}
	}
	f.Fail(llmtest.Fault{Status: 429})
	if _, err := c.Messages.New(t.Context(), q); err == nil || !strings.Contains(err.Error(), "rate_limit_error") {
		t.Errorf("an error: %v", err)
	}
	f.Fail(llmtest.Fault{Status: 529, InStream: true})
	s := c.Messages.NewStreaming(t.Context(), q)
	for s.Next() {
	}
	if s.Err() == nil {
		t.Error("an error within a stream is none")
	}
}

func TestGooglesLibraryReadsOurStandIn(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "gemini")
	f.Answers(hedge)
	c, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: key, Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: f.URL}})
	if err != nil {
		t.Fatal(err)
	}
	ask := genai.Text("What is this?")
	r, err := c.Models.GenerateContent(t.Context(), "gemini-test", ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Text() != "It is a hedge." || r.UsageMetadata.PromptTokenCount != llmtest.PromptTokens || r.Candidates[0].FinishReason != "STOP" {
		t.Errorf("whole: %+v", r)
	}
	text := ""
	for r, err := range c.Models.GenerateContentStream(t.Context(), "gemini-test", ask, nil) {
		if err != nil {
			t.Fatal(err)
		}
		text += r.Text()
	}
	if text != "It is a hedge." {
		t.Errorf("stream: %q", text)
	}
	tools := &genai.GenerateContentConfig{Tools: []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "weather"}}}}}
	if r, err = c.Models.GenerateContent(t.Context(), "gemini-test", ask, tools); err != nil {
		t.Fatal(err)
	}
	if calls := r.FunctionCalls(); len(calls) != 1 || calls[0].Name != "weather" || calls[0].Args["place"] != "Rouen" {
		t.Errorf("a tool: %+v", calls)
	}
	e, err := c.Models.EmbedContent(t.Context(), "embed-test", append(genai.Text("one"), genai.Text("two")...), nil)
	if err != nil || len(e.Embeddings) != 2 || len(e.Embeddings[1].Values) != 3 {
		t.Errorf("embeddings: %+v, %v", e, err)
	}
	f.Fail(llmtest.Fault{Status: 429})
	if _, err := c.Models.GenerateContent(t.Context(), "gemini-test", ask, nil); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("an error: %v", err)
	}
}

// must returns what there is if there is no error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
