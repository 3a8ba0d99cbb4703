// Package backend asks one server of language models, in the form that it speaks: a provider, a local server, or cloud-proxy.
//
// It makes one attempt. Around it are bounds on the size of an answer, on how long the server may keep us waiting, and on how many calls it has at
// once; a circuit breaker; and the server's keys, of which the one that is refused or used up rests. A key comes back in nothing: not in an answer, an
// error, the log or a metric. Redirects are not followed: they would take key and prompt somewhere else.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Bounds where the options name none.
const (
	DefaultInFlight = 256
	DefaultTimeout  = 5 * time.Minute // an answer that is not streamed begins when it is complete, which takes minutes without a graphics card
	defaultIdle     = time.Minute
	defaultResponse = 16 << 20
	defaultStream   = 256 << 20 // a hundred thousand tokens come as 40 MB of events
)

const (
	maxHeader = 64 << 10 // of an answer, in bytes
	maxError  = 64 << 10 // of an error's body

	breakAfter = 5                // failures in a row
	breakFor   = 30 * time.Second // until one call tries again
)

// Key is one of a server's keys.
type Key struct {
	Secret string
	Weight int // its share of the calls; 0 is 1
}

// Options are the settings of a Backend. Name, Form, Base, Log and Now are required.
type Options struct {
	Name        string // in metrics, logs and explanations
	Form        provider.Provider
	Base        string // "https://api.openai.com/v1"
	Keys        []Key  // none: calls go without
	MaxInFlight int    // calls at once; 0: DefaultInFlight
	MaxResponse int64  // bytes of an answer that is not streamed, held in memory; 0: 16 MiB
	MaxStream   int64  // bytes of a streamed answer; 0: 256 MiB
	Timeout     time.Duration
	Idle        time.Duration // for the next piece of an answer; 0: 1 min
	// Transport connects; nil: a plain one that knows no proxy. One of net/http is copied, with the limits of this package.
	Transport http.RoundTripper
	Metrics   *Metrics // nil: none
	Log       *slog.Logger
	Now       func() time.Time
	Random    func() float64 // in [0,1); nil: math/rand's
}

// Backend is one server. It is safe for concurrent use.
type Backend struct {
	o         Options
	base      string
	transport http.RoundTripper
	breaker   *gobreaker.TwoStepCircuitBreaker[struct{}]
	slots     chan struct{}
	state     *telemetry.State
	latency   atomic.Int64 // nanoseconds until an answer begins, smoothed; 0: not known

	mu   sync.Mutex // guards keys' rests
	keys []key
}

type key struct {
	text   string
	weight int
	until  time.Time // it rests
	why    string
	kind   Kind
}

// New returns a back end; the error names the option that is wrong. It connects to nothing yet.
func New(o Options) (*Backend, error) {
	base, err := ParseBase(o.Base)
	if err != nil {
		return nil, err
	}
	if o.MaxInFlight < 0 || o.Timeout < 0 || o.Idle < 0 || o.MaxResponse < 0 || o.MaxStream < 0 {
		return nil, errors.New("a bound is negative")
	}
	setTo(&o.MaxInFlight, DefaultInFlight)
	setTo(&o.Timeout, DefaultTimeout)
	setTo(&o.Idle, defaultIdle)
	setTo(&o.MaxResponse, defaultResponse)
	setTo(&o.MaxStream, defaultStream)
	if o.Random == nil {
		o.Random = rand.Float64
	}
	b := &Backend{
		o: o, base: base, transport: transport(o.Transport), slots: make(chan struct{}, o.MaxInFlight),
		state: telemetry.NewState(o.Log.With("backend", o.Name), "calls of a language model fail", "calls of the language model are answered again", o.Now),
	}
	for i, k := range o.Keys {
		for j := range len(k.Secret) {
			if k.Secret[j] <= ' ' || k.Secret[j] > '~' {
				return nil, fmt.Errorf("key %d: character %d of %d is a space, a line break or none of ASCII, which no key holds", i+1, j+1, len(k.Secret))
			}
		}
		if k.Secret == "" || k.Weight < 0 {
			return nil, fmt.Errorf("key %d: it is empty, or has a negative weight", i+1)
		}
		b.keys = append(b.keys, key{text: k.Secret, weight: max(k.Weight, 1)})
	}
	b.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: o.Name, Timeout: breakFor, ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool { return err == nil }, IsExcluded: func(err error) bool { return errors.Is(err, errNothing) },
	})
	if o.Metrics != nil {
		o.Metrics.add(b)
	}
	return b, nil
}

// errNothing tells the breaker that a call says nothing of the server.
var errNothing = errors.New("the caller went away")

func setTo[T int | int64 | time.Duration](v *T, unset T) {
	if *v == 0 {
		*v = unset
	}
}

// ParseBase checks the base of an API and returns it without a slash at its end. No error shows it: some put a key into it.
func ParseBase(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", errors.New("base: it is not like https://api.example.com/v1")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errors.New("base: it must have no user, no ? and no #; a key has a setting of its own")
	}
	base := strings.TrimRight(text, "/")
	if end := "/chat/completions"; strings.HasSuffix(base, end) {
		return "", fmt.Errorf("base: leave the %s at its end out", end)
	}
	return base, nil
}

