package backend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
)

// maxHeld is how many pieces are held back while none says anything: providers announce an answer before they find that they cannot give it.
const maxHeld = 16

// Stream is an answer that comes in pieces. Close it when done.
type Stream struct {
	x     *exchange
	in    provider.Stream
	held  []*chat.Chunk
	first time.Duration
	ended error
}

// Stream makes a call whose answer comes in pieces, and returns when the first one that says something has come: until then another attempt can be
// made without the caller noticing.
func (b *Backend) Stream(ctx context.Context, r *chat.Request, pass http.Header) (*Stream, *Failure) {
	media := "text/event-stream"
	if s, ok := b.o.Form.(provider.Streamer); ok {
		media = s.StreamMedia()
	}
	x, f := b.open(ctx, func(key string) (*provider.Call, error) { return b.o.Form.Call(r, key) }, pass, media)
	if f != nil {
		return nil, f
	}
	s := &Stream{x: x, in: b.o.Form.Stream(x.body)}
	for len(s.held) < maxHeld {
		c, err := s.in.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, x.end(s.failure(err))
		}
		s.held = append(s.held, clone(c))
		if says(c) {
			break
		}
	}
	s.first = b.o.Now().Sub(x.began)
	return s, nil
}

// says reports whether a piece has something of the answer.
func says(c *chat.Chunk) bool {
	for i := range c.Choices {
		if d := &c.Choices[i].Delta; d.Content != "" || d.Refusal != "" || len(d.ToolCalls) > 0 || c.Choices[i].FinishReason != nil {
			return true
		}
	}
	return false
}

// clone copies a piece, which is good only until the next one.
func clone(c *chat.Chunk) *chat.Chunk {
	out := *c
	out.Raw, out.Choices = bytes.Clone(c.Raw), slices.Clone(c.Choices)
	return &out
}

// First is how long the first piece that says something took, from the call on.
func (s *Stream) First() time.Duration { return s.first }

// Next returns the next piece, which is good until the next call. The error is io.EOF at the end of a complete answer, or a *Failure.
func (s *Stream) Next() (*chat.Chunk, error) {
	if len(s.held) > 0 {
		c := s.held[0]
		s.held = s.held[1:]
		return c, nil
	}
	if s.ended != nil {
		return nil, s.ended
	}
	c, err := s.in.Next()
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, io.EOF):
		s.ended = io.EOF
		s.x.end(nil)
	default:
		s.ended = s.x.end(s.failure(err))
	}
	return nil, s.ended
}

// failure is what a stream's error means.
func (s *Stream) failure(err error) *Failure {
	b := s.x.b
	var e *chat.Error
	switch {
	case errors.As(err, &e):
		said := *e
		said.Message = b.mask(said.Message)
		f := b.broken(http.StatusBadGateway, "reports an error within its stream", &said)
		f.Err = &said
		if said.Status < 500 {
			f.Err.Status = http.StatusBadGateway
		}
		return f
	case errors.Is(err, io.ErrUnexpectedEOF):
		return s.x.failed(err, "has paused within its stream for "+b.o.Idle.String(), "broke off its stream")
	}
	return s.x.failed(err, "has paused within its stream for "+b.o.Idle.String(), "sends a stream that is not understood, or broke it off")
}

// Close ends the call at the server, if it is not over.
func (s *Stream) Close() {
	if s.ended == nil {
		s.ended = s.x.end(&Failure{Kind: Gone, Err: &chat.Error{Status: http.StatusGatewayTimeout, Type: chat.ErrorServer, Message: "the caller has gone"}})
	}
}
