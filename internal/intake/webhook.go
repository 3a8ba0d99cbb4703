package intake

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
)

// WebhookPrefix begins the name of the edge in events from the webhook.
const WebhookPrefix = "webhook:"

// Source is another web server that reports its requests.
type Source struct {
	Name string
	Site string // that its events belong to
	// Client says where the client's address is: "client" for the field of that name (or a log's first
	// field), or a header such as "X-Forwarded-For" that the trusted hops have written. Empty: the source does not vouch for
	// it, and its events lead to no decision.
	Client  string
	Trusted []netip.Prefix    // hops whose word in that header is believed; the field "client" is then the last hop
	Format  *accesslog.Format // of lines of text; nil: JSON only
}

// WebEvent is one request as another web server reports it. What a server does not know it leaves out.
type WebEvent struct {
	ID       string            `json:"id,omitempty"` // anything that names the request once and for all, at most 128 bytes: sent again, it is counted once
	Time     time.Time         `json:"time,omitzero"`
	Client   string            `json:"client"` // address that the server talked to
	Method   string            `json:"method"`
	Host     string            `json:"host,omitempty"`
	Target   string            `json:"target"` // path and query as received
	Protocol string            `json:"protocol,omitempty"`
	Scheme   string            `json:"scheme,omitempty"`
	Agent    *string           `json:"agent,omitempty"`    // "" when the client sent none
	Referrer *string           `json:"referrer,omitempty"` // likewise
	Headers  map[string]string `json:"headers,omitempty"`
	Complete bool              `json:"headersComplete,omitempty"` // headers holds all that the client sent
	Status   int               `json:"status"`
	Bytes    int64             `json:"bytes,omitempty"`    // of the body
	Duration float64           `json:"duration,omitempty"` // seconds
}

// WebhookAPI takes events from other web servers:
//
//	POST /v1/webhook/{source}
//
// The body is one WebEvent (application/json), many (application/x-ndjson), or lines of an access log (text/plain) in the
// source's format; packed by gzip or zstd if it says so. The answer is as that of POST /v1/events. An Idempotency-Key header makes a
// whole body safe to send again where the events have no ids of their own.
type WebhookAPI struct {
	Service  *Service
	Sources  []Source
	Profiler *profile.Profiler
	Policy   func() *policy.Policy // for the classes of paths
}

// Register adds the route.
func (a *WebhookAPI) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/webhook/{source}", a.receive)
}

// Vouched reports whether the event's source answers for the client's address. Edges always do.
func Vouched(sources []Source) func(e *defense.Event) bool {
	vouched := map[string]bool{}
	for i := range sources {
		vouched[WebhookPrefix+sources[i].Name] = sources[i].Client != ""
	}
	return func(e *defense.Event) bool {
		return !strings.HasPrefix(e.Edge, WebhookPrefix) || vouched[e.Edge]
	}
}

func (a *WebhookAPI) receive(w http.ResponseWriter, r *http.Request) {
	s, from := a.Service, a.source(r.PathValue("source"))
	if from == nil {
		private.Problem(w, http.StatusNotFound, "no such source: name it under intake.sources")
		return
	}
	// The key of one source must not speak for another.
	if who := auth.Caller(r.Context()); who != auth.Operator && who != auth.SourcePrefix+from.Name {
		private.Problem(w, http.StatusForbidden, fmt.Sprintf("the key is that of %q, not of this source", who))
		return
	}
	c, err := a.converter(from, r.Header.Get("Idempotency-Key"))
	if err != nil {
		s.o.Log.Error("webhook", "error", err)
		private.Problem(w, http.StatusInternalServerError, "The source is set wrongly. The log says why.")
		return
	}
	var each func(line []byte)
	switch {
	case hasType(r, "application/json", "application/x-ndjson"):
		each = c.json
	case hasType(r, "text/plain") && from.Format != nil:
		parse := from.Format.NewParser()
		each = func(line []byte) { c.log(parse, line) }
	default:
		private.Problem(w, http.StatusUnsupportedMediaType, "send application/json, application/x-ndjson or, if the source has a format, text/plain")
		return
	}
	b, err := s.receive(w, r)
	if err != nil {
		s.bodyProblem(w, r, err)
		return
	}
	defer b.release()
	if hasType(r, "application/json") {
		c.line(bytes.TrimSpace(b.plain), each)
	} else if err := lines(b.plain, func(line []byte) { c.line(line, each) }); err != nil {
		s.bodyProblem(w, r, err)
		return
	}
	receipt, err := s.accept(r.Context(), WebhookPrefix+from.Name, c.events, nil)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.reject(&receipt, c.rejected)
	accepted(w, receipt)
}

// lines calls fn for every line that is not empty.
func lines(plain []byte, fn func(line []byte)) error {
	n := 0
	for line := range bytes.Lines(plain) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if n++; n > MaxBatchEvents {
			return fmt.Errorf("%w: at most %d events", errTooMuch, MaxBatchEvents)
		}
		fn(line)
	}
	return nil
}

// line adds the event of a line.
func (c *converter) line(line []byte, each func([]byte)) {
	if len(line) > maxLine {
		c.reject(fmt.Sprintf("larger than %d bytes", maxLine))
		return
	}
	each(line)
}

func (a *WebhookAPI) source(name string) *Source {
	for i := range a.Sources {
		if a.Sources[i].Name == name {
			return &a.Sources[i]
		}
	}
	return nil
}

