package edge

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/big"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/challenge/captcha"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/listen"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/testlog"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// within bounds what would otherwise hang a test. It is no expectation.
const within = 10 * time.Second

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
	gptbot  = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.3; +https://openai.com/gptbot)"
)

// setup is what a test varies of a front.
type setup struct {
	policy     string // YAML; "": the default policy
	mode       defense.Mode
	origin     http.HandlerFunc // nil: answers "origin"
	forwarder  Forwarder        // instead of origin
	upstream   upstream.Config  // time limits; the URL is the origin's unless set
	hosts      []string         // of the site; nil: all
	trusted    string           // range
	proxy      clientaddr.ProxyMode
	cert       *Certificate
	limits     Limits
	maxConn    int
	bodyIdle   time.Duration
	maxBody    int64
	delay      time.Duration // of the tarpit
	places     int           // in the tarpit
	decisions  []defense.Decision
	recordPass bool // record allowed requests as well
	observe    bool // record them as transient
	now        func() time.Time
	kinds      defense.Ladder // of challenges; zero: refresh
	provider   challenge.Captcha
	widget     captcha.Widget
}

// front is an edge that serves on a port of its own.
type front struct {
	*Edge
	server   *Server
	url      string
	ahead    atomic.Int64 // nanoseconds that the edge's clock is ahead
	set      *decision.Set
	recorder *recorder
	log      *testlog.Buffer
	served   chan error
}

// recorder keeps events in memory.
type recorder struct {
	all       bool
	transient bool // the rest too, as transient
	events    chan *defense.Event
}

func (r *recorder) Count(*defense.Verdict, string) {}
func (r *recorder) Wants(v *defense.Verdict) record.Want {
	switch {
	case r.all || v.Intended != defense.Allow:
		return record.Keep
	case r.transient:
		return record.Transient
	}
	return record.None
}
func (r *recorder) Record(e *defense.Event) { r.events <- e }

// pass lets time go by for the edge.
func (f *front) pass(d time.Duration) { f.ahead.Add(int64(d)) }

func newGate(t testing.TB, kinds defense.Ladder) *challenge.Gate {
	t.Helper()
	signer, err := clearance.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return challenge.NewGate(challenge.Options{Signer: signer, Validity: time.Hour, Budget: clearance.Budget{Minute: 60, Day: 2000}, Ladder: kinds})
}

var pages = sync.OnceValue(func() *answer.Writer {
	w, err := answer.Open("")
	if err != nil {
		panic(err)
	}
	return w
})

var profiler = sync.OnceValue(func() *profile.Profiler {
	c, err := crawler.Default()
	if err != nil {
		panic(err)
	}
	return profile.New(agent.New(c))
})

