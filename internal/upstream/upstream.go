package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config describes one upstream. The zero value of every field but URL means
// its default; a negative value is an error.
type Config struct {
	// URL says where the upstream listens and what it speaks:
	//
	//	http://host[:port]     HTTP/1.1
	//	https://host[:port]    HTTP/1.1 over TLS
	//	h2c://host[:port]      HTTP/2 without TLS; upgrades go over HTTP/1.1 to the same port
	//	unix:/path/to.sock     HTTP/1.1 over a Unix socket
	//
	// A path, query or user in it is an error: the client's own target is sent.
	URL string
	// ConnectTimeout bounds name look-up, connecting and the TLS handshake. Default 5 s.
	ConnectTimeout time.Duration
	// ResponseHeaderTimeout bounds the wait for the answer's header, from when
	// the request was sent in full. Default 2 min.
	ResponseHeaderTimeout time.Duration
	// SendTimeout bounds how long the upstream may refuse to take any more of a
	// request. Default 1 min.
	SendTimeout time.Duration
	// ContinueTimeout is how long a client that sent "Expect: 100-continue" is
	// kept waiting for an upstream that does not know the expectation. Default 1 s.
	ContinueTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept. An upstream that
	// announces less by "Keep-Alive: timeout=" gets its way. Default 1 min.
	IdleTimeout time.Duration
	// HalfCloseTimeout is how long an upgraded connection of which one side has
	// ended its half may stay silent before it is closed. Default 30 s.
	HalfCloseTimeout time.Duration
	// MaxIdle is the most unused connections that are kept. Default 512.
	MaxIdle int
	// MaxResponseHeaderBytes bounds the answer's header section, and its trailer
	// section. Default 256 KiB, at least 1 KiB.
	MaxResponseHeaderBytes int
	// OmitVia leaves out the "Via: 1.1 quickthorn" that RFC 9110 §7.6.3 asks of a
	// gateway. Some servers change their behaviour when they see it: nginx stops
	// compressing unless "gzip_proxied any" is set.
	OmitVia bool
	// TLS is the configuration for https; nil verifies the host's certificate
	// against the system's roots. It is cloned.
	TLS *tls.Config
}

// withDefaults returns c with the defaults filled in.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"ConnectTimeout", &c.ConnectTimeout, 5 * time.Second},
		{"ResponseHeaderTimeout", &c.ResponseHeaderTimeout, 2 * time.Minute},
		{"SendTimeout", &c.SendTimeout, time.Minute},
		{"ContinueTimeout", &c.ContinueTimeout, time.Second},
		{"IdleTimeout", &c.IdleTimeout, time.Minute},
		{"HalfCloseTimeout", &c.HalfCloseTimeout, 30 * time.Second},
	} {
		if *d.v < 0 {
			return c, fmt.Errorf("%s is negative", d.name)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.MaxIdle < 0 {
		return c, errors.New("MaxIdle is negative")
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 512
	}
	if c.MaxResponseHeaderBytes == 0 {
		c.MaxResponseHeaderBytes = 256 << 10
	}
	if c.MaxResponseHeaderBytes < 1<<10 {
		return c, errors.New("MaxResponseHeaderBytes is less than 1024")
	}
	return c, nil
}

// Options are what the caller changes about one request. The zero value
// forwards it as it came. The request's own header is never modified; a caller
// that owns the request may delete fields from it instead of using Drop.
type Options struct {
	// Target is the request-target to send, byte for byte. Default: the client's.
	Target string
	// Host is the Host field to send. Default: the client's.
	Host string
	// Set are fields sent in place of any of the same name, compared so that
	// "X_Real_Ip" does not slip past "X-Real-Ip". An empty value removes the
	// field. Fields that belong to one hop or frame the message cannot be set.
	Set []Field
	// Drop, if not nil, reports which fields, named in canonical form, are not
	// sent. It is asked for trailer fields too, and twice for a name with
	// underscores: once with hyphens in their place. For trailer fields it is
	// called from another goroutine.
	Drop func(name string) bool
	// OnHeader, if not nil, may change the answer's header before it is sent to
	// the client. It is called once, with the final status or 101, and must not
	// touch Content-Length, Transfer-Encoding or Connection.
	OnHeader func(status int, h http.Header)
}

// Result is what became of one request.
type Result struct {
	Status         int           // the upstream's status code, 0 if it gave none
	Bytes          int64         // bytes of body (of an upgraded connection: of stream) sent to the client
	HeaderDuration time.Duration // from the call until the answer's header, 0 if there was none
	Started        bool          // the answer's header was handed to the client
	Upgraded       bool          // the connection was switched to another protocol
	Failure        Failure       // FailureNone if the request was answered in full
}

// Upstream is one origin server. Its methods may be called concurrently.
type Upstream struct {
	cfg    Config
	host   string // for a request without Host
	dial   func(context.Context) (net.Conn, error)
	pool   *pool
	h2c    *http.Transport // nil unless the upstream speaks h2c
	h2addr string
}

// New returns the upstream that cfg describes. It does not connect. The caller
// must Close it.
func New(cfg Config) (*Upstream, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.URL, err)
	}
	u := &Upstream{cfg: c}
	if err := u.resolve(c.URL); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.URL, err)
	}
	u.pool = newPool(c.MaxIdle)
	return u, nil
}

