package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// form writes answers in the form of an endpoint.
type form interface {
	// whole is an answer that is not streamed.
	whole(*chat.Response) ([]byte, error)
	// piece is what a piece of a stream becomes, as whole events; nil for nothing. It is good until the next call.
	piece(*chat.Chunk) ([]byte, error)
	// end is what ends a complete stream.
	end() ([]byte, error)
	// failed is the event that says that the stream breaks off.
	failed(*chat.Error) []byte
}

// chatForm writes chat completions.
type chatForm struct {
	told bool // the usage is told in the last piece
	buf  []byte
}

func (f *chatForm) whole(r *chat.Response) ([]byte, error) {
	if r.Raw != nil {
		return r.Raw, nil
	}
	return json.Marshal(r)
}

func (f *chatForm) piece(c *chat.Chunk) ([]byte, error) {
	if !f.told && c.Usage != nil {
		if len(c.Choices) == 0 {
			return nil, nil // only we asked
		}
		bare := *c // some servers tell it with the last piece of the answer
		bare.Usage, bare.Raw = nil, nil
		c = &bare
	}
	data := c.Raw
	if data == nil {
		var err error
		if data, err = json.Marshal(c); err != nil {
			return nil, err
		}
	}
	f.buf = appendEvent(f.buf[:0], "", data)
	return f.buf, nil
}

func (f *chatForm) end() ([]byte, error) { return []byte("data: [DONE]\n\n"), nil }

func (f *chatForm) failed(e *chat.Error) []byte {
	data, err := json.Marshal(map[string]any{"error": e})
	if err != nil {
		return nil // the connection is closed, which says it too
	}
	return appendEvent(nil, "", data)
}

// appendEvent writes an event; data has a line each.
func appendEvent(buf []byte, name string, data []byte) []byte {
	if name != "" {
		buf = append(append(append(buf, "event: "...), name...), '\n')
	}
	buf = append(buf, "data: "...)
	for _, b := range data {
		switch b {
		case '\n':
			buf = append(buf, "\ndata: "...)
		case '\r': // only between values of JSON, where it says nothing
		default:
			buf = append(buf, b)
		}
	}
	return append(buf, '\n', '\n')
}

// chat has a call answered.
func (c *call) chat(r *chat.Request, f form) *chat.Error {
	c.asked = r.Model
	if err := c.a.unknown(r); err != nil {
		return err
	}
	route, err := c.a.o.Chooser.Chat(c.caller, c.q.Header, r)
	if err != nil {
		return err
	}
	bill, leave, err := c.admit(route, func(n *counter) int { return n.Request(r) }, r.MaxTokens)
	if err != nil {
		return err
	}
	defer leave()
	if r.Stream {
		return c.stream(r, f, bill)
	}
	answer, err := c.cachedOr(r, func() (*chat.Response, *chat.Error) { return c.whole(r) })
	if err != nil {
		bill.end(c, chat.Usage{})
		return err
	}
	if answer.Usage == nil {
		answer.Usage = c.guess(bill, r, said(answer))
	}
	if c.cached {
		c.usage = nil
		bill.end(c, chat.Usage{})
	} else {
		c.usage = answer.Usage
		bill.end(c, *answer.Usage)
	}
	b, e := f.whole(answer)
	if e != nil {
		return &chat.Error{Status: http.StatusBadGateway, Type: chat.ErrorServer, Message: "the answer cannot be written"}
	}
	return c.write(b)
}

// admit waits for the turn of a call that goes this way, and for the caller's bounds to allow it; leave must be called after it.
func (c *call) admit(route Route, prompt func(*counter) int, answer int) (b *bill, leave func(), err *chat.Error) {
	c.route = route
	if leave, err = c.a.o.Queue.enter(c.ctx, route.Priority, c.w.Header()); err != nil {
		return nil, nil, err
	}
	if b, err = c.a.o.Books.begin(c, prompt, answer); err != nil {
		leave()
		return nil, nil, err
	}
	return b, leave, nil
}

// whole asks for an answer that is not streamed.
func (c *call) whole(r *chat.Request) (answer *chat.Response, err *chat.Error) {
	pass := c.headers()
	err = c.ask(func(to Candidate) *backend.Failure {
		q := *r
		q.Model = to.Model
		var f *backend.Failure
		answer, f = to.Backend.Chat(c.ctx, &q, pass)
		return f
	})
	return answer, err
}

// said is the text of an answer.
func said(r *chat.Response) string {
	var b strings.Builder
	for i := range r.Choices {
		m := &r.Choices[i].Message
		b.WriteString(m.Content.Text())
		for j := range m.ToolCalls {
			b.WriteString(m.ToolCalls[j].Function.Name + m.ToolCalls[j].Function.Arguments)
		}
	}
	return b.String()
}

