package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
)

// errSlow is why a call ends whose server keeps us waiting.
var errSlow = errors.New("it takes too long")

// exchange is one call that is being answered.
type exchange struct {
	b      *Backend
	caller context.Context
	ctx    context.Context // of the call to the server
	cancel context.CancelCauseFunc
	timer  *time.Timer // ends ctx with errSlow
	done   func(error) // tells the breaker
	resp   *http.Response
	began  time.Time
	body   io.Reader // paced, masked and bounded
}

// open makes the call and returns once its answer has begun, in the media type; a failed one is over.
func (b *Backend) open(ctx context.Context, write func(key string) (*provider.Call, error), pass http.Header, media string) (*exchange, *Failure) {
	select {
	case b.slots <- struct{}{}:
	default:
		return nil, &Failure{Kind: Busy, After: time.Second, Err: &chat.Error{
			Status: http.StatusServiceUnavailable, Type: chat.ErrorServer, Code: CodeBusy, Message: fmt.Sprintf("%s has %d calls under way, which is the limit", b.o.Name, cap(b.slots)),
		}}
	}
	done, err := b.breaker.Allow()
	if err != nil {
		<-b.slots
		return nil, &Failure{Kind: Broken, Err: &chat.Error{
			Status: http.StatusServiceUnavailable, Type: chat.ErrorServer, Code: CodeBusy, Message: fmt.Sprintf("%s failed %d times in a row, and is left alone for %s", b.o.Name, breakAfter, breakFor),
		}}
	}
	x := &exchange{b: b, caller: ctx, done: done, began: b.o.Now()}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.timer = time.AfterFunc(b.o.Timeout, func() { x.cancel(errSlow) })
	if f := x.begin(write, pass, media); f != nil {
		return nil, x.end(f)
	}
	return x, nil
}

// begin tries one key after the other until one is not refused.
func (x *exchange) begin(write func(key string) (*provider.Call, error), pass http.Header, media string) *Failure {
	b := x.b
	if len(b.keys) == 0 {
		return x.send(write, "", pass, media)
	}
	used := map[int]bool{}
	var last *Failure
	for {
		i, rest := b.pick(used)
		switch {
		case i < 0 && last != nil:
			return last
		case i < 0:
			f := &Failure{Kind: rest.kind, After: max(rest.until.Sub(b.o.Now()), 0), Err: &chat.Error{Status: http.StatusBadGateway, Type: chat.ErrorServer, Code: CodeRefused, Message: rest.why}}
			if f.Kind == Busy {
				f.Err.Status, f.Err.Type, f.Err.Code = http.StatusTooManyRequests, chat.ErrorRate, CodeBusy
			}
			return f
		}
		f := x.send(write, b.keys[i].text, pass, media)
		if f == nil || f.Kind != Refused && f.Kind != Busy {
			return f
		}
		d := f.After
		switch {
		case d > 0:
		case f.Kind == Refused:
			d = restRefused
		default:
			d = restBusy
		}
		if len(b.keys) > 1 || f.Kind == Refused || f.After > 0 {
			b.lay(i, f, d)
		}
		used[i], last = true, f
	}
}

