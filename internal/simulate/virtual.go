package simulate

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// VirtualOptions say what is played against. Handler is required.
type VirtualOptions struct {
	// Scenario and Seed are shown in the result; they change nothing.
	Scenario string
	Seed     uint64

	// Handler answers the requests, called by one goroutine, one request at a time, with RemoteAddr set to the actor's address. It must
	// not wait in real time: an edge gets this package's [Upstream], the Clock's Now and a TarpitDelay of 0.
	Handler http.Handler
	// Clock shows the virtual time of the request that is played. Give its Now to everything that judges. Default: one of its own,
	// which nobody sees.
	Clock *Clock
	// Step, if not nil, is called at each second of virtual time, before the requests of that second, with the clock set: for what the
	// program does about each second.
	Step func(now time.Time)
	// Verdict, if not nil, says what was done with the request that was just answered; ok is false if it does not know.
	// Otherwise the answer's status tells, which cannot tell tarpitted from denied, nor observed from allowed.
	Verdict func(*Actor, *Request, *Response) (action defense.Action, ok bool)
	// Observe, if not nil, is called for each answer, in the order of the requests.
	Observe func(*Actor, *Request, *Response)

	// MaxRequests and MaxTime end the play; defaults 2,000,000 and 24 hours of virtual time.
	MaxRequests int
	MaxTime     time.Duration
}

// event is a request to be sent or an answer to be received.
type event struct {
	at       time.Duration
	order    uint64 // among events of the same time: as they came to be
	actor    *Actor
	request  *Request
	response *Response // nil: the request is to be sent
}

// agenda is a heap of events, the earliest first.
type agenda struct {
	events []*event
	orders uint64
}

func (a *agenda) Len() int { return len(a.events) }
func (a *agenda) Less(i, j int) bool {
	x, y := a.events[i], a.events[j]
	return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.order, y.order)) < 0
}
func (a *agenda) Swap(i, j int) { a.events[i], a.events[j] = a.events[j], a.events[i] }
func (a *agenda) Push(x any)    { a.events = append(a.events, x.(*event)) }
func (a *agenda) Pop() any {
	last := len(a.events) - 1
	e := a.events[last]
	a.events[last] = nil
	a.events = a.events[:last]
	return e
}

func (a *agenda) add(e *event) {
	a.orders++
	e.order = a.orders
	heap.Push(a, e)
}

// addRequests enters an actor's requests; none is sent before now.
func (a *agenda) addRequests(actor *Actor, now time.Duration, requests []*Request) {
	for _, q := range requests {
		q.At = max(q.At, now)
		a.add(&event{at: q.At, actor: actor, request: q})
	}
}

func (a *agenda) next() *event { return heap.Pop(a).(*event) }

// Virtual plays the actors in virtual time, beginning at the clock's time. The same actors and the same answers give the same play, to the
// byte. It returns what was played so far, with an error, when ctx ends.
func Virtual(ctx context.Context, o VirtualOptions, actors []*Actor) (*Result, error) {
	if len(actors) == 0 {
		return nil, ErrNobody
	}
	if o.Handler == nil {
		return nil, errors.New("virtual play: no handler")
	}
	if o.Clock == nil {
		o.Clock = NewClock(time.Date(2026, time.November, 25, 9, 0, 0, 0, time.UTC))
	}
	o.MaxRequests = cmp.Or(o.MaxRequests, 2_000_000)
	o.MaxTime = cmp.Or(o.MaxTime, 24*time.Hour)

	start := o.Clock.Now()
	t := newTally(o.Scenario, o.Seed, start, actors)
	var a agenda
	for _, actor := range actors {
		a.addRequests(actor, 0, actor.Behaviour.Start())
	}
	v := &virtual{VirtualOptions: o, start: start}
	var stepped time.Duration
	for a.Len() > 0 {
		e := a.next()
		if e.at > o.MaxTime {
			t.result.Ended = fmt.Sprintf("after %s, with actors that wanted to go on", o.MaxTime)
			break
		}
		for ; o.Step != nil && stepped <= e.at; stepped += time.Second {
			if err := ctx.Err(); err != nil {
				return t.finish(stepped), err
			}
			now := start.Add(stepped)
			o.Clock.set(now)
			o.Step(now)
		}
		if e.response != nil {
			a.addRequests(e.actor, e.at, e.actor.Behaviour.Receive(e.request, e.response))
			continue
		}
		if t.requests == o.MaxRequests {
			t.result.Ended = fmt.Sprintf("after %d requests, with actors that wanted to go on", o.MaxRequests)
			break
		}
		if err := ctx.Err(); err != nil {
			return t.finish(e.at), err
		}
		e.actor.Behaviour.Send(e.request)
		r := v.play(ctx, e.actor, e.request)
		action, known := defense.Allow, false
		if o.Verdict != nil {
			action, known = o.Verdict(e.actor, e.request, r)
		}
		t.add(e.actor, e.request, r, action, known)
		if o.Observe != nil {
			o.Observe(e.actor, e.request, r)
		}
		a.add(&event{at: r.At, actor: e.actor, request: e.request, response: r})
		t.ended = max(t.ended, r.At)
	}
	return t.finish(t.ended), nil
}

