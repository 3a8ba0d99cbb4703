package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// transport returns the HTTP/2 client for addr.
func (u *Upstream) transport(addr string) *http.Transport {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:              &p,
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return u.dialH2(ctx) },
		DisableCompression:     true,
		IdleConnTimeout:        u.cfg.IdleTimeout,
		ResponseHeaderTimeout:  u.cfg.ResponseHeaderTimeout,
		ExpectContinueTimeout:  u.cfg.ContinueTimeout,
		MaxResponseHeaderBytes: int64(u.cfg.MaxResponseHeaderBytes),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, WriteByteTimeout: u.cfg.SendTimeout},
	}
}

// dialError marks an error as one of connecting.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

func (u *Upstream) dialH2(ctx context.Context) (net.Conn, error) {
	c, err := u.dial(ctx)
	if err != nil {
		return nil, dialError{err}
	}
	return c, nil
}

// roundTripH2 forwards the request over HTTP/2.
func (x *exchange) roundTripH2() error {
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()

	interim := &interimRelay{w: x.w, on: x.r.ProtoAtLeast(1, 1)}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: interim.relay})
	out, body, err := x.requestH2(ctx)
	if err != nil {
		return &Error{Failure: FailureRequest, Err: err}
	}
	if body != nil {
		defer body.end()
	}
	res, err := x.u.h2c.RoundTrip(out)
	interim.end()
	if err != nil {
		return x.failureH2(err, body)
	}
	defer res.Body.Close()
	x.res.Status, x.res.HeaderDuration = res.StatusCode, time.Since(x.begun)
	defer cancel() // before Close, or it waits for an upload to end
	return x.answerH2(res, body)
}

// requestH2 makes the outgoing request. Its body, if it has one, is returned too.
func (x *exchange) requestH2(ctx context.Context) (*http.Request, *sharedBody, error) {
	q := &x.q
	// Opaque is sent as it is; with a scheme and host before it where it would
	// be taken for a network path.
	opaque := q.target
	if strings.HasPrefix(opaque, "//") {
		opaque = "//" + q.host + opaque
	}
	out := &http.Request{
		Method: x.r.Method,
		URL:    &url.URL{Scheme: "http", Host: x.u.h2addr, Opaque: opaque},
		Host:   q.host,
		Header: make(http.Header, len(x.r.Header)+len(q.o.Set)+2),
		Proto:  "HTTP/2.0", ProtoMajor: 2,
	}
	h := out.Header
	for name, values := range x.r.Header {
		if !q.keeps(name) {
			continue
		}
		if name == "" || !allOf(name, tokenByte) {
			return nil, nil, fmt.Errorf("field name %.60q is not a token", name)
		}
		for _, v := range values {
			if !allOf(v, valueByte) {
				return nil, nil, fmt.Errorf("control character in field %.60q", name)
			}
		}
		h[name] = values
	}
	for _, f := range q.o.Set {
		if f.Value == "" {
			continue
		}
		if f.Name == "" || !allOf(f.Name, tokenByte) || isHop(f.Name) || !allOf(f.Value, valueByte) {
			return nil, nil, fmt.Errorf("field %.60q cannot be set", f.Name)
		}
		h[f.Name] = append(h[f.Name], f.Value)
	}
	if q.via != "" {
		h["Via"] = append(append([]string(nil), h["Via"]...), q.via)
	}
	if q.te {
		h["Te"] = []string{"trailers"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would say it is the client
	}
	var body *sharedBody
	if q.body != bodyNone {
		if q.expect {
			h["Expect"] = []string{"100-continue"}
		}
		body = &sharedBody{x: x}
		out.ContentLength = x.r.ContentLength
		out.Body = body
		if q.body == bodyChunked {
			out.Trailer = make(http.Header, len(q.trailer))
			for _, name := range q.trailer {
				out.Trailer[name] = nil
			}
			body.trailer = out.Trailer
		}
	}
	return out.WithContext(ctx), body, nil
}

// failureH2 explains an error of RoundTrip.
func (x *exchange) failureH2(err error, body *sharedBody) *Error {
	if body != nil {
		body.end()
		if body.err != nil {
			return bodyFailure(x.ctx, body.err)
		}
	}
	var dial dialError
	switch {
	case errors.As(err, &dial) && isTimeout(err):
		return fail(x.ctx, FailureTimeout, dial.error)
	case errors.As(err, &dial):
		return fail(x.ctx, FailureConnect, dial.error)
	case isTimeout(err):
		return fail(x.ctx, FailureTimeout, err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed):
		return fail(x.ctx, FailureReset, err)
	}
	return fail(x.ctx, FailureResponse, err)
}

// answerH2 relays the final answer.
func (x *exchange) answerH2(res *http.Response, body *sharedBody) error {
	header := x.w.Header()
	for name, values := range res.Header {
		if !isHop(name) || name == "Content-Length" {
			header[name] = append(header[name], values...)
		}
	}
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // or net/http would guess one
	}
	announced := make([]string, 0, len(res.Trailer))
	for name := range res.Trailer {
		if trailerAllowed(name) {
			announced = append(announced, name)
		}
	}
	if len(announced) > 0 {
		header["Trailer"] = []string{strings.Join(announced, ", ")}
		if x.r.ProtoMajor == 1 && x.r.Method != http.MethodHead {
			delete(header, "Content-Length") // HTTP/1 has trailers after chunks only
		}
	}
	if x.r.ProtoMajor == 1 && body != nil && !body.read.Load() {
		header["Connection"] = []string{"close"} // as in answer
	}
	if x.q.o.OnHeader != nil {
		x.q.o.OnHeader(res.StatusCode, header)
	}
	x.w.WriteHeader(res.StatusCode)
	x.res.Started = true

	bodyless := x.r.Method == http.MethodHead || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified
	if !bodyless {
		if err := x.relayH2(res); err != nil {
			return err
		}
	}
	trailer := http.Header{}
	for name, values := range res.Trailer {
		if trailerAllowed(name) && len(values) > 0 {
			trailer[name] = values
		}
	}
	if len(trailer) > 0 {
		x.sendTrailer(trailer, announced)
	}
	return nil
}