// transport returns a transport of the back end's own.
func transport(given http.RoundTripper) http.RoundTripper {
	var t *http.Transport
	switch g := given.(type) {
	case nil:
		t = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
			ForceAttemptHTTP2: true,
			// Without asking, a connection that has gone would be found out by the first call's time-out.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		}
	case *http.Transport:
		t = g.Clone()
		t.ResponseHeaderTimeout = 0 // the back end's own is meant for models
	default:
		return given
	}
	t.MaxResponseHeaderBytes = maxHeader
	// A packed answer could not be bounded, or searched for the key, without being unpacked.
	t.DisableCompression = true
	return t
}

// Close closes the connections that no call uses. Calls in flight go on.
func (b *Backend) Close() {
	if t, ok := b.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Name is the back end's name.
func (b *Backend) Name() string { return b.o.Name }

// InFlight is how many calls are under way.
func (b *Backend) InFlight() int { return len(b.slots) }

// Latency is the time until an answer begins, as the last calls had it; 0: not known.
func (b *Backend) Latency() time.Duration { return time.Duration(b.latency.Load()) }

// Ready is nil while calls have a chance; the error says what is wrong.
func (b *Backend) Ready() error {
	if b.breaker.State() == gobreaker.StateOpen {
		return fmt.Errorf("it failed %d times in a row, and is left alone for %s", breakAfter, breakFor)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.keys) == 0 {
		return nil
	}
	now, why := b.o.Now(), ""
	for i := range b.keys {
		if !b.keys[i].until.After(now) {
			return nil
		}
		why = b.keys[i].why
	}
	return errors.New(why)
}

// pick takes one of the keys that do not rest and are not in used, by weight. -1: there is none; then rest is the one that is back first.
func (b *Backend) pick(used map[int]bool) (i int, rest key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, total := b.o.Now(), 0
	for j := range b.keys {
		k := &b.keys[j]
		switch {
		case k.until.After(now):
			if rest.text == "" || k.until.Before(rest.until) {
				rest = *k
			}
		case !used[j]:
			total += k.weight
		}
	}
	if total == 0 {
		return -1, rest
	}
	at := int(b.o.Random() * float64(total))
	for j := range b.keys {
		k := &b.keys[j]
		if k.until.After(now) || used[j] {
			continue
		}
		if at -= k.weight; at < 0 {
			return j, rest
		}
	}
	return -1, rest
}

// lay has a key rest.
func (b *Backend) lay(i int, f *Failure, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[i].until, b.keys[i].why, b.keys[i].kind = b.o.Now().Add(d), f.Err.Message, f.Kind
}

// mask replaces every key in a text.
func (b *Backend) mask(text string) string {
	for i := range b.keys { // texts never change
		if k := b.keys[i].text; len(k) >= minSecret {
			text = strings.ReplaceAll(text, k, "***")
		}
	}
	return text
}

// note smooths the time until an answer begins.
func (b *Backend) note(d time.Duration) {
	old := b.latency.Load()
	if old == 0 {
		b.latency.Store(int64(d))
		return
	}
	b.latency.Store(old + (int64(d)-old)/8) // of two at once one is lost, which does not matter
}

// Chat makes a call whose answer comes whole.
func (b *Backend) Chat(ctx context.Context, r *chat.Request, pass http.Header) (*chat.Response, *Failure) {
	return whole(ctx, b, pass, func(key string) (*provider.Call, error) { return b.o.Form.Call(r, key) }, b.o.Form.Response)
}

// Embeds reports whether the server makes vectors of texts.
func (b *Backend) Embeds() bool {
	_, ok := b.o.Form.(provider.Embedder)
	return ok
}

// Embed makes vectors of texts.
func (b *Backend) Embed(ctx context.Context, r *chat.EmbeddingRequest, pass http.Header) (*chat.EmbeddingResponse, *Failure) {
	e, ok := b.o.Form.(provider.Embedder)
	if !ok {
		return nil, &Failure{Kind: Unable, Err: &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Param: "model", Message: b.o.Name + " makes no embeddings"}}
	}
	return whole(ctx, b, pass, func(key string) (*provider.Call, error) { return e.Embed(r, key) },
		func(body []byte) (*chat.EmbeddingResponse, error) { return e.Embeddings(r, body) })
}

// whole makes a call whose answer comes whole and is read by read.
func whole[T any](ctx context.Context, b *Backend, pass http.Header, write func(key string) (*provider.Call, error), read func([]byte) (*T, error)) (*T, *Failure) {
	x, f := b.open(ctx, write, pass, "application/json")
	if f != nil {
		return nil, f
	}
	body, f := x.whole()
	if f != nil {
		return nil, x.end(f)
	}
	answer, err := read(body)
	if err != nil {
		return nil, x.end(b.broken(http.StatusBadGateway, "answers with what is not understood", err))
	}
	x.end(nil)
	return answer, nil
}
