package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// exchange is one call and its answer.
type exchange struct {
	r       *Relay
	w       http.ResponseWriter
	q       *http.Request
	control *http.ResponseController
	ctx     context.Context // of the call to the server
	timer   *time.Timer     // ends ctx with errSlow
	cut     bool            // the connection of the caller is to be closed
}

// errSlow is why a call ends whose server keeps us waiting.
var errSlow = errors.New("it takes too long")

// The headers that pass. Whatever else a side needs to know is written here.
var (
	requestHeaders  = []string{"Accept", "X-Request-Id", "Traceparent"}
	responseHeaders = []string{"Retry-After", "X-Request-Id"}
)

// carry returns the code that the exchange counts under.
func (e *exchange) carry(endpoint string) int {
	r := e.r
	// The server clears it when the body has been read. When the call is refused it stays: the server then reads on for a while before it answers.
	// Where a deadline cannot be set the connection is gone, or there is none, as in a test; the read tells.
	_ = e.control.SetReadDeadline(time.Now().Add(r.o.Idle))
	if e.q.Method != http.MethodPost {
		e.w.Header().Set("Allow", http.MethodPost)
		return e.problem(http.StatusMethodNotAllowed, "This address takes POST.")
	}
	if r.o.Closed != "" {
		return e.problem(http.StatusServiceUnavailable, "%s", r.o.Closed)
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		e.w.Header().Set("Retry-After", "1")
		return e.problem(http.StatusServiceUnavailable, "%d calls are under way, which is the limit", r.o.MaxInFlight)
	}
	r.inFlight.Inc()
	defer r.inFlight.Dec()

	body, code := e.read()
	if code != 0 {
		return code
	}
	ctx, cancel := context.WithCancelCause(e.q.Context())
	defer cancel(nil)
	e.ctx, e.timer = ctx, time.AfterFunc(r.o.Timeout, func() { cancel(errSlow) })
	defer e.timer.Stop()
	call, err := e.call(endpoint, body)
	if err != nil {
		return e.problem(http.StatusInternalServerError, "the call cannot be made: the endpoint is wrong")
	}
	r.requestBytes.Add(float64(len(body)))
	resp, err := r.transport.RoundTrip(call)
	e.timer.Stop()
	if err != nil {
		return e.failed(err, "has not begun its answer within "+r.o.Timeout.String(), "cannot be reached, or does not speak HTTP; the log says why")
	}
	defer resp.Body.Close()
	return e.answer(resp)
}