// resolve sets up how to connect.
func (u *Upstream) resolve(raw string) error {
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
			return errors.New("a Unix socket needs an absolute path: unix:/run/app.sock")
		}
		u.host = "localhost"
		u.dial = u.dialer("unix", path)
		return nil
	}
	p, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return err
	}
	ports := map[string]string{"http": "80", "h2c": "80", "https": "443"}
	port, known := ports[p.Scheme]
	switch {
	case !known:
		return errors.New("the scheme must be http, https, h2c or unix, as in http://127.0.0.1:3000")
	case p.Hostname() == "" || !allOf(p.Host, hostByte):
		return errors.New("the host is missing or not valid")
	case p.User != nil || p.RawQuery != "" || p.Fragment != "" || p.Path != "" && p.Path != "/":
		return errors.New("only scheme, host and port may be given: the client's path and query are sent as they are")
	}
	if p.Port() != "" {
		port = p.Port()
	}
	addr := net.JoinHostPort(p.Hostname(), port)
	u.host = p.Host
	u.dial = u.dialer("tcp", addr)
	switch p.Scheme {
	case "https":
		tc := u.cfg.TLS.Clone()
		if tc == nil {
			tc = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if tc.ServerName == "" {
			tc.ServerName = p.Hostname()
		}
		tc.NextProtos = []string{"http/1.1"}
		u.dial = u.dialerTLS(u.dial, tc)
	case "h2c":
		u.h2addr = addr
		u.h2c = u.transport(addr)
	}
	return nil
}

// dialer connects within ConnectTimeout.
func (u *Upstream) dialer(network, addr string) func(context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: u.cfg.ConnectTimeout}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, addr) }
}

// dialerTLS adds a handshake to dial, within the same time.
func (u *Upstream) dialerTLS(dial func(context.Context) (net.Conn, error), tc *tls.Config) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, u.cfg.ConnectTimeout)
		defer cancel()
		nc, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		tconn := tls.Client(nc, tc)
		if err := tconn.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return tconn, nil
	}
}

// Close closes the idle connections. Requests under way go on and their
// connections are closed after them; they end with their contexts.
func (u *Upstream) Close() {
	u.pool.close()
	if u.h2c != nil {
		u.h2c.CloseIdleConnections()
	}
}

// Forward sends r to the upstream and the answer to w. A nil o stands for the
// zero Options.
//
// If the request was not answered in full the error is an [*Error], and the
// Result carries its Failure and whether the answer had Started. If it had not,
// w is untouched and the caller answers; if it had, the caller must abort the
// connection (panic with [http.ErrAbortHandler]).
//
// Forward returns when nothing of the request is under way any more, for an
// upgraded connection when both its sides have ended. It ends early when r's
// context does. A request is sent a second time only if a kept connection broke
// before the first byte of an answer, its method is idempotent, and its body is
// still at hand.
func (u *Upstream) Forward(w http.ResponseWriter, r *http.Request, o *Options) (Result, error) {
	if o == nil {
		o = &Options{}
	}
	x := exchange{u: u, w: w, r: r, ctx: r.Context(), begun: time.Now()}
	err := x.run(o)
	if err == nil {
		return x.res, nil
	}
	e := fail(x.ctx, FailureResponse, err)
	e.Started = x.res.Started
	x.res.Failure = e.Failure
	return x.res, e
}

func (x *exchange) run(o *Options) error {
	if err := x.q.prepare(x.r, o, x.u.host); err != nil {
		return &Error{Failure: FailureRequest, Err: err}
	}
	if !x.u.cfg.OmitVia {
		x.q.via = viaFor(x.r)
	}
	if x.u.h2c != nil && x.q.upgrade == "" {
		return x.roundTripH2()
	}
	return x.roundTripH1()
}

// viaFor returns the Via element: the version of the protocol received, and our name.
func viaFor(r *http.Request) string {
	switch {
	case r.ProtoMajor == 2:
		return "2.0 quickthorn"
	case r.ProtoMajor == 3:
		return "3.0 quickthorn"
	case r.ProtoMinor == 0:
		return "1.0 quickthorn"
	}
	return "1.1 quickthorn"
}