type virtual struct {
	VirtualOptions
	start time.Time
}

// encrypted is the connection of every actor that uses HTTPS.
func encrypted() *tls.ConnectionState {
	return &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, NegotiatedProtocol: "h2"}
}

// play gives one request to the handler.
func (v *virtual) play(ctx context.Context, actor *Actor, q *Request) *Response {
	sent := v.start.Add(q.At)
	v.Clock.set(sent)
	hr := &http.Request{
		Method: q.Method, URL: q.url(), Proto: q.Proto, Header: q.Header.Clone(), Host: q.Host, RequestURI: q.Target,
		RemoteAddr: net.JoinHostPort(actor.Client.String(), strconv.Itoa(20_000+int(uint64(q.At)%40_000))),
		Body:       http.NoBody,
	}
	hr.ProtoMajor, hr.ProtoMinor, _ = http.ParseHTTPVersion(q.Proto) // actors say HTTP/1.1 or HTTP/2.0
	if len(q.Body) > 0 {
		hr.Body, hr.ContentLength = io.NopCloser(bytes.NewReader(q.Body)), int64(len(q.Body))
	}
	if q.Scheme == "https" {
		hr.TLS = encrypted()
	}
	rec := &recorder{header: http.Header{}}
	cut := rec.serve(v.Handler, hr.WithContext(ctx))
	duration := v.Clock.Now().Sub(sent) + actor.RoundTrip
	r := &Response{At: q.At + duration, Duration: duration, Status: rec.status, Header: rec.sent, Body: rec.body.Bytes()}
	if cut {
		r.Status, r.Header, r.Body = 0, nil, nil
	}
	return r
}

// recorder is the other end of a connection that takes everything at once.
type recorder struct {
	header http.Header
	sent   http.Header // as it was when the status was written
	status int
	body   bytes.Buffer
}

// serve reports whether the handler cut the connection.
func (w *recorder) serve(h http.Handler, r *http.Request) (cut bool) {
	defer func() {
		if failure := recover(); failure != nil {
			if failure != http.ErrAbortHandler {
				panic(failure)
			}
			cut = true
		}
	}()
	h.ServeHTTP(w, r)
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return false
}

// Header returns the header to be sent.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader sends the header. Informational ones are dropped.
func (w *recorder) WriteHeader(status int) {
	if w.status != 0 || status < 200 {
		return
	}
	w.status, w.sent = status, w.header.Clone()
}

// Write keeps the beginning of the body.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if room := MaxBody - w.body.Len(); room > 0 {
		w.body.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}

// SetReadDeadline is for http.ResponseController: nothing here is slow.
func (w *recorder) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is for http.ResponseController: nothing here is slow.
func (w *recorder) SetWriteDeadline(time.Time) error { return nil }

// FlushError is for http.ResponseController.
func (w *recorder) FlushError() error { return nil }
