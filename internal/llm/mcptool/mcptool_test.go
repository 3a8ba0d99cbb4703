package mcptool_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/mcptool"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
)

type input struct {
	Text string `json:"text"`
}

type verdict struct {
	Label string `json:"label"`
}

// serve starts an MCP server of the official library with some tools.
func serve(t *testing.T, key string) *httptest.Server {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "classifier", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "classify", Description: "Says what a visitor is."}, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, verdict, error) {
		label := "reader"
		if strings.Contains(in.Text, "crawl") {
			label = "automation"
		}
		return nil, verdict{label}, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "fail"}, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, any, error) {
		return nil, nil, errors.New("out of order")
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if key != "" && q.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	return server
}

func open(t *testing.T, url, key string) *backend.Backend {
	t.Helper()
	form, _, err := provider.Named("compatible")
	if err != nil {
		t.Fatal(err)
	}
	b, err := backend.New(backend.Options{Name: "mcp://classifier", Form: form, Base: url, Transport: mcptool.New(url, "text", key), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func call(t *testing.T, tool, text string) *chat.Request {
	t.Helper()
	return &chat.Request{Model: tool, Messages: []chat.Message{{Role: chat.RoleSystem, Content: chat.Text("You judge.")}, {Role: chat.RoleUser, Content: chat.Text(text)}}}
}

func TestAToolAnswersAsAModelDoes(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "key-0123456789abcdef"} {
		b := open(t, serve(t, key).URL, key)
		for text, want := range map[string]string{"a crawler": `{"label":"automation"}`, "a person": `{"label":"reader"}`} {
			r, f := b.Chat(t.Context(), call(t, "classify", text), nil)
			if f != nil {
				t.Fatal(f)
			}
			if got := r.Choices[0].Message.Content.Text(); got != want {
				t.Errorf("%s: %s, want %s", text, got, want)
			}
			q := call(t, "classify", text)
			q.Stream = true
			s, f := b.Stream(t.Context(), q, nil)
			if f != nil {
				t.Fatal(f)
			}
			c, err := s.Next()
			if err != nil || c.Choices[0].Delta.Content != want {
				t.Errorf("stream, %s: %+v, %v", text, c, err)
			}
			s.Close()
		}
	}
}

func TestAToolThatFailsIsAFailure(t *testing.T) {
	t.Parallel()
	server := serve(t, "")
	b := open(t, server.URL, "")
	if _, f := b.Chat(t.Context(), call(t, "fail", "x"), nil); f == nil || !strings.Contains(f.Error(), "out of order") || f.Kind != backend.Broken {
		t.Errorf("%v", f)
	}
	if _, f := b.Chat(t.Context(), call(t, "no-such-tool", "x"), nil); f == nil {
		t.Error("a tool that is not there answers")
	}
	if _, f := b.Chat(t.Context(), call(t, "classify", "x"), nil); f != nil {
		t.Errorf("after a failure: %v", f)
	}
	if _, f := b.Embed(t.Context(), &chat.EmbeddingRequest{Model: "classify", Input: []string{"x"}}, nil); f == nil {
		t.Error("it makes embeddings")
	}
	server.Close()
	if _, f := b.Chat(t.Context(), call(t, "classify", "x"), nil); f == nil || f.Kind != backend.Broken {
		t.Errorf("away: %v", f)
	}
	if b := open(t, serve(t, "key-0123456789abcdef").URL, ""); b != nil {
		if _, f := b.Chat(t.Context(), call(t, "classify", "x"), nil); f == nil {
			t.Error("without its key it answers")
		}
	}
}