// converter makes events of what one body reports.
type converter struct {
	a        *WebhookAPI
	source   *Source
	clients  *clientaddr.Resolver // nil: the field itself is the client
	key      string               // Idempotency-Key
	now      time.Time
	profile  defense.Profile
	signals  []defense.Signal
	events   []*defense.Event
	rejected []Rejected
	n        int
}

func (a *WebhookAPI) converter(s *Source, key string) (*converter, error) {
	c := &converter{a: a, source: s, key: key, now: a.Service.o.Now()}
	if s.Client != "" && s.Client != "client" {
		var err error
		if c.clients, err = clientaddr.New(clientaddr.Config{Trusted: s.Trusted, Headers: []string{s.Client}}); err != nil {
			return nil, fmt.Errorf("source %q: %w", s.Name, err)
		}
	}
	return c, nil
}

func (c *converter) reject(problem string) {
	c.rejected = append(c.rejected, Rejected{c.n, problem})
	c.n++
}

// json adds one WebEvent.
func (c *converter) json(text []byte) {
	var in WebEvent
	if err := strictJSON(text, &in); err != nil {
		c.reject("not an event: " + err.Error() + "; send one event, or application/x-ndjson with one a line")
		return
	}
	client, err := netip.ParseAddr(in.Client)
	switch {
	case err != nil:
		c.reject(fmt.Sprintf("client: %q is not an IP address", shortened(in.Client)))
		return
	case in.Method == "" || !strings.HasPrefix(in.Target, "/"):
		c.reject("method and target are needed; the target begins with /")
		return
	case in.Status < 100 || in.Status > 999:
		c.reject("status: a number from 100 to 999")
		return
	case in.Bytes < 0 || !(in.Duration >= 0 && in.Duration <= maxSeconds):
		c.reject("bytes and duration: 0 or more, of a day at most")
		return
	case len(in.ID) > 128:
		c.reject("id: at most 128 bytes")
		return
	case in.Time.IsZero() && (in.ID != "" || c.key != ""):
		c.reject("time: is missing; without it the same event sent again would be another one")
		return
	case in.Time.IsZero():
		in.Time = c.now
	}
	e := profile.LogEntry{
		Time: in.Time, Client: client, Method: in.Method, Target: in.Target, Protocol: in.Protocol, Host: in.Host, Scheme: in.Scheme,
		UserAgent: reported(in.Agent), Referer: reported(in.Referrer), Complete: in.Complete,
	}
	if len(in.Headers) > 0 || in.Complete {
		e.Header = make(http.Header, len(in.Headers))
		for name, v := range in.Headers {
			e.Header.Set(name, v)
		}
	}
	c.add(e, in.ID, in.Status, in.Bytes, time.Duration(in.Duration*float64(time.Second)))
}

func reported(s *string) defense.Text {
	if s == nil {
		return defense.Text{}
	}
	return defense.Observed(*s, *s != "")
}

// maxSeconds is the longest duration that is believed.
const maxSeconds = 86400

// log adds one line of an access log.
func (c *converter) log(p *accesslog.Parser, line []byte) {
	var e accesslog.Entry
	if err := p.Parse(line, &e); err != nil {
		c.reject("not a line of this source's format: " + err.Error())
		return
	}
	c.add(e.LogEntry, "", e.Status, e.Bytes, e.Duration)
}

// add makes the event of one request.
func (c *converter) add(l profile.LogEntry, id string, status int, size int64, took time.Duration) {
	if c.clients != nil {
		l.Client, _ = c.clients.Client(l.Client, l.Header)
	}
	if !l.Client.IsValid() {
		c.reject("the client's address is missing")
		return
	}
	p := &c.profile
	c.a.Profiler.FromLog(p, l)
	p.Site = c.source.Site
	p.Class = c.a.Policy().Section(p.Host).Class(p)
	c.signals = profile.Signals(c.signals[:0], p)
	score := 0
	for i := range c.signals {
		score += c.signals[i].Weight
	}
	e := defense.EventOf(p)
	e.ID, e.Edge = c.id(id, &l), WebhookPrefix+c.source.Name
	e.Signals = append([]defense.Signal(nil), c.signals...)
	e.Verdict = defense.EventVerdict{Score: defense.ClampScore(score), Reason: "reported by another server"}
	e.Response = defense.EventResponse{Status: status, Bytes: size, Duration: max(0, took.Seconds())}
	problem := checkEvent(e)
	if problem == "" {
		problem = checkAhead(e, c.now.Add(maxAhead))
	}
	if problem != "" {
		c.reject(problem)
		return
	}
	record.Bound(e) // its strings share memory with the body
	c.events = append(c.events, e)
	c.n++
}

// id makes the event's ULID from what names the request, so that the same report has the same id. Without a
// name, the key of the whole body and the place in it will do, and without both the content itself does not: two
// requests may be alike in everything that is logged, so each report then counts.
func (c *converter) id(name string, l *profile.LogEntry) string {
	var u ulid.ULID
	if err := u.SetTime(uint64(max(0, l.Time.UnixMilli()))); err != nil {
		return "" // refused by checkEvent
	}
	h := sha256.New()
	switch {
	case name != "":
		fmt.Fprintf(h, "id\x00%s\x00%s", c.source.Name, name)
	case c.key != "":
		fmt.Fprintf(h, "key\x00%s\x00%s\x00%d", c.source.Name, c.key, c.n)
	default:
		return c.a.Service.o.NewID()
	}
	if err := u.SetEntropy(h.Sum(nil)[:10]); err != nil {
		return ""
	}
	return u.String()
}
