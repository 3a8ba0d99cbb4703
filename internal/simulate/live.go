package simulate

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// LiveOptions say which edge is played against. URL is required.
type LiveOptions struct {
	// Scenario and Seed are shown in the result; they change nothing.
	Scenario string
	Seed     uint64

	// URL is the edge: a scheme and host, "http://127.0.0.1:8080". What the clients believe to visit is the scenario's Origin, whose host is sent.
	URL string
	// AllowRemote allows addresses other than loopback. It is for an edge of one's own and nothing else: the simulator is a flood.
	AllowRemote bool
	// TLS is for an https URL. Default: the system's roots.
	TLS *tls.Config

	// AddressHeader is the header that carries each client's address, with X-Forwarded-Proto for its scheme: the edge must trust loopback
	// as a proxy, or all of this is one client. Default X-Forwarded-For.
	AddressHeader string
	// SourceAddresses sends no such header and gives each client an address of its own in 127.0.0.0/8 instead, which works on Linux against
	// IPv4 loopback, with a connection for each request. The scenario's Origin should then have the URL's scheme.
	SourceAddresses bool

	// MaxRequests, MaxConcurrency and Duration bound the play; defaults 100,000, 64 and 30 minutes. A request that must wait for others
	// is sent late.
	MaxRequests    int
	MaxConcurrency int
	Duration       time.Duration
	// Speed shortens all waits of the actors: 10 plays ten minutes in one. What the edge measures by its own clock, budgets and
	// intervals, is then ten times what it would be: a policy is to be tried at 1. Default 1.
	Speed float64
	// Timeout bounds one request. Default 30 s.
	Timeout time.Duration

	// Verdict and Observe are as in [VirtualOptions]; they are called by one goroutine.
	Verdict func(*Actor, *Request, *Response) (action defense.Action, ok bool)
	Observe func(*Actor, *Request, *Response)
}

func (o *LiveOptions) setDefaults() error {
	o.AddressHeader = cmp.Or(o.AddressHeader, "X-Forwarded-For")
	o.MaxRequests = cmp.Or(o.MaxRequests, 100_000)
	o.MaxConcurrency = cmp.Or(o.MaxConcurrency, 64)
	o.Duration = cmp.Or(o.Duration, 30*time.Minute)
	o.Speed = cmp.Or(o.Speed, 1)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	switch {
	case o.MaxRequests < 0, o.MaxConcurrency < 0, o.MaxConcurrency > 4096, o.Duration < 0, o.Timeout < 0:
		return errors.New("live play: bounds must be positive, and no more than 4096 requests at a time")
	case !(o.Speed > 0 && o.Speed <= 1000):
		return fmt.Errorf("speed %v: use a number above 0, at most 1000", o.Speed)
	}
	return nil
}

// RemoteError says that the target is not this computer and AllowRemote is not set.
type RemoteError struct {
	URL     string
	Address netip.Addr
}

// Error says which address is remote.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s is at %s, which is not this computer: a simulation is a flood of requests; only play it against an edge of your own, and say so", e.URL, e.Address)
}

// target is a checked address to play against.
type target struct {
	base    *url.URL
	address netip.AddrPort
}

// newTarget resolves the URL once and checks every address that its name has. Only the address that was checked is dialled afterwards, so that a
// name that changes its mind leads nowhere else.
func newTarget(ctx context.Context, o *LiveOptions) (*target, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q: use a scheme, host and port such as http://127.0.0.1:8080", o.URL)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", o.URL, err)
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", o.URL, err)
	}
	var chosen netip.Addr
	for _, a := range addresses {
		a = a.Unmap()
		if !a.IsLoopback() && !o.AllowRemote {
			return nil, &RemoteError{o.URL, a}
		}
		if !chosen.IsValid() || a.Is4() && !chosen.Is4() {
			chosen = a
		}
	}
	if !chosen.IsValid() {
		return nil, fmt.Errorf("find %s: it has no address", o.URL)
	}
	if o.SourceAddresses && (runtime.GOOS != "linux" || !chosen.Is4() || !chosen.IsLoopback()) {
		return nil, fmt.Errorf("%s: clients can have source addresses of their own on Linux and against 127.0.0.0/8 only; use the address header", o.URL)
	}
	return &target{u, netip.AddrPortFrom(chosen, uint16(number))}, nil
}

// live plays in real time. One goroutine, the caller's, runs all actors; each request has a goroutine of its own until it is answered.
type live struct {
	LiveOptions
	target  *target
	client  *http.Client
	sources map[*Actor]netip.Addr
	begun   time.Time
}

// answer is an answer on its way back to its actor.
type answer struct {
	actor    *Actor
	request  *Request
	response *Response
}

