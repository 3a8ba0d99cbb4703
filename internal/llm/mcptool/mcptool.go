// Package mcptool lets a tool of an MCP server (https://modelcontextprotocol.io, over streamable HTTP) stand where a model does: what the caller says last is
// its argument, and its text the answer. It is meant for classifiers.
package mcptool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// maxEvent bounds what the server sends at once, in bytes.
const maxEvent = 4 << 20

// Server is an MCP server whose tools answer calls that are made as to OpenAI's API: it is an http.RoundTripper for a back end. It connects at the first
// call, and anew after the connection has failed. Close it when done; it is safe for concurrent use.
type Server struct {
	url      string
	argument string
	client   *http.Client

	mu      sync.Mutex
	session *mcp.ClientSession
}

// New returns a server at a URL. argument is the name of the tools' argument; key, if not "", is sent as a bearer token.
func New(url, argument, key string) *Server {
	t := http.RoundTripper(&http.Transport{
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	})
	if key != "" {
		t = bearer{t, key}
	}
	return &Server{url: url, argument: argument, client: &http.Client{
		Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type bearer struct {
	http.RoundTripper
	key string
}

// RoundTrip adds the key.
func (b bearer) RoundTrip(q *http.Request) (*http.Response, error) {
	q = q.Clone(q.Context())
	q.Header.Set("Authorization", "Bearer "+b.key)
	return b.RoundTripper.RoundTrip(q)
}

// Close ends the session.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.session
	s.session = nil
	if session != nil {
		return session.Close()
	}
	return nil
}

// CloseIdleConnections is for backend.Backend's Close.
func (s *Server) CloseIdleConnections() {
	_ = s.Close() // the server forgets the session by itself
	s.client.CloseIdleConnections()
}

// connected is the session; one that failed is replaced.
func (s *Server) connected(ctx context.Context) (*mcp.ClientSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return s.session, nil
	}
	c := mcp.NewClient(&mcp.Implementation{Name: "quickthorn", Version: "1"}, nil)
	session, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: s.url, HTTPClient: s.client, MaxRetries: -1, DisableStandaloneSSE: true, MaxEventSize: maxEvent}, nil)
	if err != nil {
		return nil, err
	}
	s.session = session
	return session, nil
}

// drop gives up a session that has failed.
func (s *Server) drop(old *mcp.ClientSession) {
	s.mu.Lock()
	same := s.session == old
	if same {
		s.session = nil
	}
	s.mu.Unlock()
	if same {
		_ = old.Close() // it has failed
	}
}

// RoundTrip answers a chat completion by a call of the tool that its model names. Whatever else is asked is 404.
func (s *Server) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err := errors.Join(err, q.Body.Close()); err != nil {
		return nil, err
	}
	if !strings.HasSuffix(q.URL.Path, "/chat/completions") {
		return answer(q, http.StatusNotFound, "application/json", failure("an MCP tool answers chat completions only")), nil
	}
	r, err := chat.ParseRequest(body)
	if err != nil {
		return answer(q, http.StatusBadRequest, "application/json", failure(err.Error())), nil
	}
	said := ""
	for i := range r.Messages {
		if r.Messages[i].Role == chat.RoleUser {
			said = r.Messages[i].Content.Text()
		}
	}
	session, err := s.connected(q.Context())
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	result, err := session.CallTool(q.Context(), &mcp.CallToolParams{Name: r.Model, Arguments: map[string]string{s.argument: said}})
	if err != nil {
		s.drop(session)
		return nil, fmt.Errorf("calling %.80q: %w", r.Model, err)
	}
	text, err := textOf(result)
	switch {
	case err != nil:
		return nil, err
	case result.IsError:
		return answer(q, http.StatusBadGateway, "application/json", failure("the tool says: "+text)), nil
	}
	now := time.Now().Unix()
	if r.Stream {
		return answer(q, http.StatusOK, "text/event-stream", stream(r.Model, text, now)), nil
	}
	out := chat.Response{
		ID: "mcp-1", Object: chat.ObjectResponse, Created: now, Model: r.Model,
		Choices: []chat.Choice{{Message: chat.Message{Role: chat.RoleAssistant, Content: chat.Text(text)}, FinishReason: chat.FinishStop}},
	}
	b, err := json.Marshal(&out)
	if err != nil {
		return nil, err
	}
	return answer(q, http.StatusOK, "application/json", b), nil
}

// textOf is what a tool says: its texts, or its structured content in JSON where it has no text.
func textOf(r *mcp.CallToolResult) (string, error) {
	var b strings.Builder
	for _, c := range r.Content {
		if t, ok := c.(*mcp.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	if b.Len() > 0 || r.StructuredContent == nil {
		return b.String(), nil
	}
	raw, err := json.Marshal(r.StructuredContent)
	return string(raw), err
}

// stream is the answer as a stream of one piece.
func stream(model, text string, now int64) []byte {
	finish := chat.FinishStop
	piece, err := json.Marshal(&chat.Chunk{
		ID: "mcp-1", Object: chat.ObjectChunk, Created: now, Model: model,
		Choices: []chat.ChunkChoice{{Delta: chat.Delta{Role: chat.RoleAssistant, Content: text}, FinishReason: &finish}},
	})
	if err != nil {
		return nil // a stream without an end is a failure
	}
	return fmt.Appendf(nil, "data: %s\n\ndata: [DONE]\n\n", piece)
}

func failure(message string) []byte {
	b, err := json.Marshal(map[string]any{"error": &chat.Error{Message: message, Type: chat.ErrorServer}})
	if err != nil {
		return []byte(`{}`)
	}
	return b
}

func answer(q *http.Request, status int, media string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {media}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)), Request: q,
	}
}