// guess counts where the server does not tell.
func (c *call) guess(b *bill, r *chat.Request, answer string) *chat.Usage {
	u := &chat.Usage{PromptTokens: b.prompt}
	n := c.a.counter
	if u.PromptTokens == 0 {
		u.PromptTokens = n.Request(r)
	}
	u.CompletionTokens = n.Text(answer)
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

// write writes an answer that is not streamed.
func (c *call) write(b []byte) *chat.Error {
	c.names()
	c.begun = true
	begin(c.w, http.StatusOK, "application/json")
	_ = c.control.SetWriteDeadline(time.Now().Add(c.a.o.Idle)) // where it fails the write tells
	if _, err := c.w.Write(b); err != nil {
		return gone()
	}
	return nil
}

// names tells the caller who answers.
func (c *call) names() {
	h := c.w.Header()
	if c.used.Backend != nil {
		h.Set("X-Quickthorn-Backend", c.used.Backend.Name())
	}
	if c.cached {
		h.Set("X-Quickthorn-Cache", "hit")
	}
	if why := c.route.Why; why != "" && len(why) < 500 && !strings.ContainsFunc(why, func(r rune) bool { return r < ' ' || r > '~' }) {
		h.Set("X-Quickthorn-Why", why)
	}
}

func gone() *chat.Error {
	return &chat.Error{Status: statusGone, Type: chat.ErrorServer, Message: "the caller has gone"}
}

// stream passes an answer on as it comes.
func (c *call) stream(r *chat.Request, f form, b *bill) *chat.Error {
	var s *backend.Stream
	pass := c.headers()
	err := c.ask(func(to Candidate) (failure *backend.Failure) {
		q := *r
		q.Model = to.Model
		s, failure = to.Backend.Stream(c.ctx, &q, pass)
		return failure
	})
	if err != nil {
		b.end(c, chat.Usage{})
		return err
	}
	defer s.Close()
	c.first = c.a.o.Now().Sub(c.began)
	c.names()
	c.begun = true
	begin(c.w, http.StatusOK, "text/event-stream")
	var text strings.Builder
	defer func() {
		if c.usage == nil { // it broke off, or the server does not tell
			c.usage = c.guess(b, r, text.String())
		}
		b.end(c, *c.usage)
	}()
	for {
		piece, e := s.Next()
		var out []byte
		switch {
		case errors.Is(e, io.EOF):
			if out, e = f.end(); e == nil {
				return c.send(out)
			}
		case e == nil:
			if piece.Usage != nil {
				u := *piece.Usage
				c.usage = &u
			}
			collect(&text, piece)
			b.note(text.Len())
			if out, e = f.piece(piece); e == nil {
				if err := c.send(out); err != nil {
					return err
				}
				continue
			}
		}
		broken := &chat.Error{Status: http.StatusBadGateway, Type: chat.ErrorServer, Message: "the answer cannot be written"}
		var failure *backend.Failure
		if errors.As(e, &failure) {
			broken = failure.Err
			if failure.Kind == backend.Gone && c.q.Context().Err() != nil {
				return gone()
			}
		}
		if err := c.send(f.failed(broken)); err != nil {
			return err
		}
		return broken
	}
}

// maxCollected bounds what is kept of an answer for counting it, in bytes.
const maxCollected = 1 << 20

// collect keeps what a piece says.
func collect(text *strings.Builder, c *chat.Chunk) {
	if text.Len() > maxCollected {
		return
	}
	for i := range c.Choices {
		d := &c.Choices[i].Delta
		text.WriteString(d.Content)
		for j := range d.ToolCalls {
			text.WriteString(d.ToolCalls[j].Function.Name)
			text.WriteString(d.ToolCalls[j].Function.Arguments)
		}
	}
}

// send writes events at once, which the caller may not take for ever to read.
func (c *call) send(events []byte) *chat.Error {
	if len(events) == 0 {
		return nil
	}
	_ = c.control.SetWriteDeadline(time.Now().Add(c.a.o.Idle)) // where it fails the write tells
	if _, err := c.w.Write(events); err != nil {
		return gone()
	}
	if err := c.control.Flush(); err != nil {
		return gone()
	}
	return nil
}

// embed has texts embedded.
func (c *call) embed(r *chat.EmbeddingRequest) *chat.Error {
	c.asked = r.Model
	route, err := c.a.o.Chooser.Embed(c.caller, c.q.Header, r)
	if err != nil {
		return err
	}
	bill, leave, err := c.admit(route, func(n *counter) int { return n.Embedding(r) }, -1)
	if err != nil {
		return err
	}
	defer leave()
	var answer *chat.EmbeddingResponse
	pass := c.headers()
	err = c.ask(func(to Candidate) *backend.Failure {
		q := *r
		q.Model = to.Model
		var f *backend.Failure
		answer, f = to.Backend.Embed(c.ctx, &q, pass)
		return f
	})
	if err != nil {
		bill.end(c, chat.Usage{})
		return err
	}
	if answer.Usage == nil {
		n := c.a.counter.Embedding(r)
		answer.Usage = &chat.Usage{PromptTokens: n, TotalTokens: n}
	}
	c.usage = answer.Usage
	bill.end(c, *answer.Usage)
	if answer.Raw != nil {
		return c.write(answer.Raw)
	}
	b, e := json.Marshal(answer)
	if e != nil {
		return &chat.Error{Status: http.StatusBadGateway, Type: chat.ErrorServer, Message: "the answer cannot be written"}
	}
	return c.write(b)
}
