package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// gathered is what a stream says in all.
type gathered struct {
	text   string
	calls  []chat.FunctionCall
	ids    []string
	finish string
	usage  *chat.Usage
	pieces int
}

func gather(t *testing.T, s Stream) gathered {
	t.Helper()
	var g gathered
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Fatal(err)
		}
		g.pieces++
		if c.Usage != nil {
			u := *c.Usage
			g.usage = &u
		}
		for i := range c.Choices {
			d := &c.Choices[i].Delta
			g.text += d.Content
			for _, call := range d.ToolCalls {
				at := len(g.calls)
				if call.Index != nil {
					at = *call.Index
				}
				for at >= len(g.calls) {
					g.calls, g.ids = append(g.calls, chat.FunctionCall{}), append(g.ids, "")
				}
				g.calls[at].Name += call.Function.Name
				g.calls[at].Arguments += call.Function.Arguments
				g.ids[at] += call.ID
			}
			if r := c.Choices[i].FinishReason; r != nil {
				g.finish = *r
			}
		}
	}
}

func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordedStreamsOfRealProvidersAreReadWhole(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file, kind string
		text       string // its beginning
		call       string // name of the first
		finish     string
	}{
		{"anthropic-text.chunks.txt", "anthropic", "", "", "stop"},
		{"anthropic-tool-no-args.chunks.txt", "anthropic", "", "updateIssueList", "tool_calls"},
		{"azure-model-router.1.chunks.txt", "azure", "Capital of Denmark", "", "stop"},
		{"deepseek-tool-call.chunks.txt", "compatible", "", "weather", "tool_calls"},
		{"groq-tool-call.chunks.txt", "compatible", "", "weather", "tool_calls"},
		{"mistral-text.chunks.txt", "mistral", "Hello", "", "stop"},
		{"mistral-tool-call.chunks.txt", "mistral", "", "weather", "tool_calls"},
		{"xai-text.chunks.txt", "compatible", "", "", "stop"},
		{"xai-tool-call.chunks.txt", "compatible", "", "weather", "tool_calls"},
		{"moonshotai-stream.chunks.txt", "compatible", "", "", "stop"},
		{"anthropic-fallback-tool-call.sse", "compatible", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			p, _, err := Named(tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			in := recorded(t, tt.file)
			if strings.HasSuffix(tt.file, ".txt") {
				var b bytes.Buffer
				for line := range bytes.Lines(in) {
					if line = bytes.TrimSpace(line); len(line) > 0 {
						b.WriteString("data: " + string(line) + "\n\n")
					}
				}
				if tt.kind != "anthropic" {
					b.WriteString("data: [DONE]\n\n")
				}
				in = b.Bytes()
			}
			g := gather(t, p.Stream(bytes.NewReader(in)))
			t.Logf("%d pieces, %.60q, %+v, %s, %+v", g.pieces, g.text, g.calls, g.finish, g.usage)
			if !strings.HasPrefix(g.text, tt.text) || tt.finish != "" && g.finish != tt.finish || g.finish == "" {
				t.Errorf("%.80q ends with %q, want %q with %q", g.text, g.finish, tt.text, tt.finish)
			}
			if tt.call != "" && (len(g.calls) == 0 || g.calls[0].Name != tt.call) {
				t.Errorf("calls %+v, want %s", g.calls, tt.call)
			}
			if tt.call == "" && tt.finish == "stop" && g.text == "" {
				t.Error("it says nothing")
			}
			for i, c := range g.calls {
				if c.Name == "" {
					continue // some count text as well: their first call has the number 1
				}
				if g.ids[i] == "" || !json.Valid([]byte(c.Arguments)) {
					t.Errorf("call %d: %q %+v", i, g.ids[i], c)
				}
			}
		})
	}
}

func TestRecordedAnswersOfRealProvidersAreRead(t *testing.T) {
	t.Parallel()
	for file, kind := range map[string]string{"anthropic-text.json": "anthropic", "groq-tool-call.json": "compatible", "xai-text.json": "compatible", "xai-tool-call.json": "compatible"} {
		p, _, err := Named(kind)
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Response(recorded(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		m := &r.Choices[0].Message
		if r.Usage == nil || r.Usage.PromptTokens == 0 || m.Content.Text() == "" && len(m.ToolCalls) == 0 || r.Choices[0].FinishReason == "" {
			t.Errorf("%s: %+v", file, r)
		}
	}
	p := &OpenAI{}
	e, err := p.Embeddings(&chat.EmbeddingRequest{Tokens: true}, recorded(t, "openai-embedding.json"))
	if err != nil || len(e.Data) == 0 || len(e.Data[0].Vector.Values) == 0 {
		t.Errorf("%+v, %v", e, err)
	}
}
