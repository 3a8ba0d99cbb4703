package entry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// RelayOptions are the parts of a Relay.
type RelayOptions struct {
	URL         *url.URL      // of the tarpit
	Key         func() string // the edge's own key
	Connections int           // requests relayed at once
	Timeout     time.Duration // for the tarpit to begin its answer, beyond the delay that it may make
	Now         func() time.Time
	Log         *slog.Logger
}

// Relay hands clients to a tarpit in another process. A tarpit that does not answer is left alone for a while, and the edge refuses by itself.
type Relay struct {
	o        RelayOptions
	client   *http.Client
	places   chan struct{}
	until    atomic.Int64 // Unix nanoseconds: not asked before
	failures atomic.Uint64

	mu   sync.Mutex
	held context.Context // ends when whoever is held is let go
	drop context.CancelFunc
}

// pause is how long a tarpit that could not be reached is not asked again.
const pause = 5 * time.Second

// NewRelay returns a relay to o.URL.
func NewRelay(o RelayOptions) (*Relay, error) {
	if o.URL == nil || o.URL.Scheme != "http" && o.URL.Scheme != "https" || o.URL.Host == "" {
		return nil, errors.New("tarpit.url: want http://host:port")
	}
	if o.Connections <= 0 {
		return nil, errors.New("tarpit: at least one connection must be allowed")
	}
	p := &Relay{o: o, places: make(chan struct{}, o.Connections), client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 16, MaxConnsPerHost: o.Connections, IdleConnTimeout: 90 * time.Second,
			ResponseHeaderTimeout: o.Timeout, DisableCompression: true,
			// What is relayed comes slowly and in pieces: large buffers would be memory held for nothing.
			WriteBufferSize: 1 << 10, ReadBufferSize: 2 << 10,
		},
	}}
	p.held, p.drop = context.WithCancel(context.Background())
	return p, nil
}

// Release lets go whoever is held: their connections are closed.
func (p *Relay) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	p.held, p.drop = context.WithCancel(context.Background())
}

// Close ends idle connections to the tarpit.
func (p *Relay) Close() {
	p.Release()
	p.client.CloseIdleConnections()
}

// Held is how many requests are being relayed now.
func (p *Relay) Held() int { return len(p.places) }

// Failures is how often the tarpit could not be reached.
func (p *Relay) Failures() uint64 { return p.failures.Load() }

// relayed are the request headers that a tarpit gets to see: what it is asked for is in the address.
var relayed = [...]string{"Accept", "Accept-Language", "If-None-Match", "If-Modified-Since", "User-Agent"}

// Enter is Tarpit.Enter in the other process. done is always called before it returns Taken.
func (p *Relay) Enter(w http.ResponseWriter, r *http.Request, g *Guest, done func(Stay)) Refusal {
	select {
	case p.places <- struct{}{}:
	default:
		return Full
	}
	defer func() { <-p.places }()
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	p.mu.Lock()
	defer context.AfterFunc(p.held, stop)()
	p.mu.Unlock()
	r = r.WithContext(ctx)
	start := p.o.Now()
	if start.UnixNano() < p.until.Load() {
		return Full
	}
	res, err := p.ask(r, g, start)
	if err != nil {
		if r.Context().Err() != nil { // it is the client that has gone, or is let go
			done(Stay{Held: max(0, p.o.Now().Sub(start))})
			panic(http.ErrAbortHandler)
		}
		p.failures.Add(1)
		p.until.Store(p.o.Now().Add(pause).UnixNano())
		p.o.Log.Warn("the tarpit cannot be reached; the edge refuses by itself", "error", err)
		return Full
	}
	defer res.Body.Close()
	note := res.Header.Get(HeaderStay)
	res.Header.Del(HeaderStay)
	switch note {
	case "full":
		return Full
	case "spent":
		return Spent
	case "":
		p.o.Log.Warn("the tarpit's answer is none of a tarpit: is tarpit.url right, and its key?", "status", res.StatusCode)
		p.until.Store(p.o.Now().Add(pause).UnixNano())
		p.failures.Add(1)
		return Full
	}
	s := Stay{Status: res.StatusCode, Depth: depthOf(note)}
	defer func() {
		s.Held = max(0, p.o.Now().Sub(start))
		done(s)
	}()
	h := w.Header()
	for name, values := range res.Header {
		if !strings.HasPrefix(name, "Quickthorn-") && name != "Connection" && name != "Transfer-Encoding" && name != "Date" {
			h[name] = values
		}
	}
	w.WriteHeader(res.StatusCode)
	var cut bool
	s.Bytes, cut = pour(w, res)
	if cut {
		panic(http.ErrAbortHandler) // the header is out: only cutting the connection says that the rest is missing
	}
	return Taken
}

// pour hands the answer on as it comes. cut says that it ended before its end.
func pour(w http.ResponseWriter, res *http.Response) (sent int64, cut bool) {
	control := http.NewResponseController(w)
	var piece [2 << 10]byte
	if res.ContentLength < 0 { // a stream: its header is not kept back either
		if err := control.Flush(); err != nil {
			return 0, true
		}
	}
	for {
		n, err := res.Body.Read(piece[:])
		if n > 0 {
			m, werr := w.Write(piece[:n])
			sent += int64(m)
			if werr != nil {
				return sent, true
			}
			if res.ContentLength < 0 {
				if ferr := control.Flush(); ferr != nil {
					return sent, true
				}
			}
		}
		if err != nil {
			return sent, !errors.Is(err, io.EOF)
		}
	}
}

func (p *Relay) ask(r *http.Request, g *Guest, now time.Time) (*http.Response, error) {
	u := *p.o.URL
	u.Path, u.RawPath, u.RawQuery, u.ForceQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery
	if !strings.HasPrefix(u.Path, "/") {
		u.Path, u.RawPath = "/", ""
	}
	method := r.Method
	if method != http.MethodHead {
		method = http.MethodGet // whatever it sends, nobody reads it
	}
	q, err := http.NewRequestWithContext(r.Context(), method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request to the tarpit: %w", err)
	}
	q.Host = r.Host
	for _, name := range relayed {
		if v := r.Header.Get(name); v != "" {
			q.Header.Set(name, v)
		}
	}
	q.Header.Set("Accept-Encoding", "identity")
	Sign(q, g, p.o.Key(), now)
	return p.client.Do(q)
}

func depthOf(note string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(note, "depth="))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