// read reads the call as a whole: what is not JSON, or too long, costs the server nothing. It returns the code of the answer when it has given one.
func (e *exchange) read() (body []byte, code int) {
	limit := e.r.o.MaxRequest
	if kind, _, err := mime.ParseMediaType(e.q.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, e.problem(http.StatusUnsupportedMediaType, "send the call as application/json")
	}
	if encoded(e.q.Header) {
		return nil, e.problem(http.StatusUnsupportedMediaType, "send the call without a content coding")
	}
	if e.q.ContentLength > limit {
		return nil, e.problem(http.StatusRequestEntityTooLarge, "the call has %d bytes, more than %d", e.q.ContentLength, limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(e.w, e.q.Body, limit))
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case errors.As(err, &large):
		return nil, e.problem(http.StatusRequestEntityTooLarge, "the call has more than %d bytes", limit)
	case errors.As(err, &slow) && slow.Timeout():
		return nil, e.problem(http.StatusRequestTimeout, "the call was not complete within %s", e.r.o.Idle)
	case err != nil:
		return nil, e.abort(clientGone)
	case !json.Valid(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{':
		return nil, e.problem(http.StatusBadRequest, "the call is not an object in JSON")
	}
	return body, 0
}

// call makes the request to the server.
func (e *exchange) call(endpoint string, body []byte) (*http.Request, error) {
	call, err := http.NewRequestWithContext(e.ctx, http.MethodPost, e.r.base+endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	e.pass(call.Header, e.q.Header, requestHeaders)
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("User-Agent", "quickthorn")
	// A packed answer could not be bounded, or searched for the key, without being unpacked.
	call.Header.Set("Accept-Encoding", "identity")
	if e.r.o.Key != "" {
		call.Header.Set("Authorization", "Bearer "+e.r.o.Key)
	}
	return call, nil
}

// maxValue bounds the value of a header that passes, in bytes.
const maxValue = 256

// pass copies the named headers, of which each stands once, is short and plain, is not meant for one hop only and does not hold the key.
func (e *exchange) pass(to, from http.Header, names []string) {
	hop := "," + strings.ReplaceAll(strings.Join(from["Connection"], ","), " ", "") + ","
	for _, name := range names {
		values := from[name]
		if len(values) != 1 || len(values[0]) > maxValue || strings.ContainsFunc(values[0], func(c rune) bool { return c < ' ' || c > '~' }) {
			continue
		}
		if strings.Contains(strings.ToLower(hop), ","+strings.ToLower(name)+",") || e.r.secret.in(values[0]) {
			continue
		}
		to.Set(name, values[0])
	}
}

// encoded reports whether a body is packed.
func encoded(h http.Header) bool {
	coding := strings.Join(h["Content-Encoding"], ",")
	return coding != "" && !strings.EqualFold(coding, "identity")
}

// answer passes the server's answer on.
func (e *exchange) answer(resp *http.Response) int {
	status := resp.StatusCode
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch {
	case status == http.StatusUnauthorized:
		// The body may quote a part of the key.
		return e.trouble(http.StatusBadGateway, "refuses this service's key (it answers 401)", nil)
	case status == http.StatusForbidden:
		return e.trouble(http.StatusBadGateway, "refuses this service's key, or what is asked with it (it answers 403)", nil)
	case status >= 300 && status < 400:
		return e.trouble(http.StatusBadGateway, fmt.Sprintf("redirects (it answers %d), which is not followed: is its address right?", status), nil)
	case status < 200 || status > 599:
		return e.trouble(http.StatusBadGateway, fmt.Sprintf("answers with status %d, which is none", status), nil)
	case encoded(resp.Header):
		return e.trouble(http.StatusBadGateway, "answers with a content coding, which it was not asked for", nil)
	}
	e.pass(e.w.Header(), resp.Header, responseHeaders)
	switch {
	case kind == "text/event-stream" && status < 300:
		return e.stream(resp)
	case kind == "application/json" || kind == "application/problem+json":
		return e.whole(resp, kind)
	case status >= 400:
		return e.told(status)
	}
	return e.trouble(http.StatusBadGateway, "answers with neither JSON nor a stream of events: is its address right?", nil)
}

// told passes on that the server reports an error, where it has no document to pass on.
func (e *exchange) told(status int) int {
	return e.trouble(status, fmt.Sprintf("answers %d without a word in JSON", status), nil)
}

// whole passes on an answer that is not streamed, once it is complete.
func (e *exchange) whole(resp *http.Response, kind string) int {
	status, limit := resp.StatusCode, e.r.o.MaxResponse
	tooLarge := func() int {
		return e.trouble(http.StatusBadGateway, fmt.Sprintf("answers with more than %d bytes", limit), nil)
	}
	if resp.ContentLength > limit {
		return tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(e.paced(resp.Body), limit+1))
	switch {
	case err != nil:
		return e.failed(err, "has paused within its answer for "+e.r.o.Idle.String(), "broke off its answer")
	case int64(len(body)) > limit:
		return tooLarge()
	case !json.Valid(body) && status >= 400:
		return e.told(status)
	case !json.Valid(body):
		return e.trouble(http.StatusBadGateway, "answers with what is not JSON", nil)
	}
	e.report(status)
	e.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	e.begin(status, kind)
	m := masker{secret: e.r.secret}
	if e.write(m.next(body)) != nil || e.write(m.rest()) != nil {
		return e.abort(clientGone)
	}
	return status
}

// stream passes on an answer as it comes.
func (e *exchange) stream(resp *http.Response) int {
	status := resp.StatusCode
	e.begin(status, "text/event-stream")
	if e.write(nil) != nil { // the caller sees at once that there is an answer
		return e.abort(clientGone)
	}
	m := masker{secret: e.r.secret}
	from, buf := e.paced(resp.Body), make([]byte, 16<<10)
	for passed := int64(0); ; {
		n, err := from.Read(buf)
		passed += int64(n)
		if passed > e.r.o.MaxStream {
			return e.broken(http.StatusBadGateway, fmt.Errorf("its stream has more than %d bytes", e.r.o.MaxStream))
		}
		out := m.next(buf[:n])
		if err == io.EOF {
			out = append(out, m.rest()...)
		}
		if len(out) > 0 && e.write(out) != nil {
			return e.abort(clientGone)
		}
		switch {
		case err == io.EOF:
			e.report(status)
			return status
		case err == nil:
		case e.gone():
			return e.abort(clientGone)
		case e.slow(err):
			return e.broken(http.StatusGatewayTimeout, fmt.Errorf("its stream has paused for %s", e.r.o.Idle))
		default:
			return e.broken(http.StatusBadGateway, fmt.Errorf("its stream broke off: %w", err))
		}
	}
}

// begin writes the header of the answer.
func (e *exchange) begin(status int, kind string) {
	h := e.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	e.w.WriteHeader(status)
}

// write sends to the caller at once, who may not take for ever about it.
func (e *exchange) write(p []byte) error {
	// The server clears it after the answer. Where it fails the connection is gone, or there is none, as in a test; the write tells.
	_ = e.control.SetWriteDeadline(time.Now().Add(e.r.o.Idle))
	n, err := e.w.Write(p)
	e.r.responseBytes.Add(float64(n))
	if err != nil {
		return err
	}
	return e.control.Flush()
}

// paced returns a reader of the answer that may not keep us waiting.
func (e *exchange) paced(from io.Reader) io.Reader { return &paced{from, e.timer, e.r.o.Idle} }

type paced struct {
	from  io.Reader
	timer *time.Timer
	idle  time.Duration
}

// Read reads what there is.
func (p *paced) Read(b []byte) (int, error) {
	p.timer.Reset(p.idle)
	defer p.timer.Stop()
	return p.from.Read(b)
}

// gone reports whether the caller has gone away.
func (e *exchange) gone() bool { return e.q.Context().Err() != nil }

// slow reports whether an error comes from waiting in vain.
func (e *exchange) slow(err error) bool {
	var n net.Error
	return errors.Is(context.Cause(e.ctx), errSlow) || errors.As(err, &n) && n.Timeout()
}

// failed answers when the server did not; the two texts say what it does.
func (e *exchange) failed(err error, slow, other string) int {
	switch {
	case e.gone():
		return e.abort(clientGone)
	case e.slow(err):
		return e.trouble(http.StatusGatewayTimeout, slow, nil)
	}
	return e.trouble(http.StatusBadGateway, other, err)
}

// trouble answers with a problem that is the server's, and has the log tell of it, with its cause where there is one.
func (e *exchange) trouble(status int, what string, cause error) int {
	err := fmt.Errorf("%s %s", e.r.o.Target, what)
	if cause != nil {
		err = fmt.Errorf("%w: %s", err, e.r.secret.short(cause.Error()))
	}
	e.r.state.Report(err)
	return e.problem(status, "%s %s", e.r.o.Target, what)
}

// broken ends an answer that has begun.
func (e *exchange) broken(code int, err error) int {
	e.r.state.Report(errors.New(e.r.secret.short(err.Error())))
	return e.abort(code)
}

// report notes an answer that was passed on. What the server says of the call is no failure of the server.
func (e *exchange) report(status int) {
	if status >= 500 {
		e.r.state.Report(fmt.Errorf("%s answers %d", e.r.o.Target, status))
		return
	}
	e.r.state.Report(nil)
}