func start(t testing.TB, s setup) *front {
	t.Helper()
	noLeaks(t)
	if s.policy == "" {
		s.policy = "imports: [readers-first]"
	}
	pol, err := policy.Compile("test.yaml", []byte(s.policy), policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &front{
		set: decision.NewSet(nil), recorder: &recorder{all: s.recordPass, transient: s.observe, events: make(chan *defense.Event, 1000)}, log: &testlog.Buffer{},
		served: make(chan error, 1),
	}
	if err := f.set.Put(s.decisions...); err != nil {
		t.Fatal(err)
	}
	gauge := posture.New(posture.Config{}, time.Now())
	var config clientaddr.Config
	if s.trusted != "" {
		config.Trusted = []netip.Prefix{netip.MustParsePrefix(s.trusted)}
	}
	resolver, err := clientaddr.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.kinds == (defense.Ladder{}) {
		s.kinds = defense.Ladder{defense.ChallengeRefresh}
	}
	if s.forwarder == nil {
		if s.upstream.URL == "" {
			if s.origin == nil {
				s.origin = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "origin") }
			}
			origin := httptest.NewUnstartedServer(s.origin)
			origin.Config.DisableGeneralOptionsHandler = true
			origin.Config.ErrorLog = log.New(io.Discard, "", 0)
			origin.Start()
			t.Cleanup(origin.Close)
			s.upstream.URL = origin.URL
		}
		up, err := upstream.New(s.upstream)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(up.Close)
		s.forwarder = up
	}
	if s.bodyIdle == 0 {
		s.bodyIdle = within
	}
	gate := newGate(t, s.kinds)
	if s.provider != nil {
		gate.Captcha = s.provider
	}
	logger := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.Edge, err = New(Options{
		Name: "test", Sites: []Site{{Name: "wiki", Hosts: s.hosts, Upstream: s.forwarder}}, Clients: resolver, Profiler: profiler(),
		Engine: engine.New(engine.Options{
			Decisions: f.set, Policy: func() *policy.Policy { return pol }, Budgets: budget.New(1000), Posture: gauge.Current,
			Mode: func() defense.Mode { return s.mode },
		}),
		Gate: gate, Answers: pages(), Widget: s.widget, Posture: gauge, Recorder: f.recorder, NewID: id.New(time.Now, randv2.Uint64).Next,
		Now:      func() time.Time { return s.now().Add(time.Duration(f.ahead.Load())) },
		BodyIdle: s.bodyIdle, MaxBody: s.maxBody, TarpitDelay: s.delay, TarpitMax: s.places, Contact: "owner@example.org", Log: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.On(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.maxConn == 0 {
		s.maxConn = 1000
	}
	s.limits.Connections = f.Connections(s.maxConn)
	if s.limits.HeaderTimeout == 0 {
		s.limits.HeaderTimeout = within
	}
	wrap := func(l net.Listener) net.Listener { return resolver.Listener(l, s.proxy, within) }
	f.server = NewServer(f.Edge, l, wrap, s.cert, s.limits, logger)
	go func() { f.served <- f.server.Serve() }()
	t.Cleanup(func() {
		if err := f.server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := receive(t, f.served, "the end of Serve"); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	f.url = "http://" + f.server.Addr().String()
	if s.cert != nil {
		f.url = "https://" + f.server.Addr().String()
	}
	return f
}

// client speaks HTTP/1.1, follows no redirect and changes no body.
func (f *front) client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: within, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// request makes a request; headers are "Name: value".
func (f *front) request(t testing.TB, method, path string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", firefox)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Accept-Language", "en-US,en;q=0.5")
	for _, h := range headers {
		if h == "" {
			continue
		}
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Set(name, value)
	}
	return r
}

func do(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("body after %d bytes: %v", len(b), err)
	}
	return res, string(b)
}

// get asks once with a client of its own.
func (f *front) get(t testing.TB, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	return do(t, f.client(t), f.request(t, "GET", path, headers...))
}

// event returns the next recorded event.
func (f *front) event(t testing.TB) *defense.Event {
	t.Helper()
	return receive(t, f.recorder.events, "an event")
}

// raw is a connection that sends bytes as they are.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func (f *front) dial(t testing.TB) *raw {
	t.Helper()
	c, err := net.Dial("tcp", f.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return &raw{c, bufio.NewReader(c)}
}

func (c *raw) send(t testing.TB, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func (c *raw) answer(t testing.TB, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("reading the body after %d bytes: %v", len(b), err)
	}
	return res, string(b)
}

// ended waits for the other end to close the connection.
func (c *raw) ended(t testing.TB) {
	t.Helper()
	rest, err := io.ReadAll(c.r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stayed open; read %q", rest)
	}
}

// ask sends one request on a connection of its own.
func (f *front) ask(t testing.TB, request string) (*http.Response, string) {
	t.Helper()
	c := f.dial(t)
	defer c.Close()
	c.send(t, request)
	method, _, _ := strings.Cut(request, " ")
	return c.answer(t, method)
}

func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		t.Fatalf("waited in vain for %s", what)
	}
	panic("unreachable")
}

// eventually waits for a state that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// noLeaks fails the test if, after all its other clean-up, a goroutine of a server is still there.
func noLeaks(t testing.TB) {
	t.Cleanup(func() {
		var left string
		for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			left = ""
			buf := make([]byte, 1<<20)
			for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				if strings.Contains(g, "testing.tRunner") || strings.Contains(g, "edge.notHTTP") { // the test itself, and its listener
					continue
				}
				for _, of := range []string{"internal/edge.(*", "internal/upstream.", "internal/clientaddr.", "net/http.(*conn)", "http2serverConn"} {
					if strings.Contains(g, of) {
						left += g + "\n\n"
						break
					}
				}
			}
			if left == "" {
				return
			}
		}
		t.Errorf("goroutines left behind:\n%s", left)
	})
}

// writeCertificate makes a self-signed certificate for localhost whose subject is name.
func writeCertificate(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func certificate(t testing.TB) *Certificate {
	t.Helper()
	certFile, keyFile := writeCertificate(t, t.TempDir(), "first")
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// trusting is a TLS client's configuration that accepts what c has now.
func trusting(t testing.TB, c *Certificate) *tls.Config {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.current.Load().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{RootCAs: pool}
}

// forward is a Forwarder that is a function.
type forward func(http.ResponseWriter, *http.Request, *upstream.Options) (upstream.Result, error)

func (f forward) Forward(w http.ResponseWriter, r *http.Request, o *upstream.Options) (upstream.Result, error) {
	return f(w, r, o)
}

func deny(value string) defense.Decision {
	return defense.Decision{ID: "ban-" + value, Value: value, Action: defense.Deny, Origin: "operator", Created: time.Now()}
}

// shutdown ends the server as a termination does.
func (f *front) shutdown(t testing.TB, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return f.server.Shutdown(ctx)
}
