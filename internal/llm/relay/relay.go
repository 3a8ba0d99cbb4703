// Package relay carries a call of a language model to a server that speaks the API of OpenAI, and its answer back.
//
// It changes neither. What it adds are bounds: on the size of both, on how long either side may keep the other waiting, and on what
// passes between them. Only named headers do, in both directions; the caller's key ends here, and the key that goes on comes back in nothing:
// not in an answer, an error, the log or a metric. A redirect is not followed, since it would take key and prompt somewhere else.
package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// ChatCompletions is the endpoint for conversations, below the base of an API.
const ChatCompletions = "/chat/completions"

// Target is what kind of server a relay calls. It is the label of that name in metrics.
type Target string

// The targets.
const (
	Local    Target = "local"    // a model server of the owner's
	Cloud    Target = "cloud"    // cloud-proxy
	Provider Target = "provider" // whoever sells it
)

// String names the target in a sentence.
func (t Target) String() string {
	switch t {
	case Local:
		return "the local model"
	case Cloud:
		return "cloud-proxy"
	}
	return "the provider"
}

// Bounds where the options name none.
const (
	defaultRequest  = 4 << 20
	defaultResponse = 16 << 20
	defaultStream   = 256 << 20 // a hundred thousand tokens come as 40 MB of events
	defaultInFlight = 256
	defaultIdle     = time.Minute
)

// DefaultTimeout is how long an answer may take to begin. One that is not streamed begins when it is complete, which takes
// minutes where a processor does a graphics card's work.
const DefaultTimeout = 5 * time.Minute

// Options are the settings of a Relay. Target, Base, Log and Now are required.
type Options struct {
	Target Target
	Base   string // "https://api.openai.com/v1"; a call goes to Base plus its endpoint
	// Key is sent as a bearer token; "": none. One of 16 characters or more is kept out of whatever comes back; a shorter one
	// could be any word.
	Key string
	// Closed, if not "", is why nothing can be carried: each call is answered 503 with it.
	Closed string
	// HTTP says how to connect: its transport is used, with the limits of the relay instead of its own; nil: a plain one
	// that knows no proxy.
	HTTP        *http.Client
	MaxRequest  int64         // bytes of a call, which is held in memory; 0: 4 MiB
	MaxResponse int64         // bytes of an answer that is not streamed, which is held in memory; 0: 16 MiB
	MaxStream   int64         // bytes of a streamed answer; 0: 256 MiB
	MaxInFlight int           // calls at once; 0: 256
	Timeout     time.Duration // until the answer begins; 0: DefaultTimeout
	Idle        time.Duration // for the next piece of an answer, for the caller to take it, and for the caller to send the call; 0: 1 min
	Log         *slog.Logger
	Now         func() time.Time
}

// Relay carries calls to one server. It is safe for concurrent use, and a prometheus.Collector.
type Relay struct {
	o         Options
	base      string
	transport http.RoundTripper
	secret    secret
	slots     chan struct{}
	state     *telemetry.State
	*metrics
}

// New returns a relay; the error names the option that is wrong. It connects to nothing yet.
func New(o Options) (*Relay, error) {
	base, err := parseBase(o.Base)
	if err != nil {
		return nil, err
	}
	for i := range len(o.Key) {
		if o.Key[i] <= ' ' || o.Key[i] > '~' {
			return nil, fmt.Errorf("key: character %d of %d is a space, a line break or none of ASCII, which no key holds", i+1, len(o.Key))
		}
	}
	for _, f := range []struct {
		name  string
		value *int64
		unset int64
	}{{"maxRequest", &o.MaxRequest, defaultRequest}, {"maxResponse", &o.MaxResponse, defaultResponse}, {"maxStream", &o.MaxStream, defaultStream}} {
		if *f.value < 0 {
			return nil, fmt.Errorf("%s: %d is negative", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.unset
		}
	}
	if o.MaxInFlight < 0 || o.Timeout < 0 || o.Idle < 0 {
		return nil, fmt.Errorf("maxInFlight %d, timeout %s, idle %s: none may be negative", o.MaxInFlight, o.Timeout, o.Idle)
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = defaultInFlight
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	r := &Relay{
		o: o, base: base, transport: transport(o.HTTP), slots: make(chan struct{}, o.MaxInFlight), metrics: newMetrics(o.Target),
		state: telemetry.NewState(o.Log.With("target", string(o.Target)), "calls of a language model fail", "calls of the language model are answered again", o.Now),
	}
	if len(o.Key) >= minSecret {
		r.secret = secret(o.Key)
	}
	return r, nil
}

// parseBase checks the base of an API. No error shows it: some put a key into it.
func parseBase(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", errors.New("base: it is not like https://api.example.com/v1")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errors.New("base: it must have no user, no ? and no #; a key has a setting of its own")
	}
	base := strings.TrimRight(text, "/")
	if strings.HasSuffix(base, ChatCompletions) {
		return "", fmt.Errorf("base: leave the %s at its end out", ChatCompletions)
	}
	return base, nil
}

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

// transport returns a transport of the relay's own.
func transport(c *http.Client) http.RoundTripper {
	var t *http.Transport
	switch {
	case c == nil || c.Transport == nil:
		t = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
			ForceAttemptHTTP2: true,
			// Without asking, a connection that has gone would be found out by the first call's time-out.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		}
	default:
		given, ok := c.Transport.(*http.Transport)
		if !ok {
			return c.Transport
		}
		t = given.Clone()
		t.ResponseHeaderTimeout = 0 // the relay's own is meant for models
	}
	t.MaxResponseHeaderBytes = maxHeader
	return t
}

// Close closes the connections that no call uses. Calls in flight go on.
func (r *Relay) Close() {
	if t, ok := r.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Status codes are those of RFC 9110, and one more for the metrics: nobody is left to read it.
const clientGone = 499

// Carry carries the call to the endpoint, "/chat/completions" say, and answers it. Errors are problem documents. An answer that breaks off after it
// has begun ends in a panic with http.ErrAbortHandler, so that the caller does not take a part for the whole.
func (r *Relay) Carry(w http.ResponseWriter, q *http.Request, endpoint string) {
	e := &exchange{r: r, w: w, q: q, control: http.NewResponseController(w)}
	code := e.carry(endpoint)
	r.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	if e.cut {
		panic(http.ErrAbortHandler)
	}
}

// problem answers with a problem document.
func (e *exchange) problem(status int, format string, args ...any) int {
	private.Problem(e.w, status, fmt.Sprintf(format, args...))
	return status
}

// abort ends the exchange without another word.
func (e *exchange) abort(code int) int {
	e.cut = true
	return code
}