// relayH2 relays the body. The end of a read says nothing about whether more is
// there already, so what has no length is sent on after each.
func (x *exchange) relayH2(res *http.Response) error {
	slab := largeBuffers.Get().(*[]byte)
	defer largeBuffers.Put(slab)
	rc := http.NewResponseController(x.w)
	left := res.ContentLength
	if left < 0 {
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fail(x.ctx, FailureClientGone, err)
		}
	}
	for {
		n, rerr := res.Body.Read(*slab)
		if n > 0 {
			if err := x.write((*slab)[:n]); err != nil {
				return err
			}
			left -= int64(n)
			// A short piece of a long answer is the sign of a slow one.
			if rerr == nil && (res.ContentLength < 0 || left > 0 && n < bufferSize/4) {
				if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
					return fail(x.ctx, FailureClientGone, err)
				}
			}
		}
		switch {
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return fail(x.ctx, FailureResponse, rerr)
		}
	}
}

// interimRelay relays interim answers, which come in another goroutine.
type interimRelay struct {
	mu sync.Mutex
	w  http.ResponseWriter
	on bool
}

func (i *interimRelay) relay(code int, h textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	// 100 is sent by the first read of the body.
	if !i.on || code == http.StatusContinue {
		return nil
	}
	in := head{status: code}
	for name, values := range h {
		if isHop(name) {
			continue
		}
		for _, v := range values {
			in.fields = append(in.fields, Field{name, v})
		}
	}
	relayInterim(i.w, &in)
	return nil
}

// end lets no more through.
func (i *interimRelay) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.on = false
}

// sharedBody lends the client's body to the transport, which may hold on to it
// for longer than the exchange lasts, and takes it back.
type sharedBody struct {
	x       *exchange
	trailer http.Header // to be filled at the end of the body, nil without
	read    atomic.Bool // the body was read to its end
	ended   atomic.Bool

	mu   sync.Mutex // held while reading
	over bool
	err  error // of reading the client's body
}

// Read reads the client's body until end is called.
func (b *sharedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.ended.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.x.r.Body.Read(p)
	switch {
	case err == io.EOF:
		b.read.Store(true)
		if b.trailer != nil {
			for name, values := range b.x.r.Trailer {
				if b.x.q.trailerField(name) {
					b.trailer[name] = values
				}
			}
		}
	case err != nil && !b.ended.Load():
		b.err = err
	}
	return n, err
}

// Close is the transport's; the client's body is closed by the server it came from.
func (b *sharedBody) Close() error {
	return nil
}

// end takes the body back: when it returns no read is under way or will be.
func (b *sharedBody) end() {
	b.ended.Store(true)
	done := make(chan struct{})
	if b.mu.TryLock() {
		close(done)
	} else {
		go func() { // interruptRead waits for it
			b.mu.Lock()
			close(done)
		}()
		interruptRead(http.NewResponseController(b.x.w), done)
	}
	b.over = true
	b.mu.Unlock()
	if b.x.r.ProtoMajor == 1 && !b.read.Load() && b.x.res.Started {
		_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Now().Add(linger)) // as in stopUpload
	}
}