// send makes the call with one key.
func (x *exchange) send(write func(key string) (*provider.Call, error), key string, pass http.Header, media string) *Failure {
	b := x.b
	call, err := write(key)
	if err != nil {
		var e *chat.Error
		if errors.As(err, &e) {
			return &Failure{Kind: Unable, Err: e}
		}
		return &Failure{Kind: Caller, Err: &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Message: "the call cannot be written for " + b.o.Name}}
	}
	q, err := http.NewRequestWithContext(x.ctx, http.MethodPost, b.base+call.Path, bytes.NewReader(call.Body))
	if err != nil {
		return &Failure{Kind: Caller, Err: &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Param: "model", Message: "the model's name cannot be a part of an address"}}
	}
	q.Header = call.Header
	for name, values := range pass {
		q.Header[name] = values
	}
	q.Header.Set("User-Agent", "quickthorn")
	q.Header.Set("Accept", media)
	if d, ok := x.ctx.Deadline(); ok {
		q.Header.Set(DeadlineHeader, strconv.FormatInt(max(d.Sub(b.o.Now()).Milliseconds(), 1), 10))
	}
	x.timer.Reset(b.o.Timeout)
	sent := time.Now()
	resp, err := b.transport.RoundTrip(q)
	x.timer.Stop()
	if err != nil {
		return x.failed(err, "has not begun its answer within "+b.o.Timeout.String(), "cannot be reached, or does not speak HTTP; the log says why")
	}
	x.resp = resp
	x.body = &paced{x, io.LimitReader(&masked{from: resp.Body, m: masker{secret: secretOf(key)}}, b.o.MaxStream+1)}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	coding := strings.Join(resp.Header["Content-Encoding"], ",")
	var f *Failure
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		var body []byte
		if kind == "application/json" || kind == "application/problem+json" {
			body, _ = io.ReadAll(io.LimitReader(x.body, maxError)) // without words the status speaks
		}
		f = b.judge(resp, body)
	case coding != "" && !strings.EqualFold(coding, "identity"):
		f = b.broken(http.StatusBadGateway, "answers with a content coding, which it was not asked for", nil)
	case kind == media:
		b.note(time.Since(sent))
		return nil
	case media != "application/json":
		f = b.broken(http.StatusBadGateway, "answers with no stream of events", nil)
	default:
		f = b.broken(http.StatusBadGateway, "answers with no JSON: is its address right?", nil)
	}
	_ = resp.Body.Close() // the failure is what counts
	x.resp = nil
	return f
}

// DeadlineHeader tells a server for how many more milliseconds its answer is waited for. Only the gateway's own services know it.
const DeadlineHeader = "X-Request-Timeout-Ms"

// end frees what the call holds, once, and tells the breaker how it went; it returns f.
func (x *exchange) end(f *Failure) *Failure {
	if x.done == nil {
		return f
	}
	b := x.b
	x.timer.Stop()
	x.cancel(nil)
	if x.resp != nil {
		_ = x.resp.Body.Close() // all of it that counts was read
	}
	switch {
	case f == nil:
		b.state.Report(nil)
		x.done(nil)
	case f.Kind == Broken:
		x.done(f)
	case f.Kind == Gone || f.Kind == Unable:
		x.done(errNothing)
	default:
		x.done(nil)
	}
	x.done = nil
	<-b.slots
	b.o.Metrics.ended(b.o.Name, f, b.o.Now().Sub(x.began))
	return f
}

// whole reads an answer that is not streamed.
func (x *exchange) whole() ([]byte, *Failure) {
	b, limit := x.b, x.b.o.MaxResponse
	large := func() *Failure {
		return b.broken(http.StatusBadGateway, fmt.Sprintf("answers with more than %d bytes", limit), nil)
	}
	if x.resp.ContentLength > limit {
		return nil, large()
	}
	var buf bytes.Buffer
	if n := x.resp.ContentLength; n > 0 {
		buf.Grow(int(n) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(x.body, limit+1))
	switch {
	case err != nil:
		return nil, x.failed(err, "has paused within its answer for "+b.o.Idle.String(), "broke off its answer")
	case n > limit:
		return nil, large()
	}
	return buf.Bytes(), nil
}

// failed is the failure of a connection; the two texts say what the server does.
func (x *exchange) failed(err error, slow, other string) *Failure {
	var n net.Error
	switch {
	case x.caller.Err() != nil:
		return &Failure{Kind: Gone, Err: &chat.Error{Status: http.StatusGatewayTimeout, Type: chat.ErrorServer, Message: "the caller's time is over, or it has gone"}}
	case errors.Is(context.Cause(x.ctx), errSlow) || errors.As(err, &n) && n.Timeout():
		return x.b.broken(http.StatusGatewayTimeout, slow, nil)
	}
	return x.b.broken(http.StatusBadGateway, other, err)
}

// paced reads an answer that may not keep us waiting.
type paced struct {
	x    *exchange
	from io.Reader
}

// Read reads what there is.
func (p *paced) Read(buf []byte) (int, error) {
	p.x.timer.Reset(p.x.b.o.Idle)
	n, err := p.from.Read(buf)
	p.x.timer.Stop()
	return n, err
}