// Live plays the actors over HTTP in real time, until they have done or a bound is met; in both cases the result says so. It returns what
// was played so far, with an error, when ctx ends. All requests have ended when it returns.
func Live(ctx context.Context, o LiveOptions, actors []*Actor) (*Result, error) {
	if len(actors) == 0 {
		return nil, ErrNobody
	}
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	target, err := newTarget(ctx, &o)
	if err != nil {
		return nil, err
	}
	l := &live{LiveOptions: o, target: target, begun: time.Now()}
	l.connect(actors)
	defer l.client.CloseIdleConnections()

	t := newTally(o.Scenario, o.Seed, l.begun.UTC(), actors)
	var waiting agenda
	for _, actor := range actors {
		waiting.addRequests(actor, 0, actor.Behaviour.Start())
	}

	bounded, cancel := context.WithTimeout(ctx, o.Duration)
	defer cancel()
	answers := make(chan answer)
	var sending sync.WaitGroup
	inFlight, sent := 0, 0
	receive := func(a answer) {
		inFlight--
		if a.response.Status == 0 && bounded.Err() != nil {
			return // cut off by the end of the play: it says nothing of the edge
		}
		action, known := defense.Allow, false
		if o.Verdict != nil {
			action, known = o.Verdict(a.actor, a.request, a.response)
		}
		t.add(a.actor, a.request, a.response, action, known)
		if o.Observe != nil {
			o.Observe(a.actor, a.request, a.response)
		}
		waiting.addRequests(a.actor, a.response.At, a.actor.Behaviour.Receive(a.request, a.response))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for bounded.Err() == nil && (waiting.Len() > 0 || inFlight > 0) {
		var due <-chan time.Time
		if waiting.Len() > 0 && inFlight < o.MaxConcurrency {
			now := l.now()
			if e := waiting.events[0]; e.at <= now {
				if sent == o.MaxRequests {
					t.result.Ended = fmt.Sprintf("after %d requests, with actors that wanted to go on", sent)
					break
				}
				waiting.next()
				e.request.At = now // as it is sent, not as it was wished
				e.actor.Behaviour.Send(e.request)
				inFlight, sent = inFlight+1, sent+1
				sending.Go(func() { answers <- answer{e.actor, e.request, l.send(bounded, e.actor, e.request)} })
				// Nothing is waited for as long as there is something to send.
				select {
				case a := <-answers:
					receive(a)
				default:
				}
				continue
			} else {
				timer.Reset(time.Duration(float64(e.at-now)/o.Speed) + time.Microsecond)
				due = timer.C
			}
		}
		select {
		case a := <-answers:
			receive(a)
		case <-due:
		case <-bounded.Done():
		}
	}
	if bounded.Err() != nil && ctx.Err() == nil && (waiting.Len() > 0 || inFlight > 0) {
		t.result.Ended = fmt.Sprintf("after %s, with actors that wanted to go on", o.Duration)
	}
	for inFlight > 0 {
		receive(<-answers)
	}
	sending.Wait()
	return t.finish(l.now()), ctx.Err()
}

// now is the scenario's time.
func (l *live) now() time.Duration {
	return time.Duration(float64(time.Since(l.begun)) * l.Speed)
}

func (l *live) connect(actors []*Actor) {
	tr := &http.Transport{
		Proxy: nil, // whatever the environment says
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: 10 * time.Second}
			if a, ok := ctx.Value(sourceKey{}).(netip.Addr); ok {
				d.LocalAddr = &net.TCPAddr{IP: a.AsSlice()}
			}
			return d.DialContext(ctx, "tcp", l.target.address.String())
		},
		TLSClientConfig: l.TLS, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: l.MaxConcurrency, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		DisableKeepAlives:      l.SourceAddresses, // a connection belongs to one client
		MaxResponseHeaderBytes: 256 << 10,
	}
	l.client = &http.Client{Transport: tr, Timeout: l.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if !l.SourceAddresses {
		return
	}
	// From 127.1.0.1 on, each address of the scenario has one of ours.
	l.sources = make(map[*Actor]netip.Addr, len(actors))
	given := map[netip.Addr]netip.Addr{}
	next := netip.AddrFrom4([4]byte{127, 1, 0, 1})
	for _, a := range actors {
		s, ok := given[a.Client]
		if !ok {
			s, next = next, next.Next()
			given[a.Client] = s
		}
		l.sources[a] = s
	}
}

// sourceKey is under which a request's context has the address to dial from.
type sourceKey struct{}

// send sends one request and reads the answer. A failure is an answer of status 0.
func (l *live) send(ctx context.Context, actor *Actor, q *Request) *Response {
	header := q.Header.Clone()
	if l.SourceAddresses {
		ctx = context.WithValue(ctx, sourceKey{}, l.sources[actor])
	} else {
		header.Set(l.AddressHeader, actor.Client.String())
		header.Set("X-Forwarded-Proto", q.Scheme)
	}
	u := q.url()
	u.Scheme, u.Host = l.target.base.Scheme, l.target.base.Host
	r := &Response{}
	hr, err := http.NewRequestWithContext(ctx, q.Method, u.String(), bytes.NewReader(q.Body))
	if err == nil {
		hr.Header, hr.Host = header, q.Host
		var res *http.Response
		if res, err = l.client.Do(hr); err == nil {
			r.Status, r.Header = res.StatusCode, res.Header
			r.Body, err = readBody(res)
		}
	}
	if err != nil {
		*r = Response{}
	}
	r.At = l.now()
	r.Duration = r.At - q.At
	return r
}

// readBody reads and decodes what may be looked at of a body. The rest of a longer one is not read: the connection is closed.
// A body in a coding that is not known (brotli) is empty.
func readBody(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	var body io.Reader = io.LimitReader(res.Body, MaxBody)
	switch coding := strings.ToLower(res.Header.Get("Content-Encoding")); coding {
	case "", "identity":
		return io.ReadAll(body)
	case "gzip", "deflate", "zstd":
		raw, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		return decode(coding, raw), nil
	}
	_, err := io.Copy(io.Discard, body)
	return nil, err
}

// decode returns the beginning of a compressed text, as much of it as is whole.
func decode(coding string, raw []byte) []byte {
	var r io.Reader
	var err error
	switch coding {
	case "gzip":
		r, err = gzip.NewReader(bytes.NewReader(raw))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(raw))
	default:
		var d *zstd.Decoder
		if d, err = zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(16<<20)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(r, MaxBody)) // cut off in the middle is as good as a page cut off
	return text
}
