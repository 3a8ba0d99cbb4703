// Package edge is the reverse proxy that readers never notice: it finds out who
// asks, has the engine judge, and forwards or answers.
//
// The whole way of a request is ServeHTTP, to be read from top to bottom. The
// rule that must never break: nothing in it waits for a store, a lock held
// across I/O or another service of ours. Events leave by a queue that drops rather than blocks.
package edge

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/challenge/captcha"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/language"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/session"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
	"github.com/quickthorn/quickthorn/internal/trap"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// Recorder takes what is to be remembered. None of its methods may block.
type Recorder interface {
	Count(v *defense.Verdict, site string)
	Wants(v *defense.Verdict) record.Want
	Record(e *defense.Event)
}

// Tarpit keeps clients busy. Enter answers the request, and returns Taken, or writes nothing; done is then called once, with what it cost, before Enter
// returns or later. Held is how many are in it by way of this edge, or in all.
type Tarpit interface {
	Enter(w http.ResponseWriter, r *http.Request, g *entry.Guest, done func(entry.Stay)) entry.Refusal
	Held() int
}

// Options are the parts of an edge. All are required but Tarpit, Traps, Linked, Sessions, Contact, Widget and Now.
type Options struct {
	Name     string // of this edge, in events
	Sites    []Site
	Clients  *clientaddr.Resolver
	Profiler *profile.Profiler
	Engine   *engine.Engine
	Gate     *challenge.Gate
	Answers  *answer.Writer
	Widget   captcha.Widget // of the provider for kind captcha; zero if there is none
	Posture  *posture.Gauge
	Recorder Recorder
	NewID    func() string // request and event ids: ULIDs
	// Now is the clock of all that is judged and recorded; nil: time.Now. The time limits of connections have the
	// system's, whatever this one says.
	Now func() time.Time

	BodyIdle time.Duration // longest wait for the next bytes of an upload
	MaxBody  int64         // bytes; 0: no limit
	// Tarpit takes clients with a tarpit verdict in; nil, or where it refuses: they are held for TarpitDelay, but at most TarpitMax of them at
	// once, and refused.
	Tarpit      Tarpit
	TarpitDelay time.Duration
	TarpitMax   int
	// Traps knows the paths that only hidden links lead to, and keeps robots away from them by robots.txt; nil: there are none. With Linked,
	// these links are put into the pages whose path it is true for; nil: into none.
	Traps  *trap.Traps
	Linked func(path string) bool
	// Sessions proves who is logged in; nil: nobody is.
	Sessions *session.Prover

	Contact string // shown on refusals: a mail address, a URL or a sentence
	Log     *slog.Logger
}

// Edge is the HTTP handler of the public listener.
type Edge struct {
	Options
	sites       *sites
	holder      *holder
	visits      sync.Pool
	stats       stats
	descs       *descs
	connections Connections
}

// stats are counted without locks; Collector shows them.
type stats struct {
	upstreamFailures [upstream.FailureKinds]atomic.Uint64
	challenges       [challenge.Outcomes]atomic.Uint64
	issued           [8]atomic.Uint64 // by defense.ChallengeKind
	unknownHost      atomic.Uint64
	panics           atomic.Uint64
}

// New returns an edge. The error says which sites contradict each other.
func New(o Options) (*Edge, error) {
	s, err := newSites(o.Sites)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Edge{Options: o, sites: s, holder: newHolder(o.TarpitMax, o.TarpitDelay), descs: newDescs()}
	e.visits.New = func() any {
		v := &visit{edge: e}
		v.forward.OnHeader = v.answered
		return v
	}
	return e, nil
}

// visit is the memory of one request, reused.
type visit struct {
	profile defense.Profile
	verdict defense.Verdict
	scratch engine.Scratch

	edge    *Edge
	site    *site
	start   time.Time
	asked   time.Time // when the upstream was asked; zero when it has answered or was not
	peer    netip.Addr
	forward upstream.Options

	status   int
	bytes    int64
	upstream time.Duration // until the upstream's header
	held     time.Duration // before a refusal
	proof    session.Proof
	tangle   *tangle // what came of the tarpit; nil: the client was not taken in
	outcome  *defense.EventOutcome
	cookies  []string // that the answer sets, whoever makes it
	request  *http.Request
}

// reset makes v ready for a request. The scratch is left as it is: the engine
// overwrites what it uses, and clearing kilobytes for each request costs more than judging it.
func (v *visit) reset(now time.Time) {
	v.profile, v.verdict = defense.Profile{}, defense.Verdict{}
	v.site, v.start, v.asked, v.peer = nil, now, time.Time{}, netip.Addr{}
	v.status, v.bytes, v.upstream, v.held, v.outcome, v.cookies, v.request = 0, 0, 0, 0, nil, nil, nil
	v.proof, v.tangle = session.Proof{}, nil
}

// ServeHTTP is the way of a request.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := e.visits.Get().(*visit)
	v.reset(e.Now())
	defer e.leave(v)
	p := &v.profile

	if r.ContentLength != 0 {
		// Whoever answers, net/http reads some of what is left of an upload, and one that stops
		// must not hold the connection for ever. A ResponseWriter without deadlines has no slow client.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.BodyIdle))
	}

	// Who asks, and for which site.
	v.peer = peerAddress(r.RemoteAddr)
	client, _ := e.Clients.Client(v.peer, r.Header)
	e.Profiler.FromRequest(p, r, defense.NewClient(client), v.start)
	p.Scheme = e.Clients.Scheme(v.peer, r.Header, r.TLS != nil)
	if r.Method == http.MethodConnect {
		e.answer(v, w, r, answer.New(http.StatusMethodNotAllowed, language.MethodTitle, language.MethodText))
		return
	}
	if v.site = e.sites.find(p.Host); v.site == nil {
		e.stats.unknownHost.Add(1)
		e.answer(v, w, r, answer.New(http.StatusMisdirectedRequest, language.UnknownSiteTitle, language.UnknownSiteText))
		return
	}
	p.Site = v.site.Name

	// The edge's own pages.
	if strings.HasPrefix(p.Path, challenge.Prefix) {
		e.ownPage(v, w, r)
		return
	}

	// What to do with it.
	p.Trap = e.Traps != nil && e.Traps.Hit(p.Path)
	if e.Sessions != nil {
		v.proof = e.Sessions.Read(r.Header, p.Site, v.start)
		p.LoggedIn = v.proof.LoggedIn()
	}
	p.Clearance = e.Gate.Clearance(r.Header, &p.Client, p.Agent.Family, v.start)
	if target, ok := challenge.CutMark(p.Target); ok && r.Method == http.MethodPost {
		if r, ok = e.released(v, w, r, target); !ok {
			return
		}
	}
	e.Engine.Judge(p, &v.scratch, &v.verdict, nil)
	e.Recorder.Count(&v.verdict, p.Site)
	v.site.verdicts[v.verdict.Action][v.verdict.Intended].Add(1)

	switch v.verdict.Action {
	case defense.Allow, defense.Observe:
		if p.Trap { // the site has no such page
			e.answer(v, w, r, answer.New(http.StatusNotFound, language.NotFoundTitle, language.NotFoundText))
			return
		}
		e.pass(v, w, r)
	case defense.Throttle:
		a := answer.New(http.StatusTooManyRequests, language.ThrottleTitle, language.ThrottleText)
		if a.RetryAfter = v.verdict.RetryAfter; v.verdict.Rule == engine.RuleClearance {
			a.Title, a.Text, a.Count = language.SpentTitle, language.SpentText, int((a.RetryAfter+time.Second-1)/time.Second)
		}
		e.answer(v, w, r, a)
	case defense.Challenge:
		e.challenge(v, w, r)
	case defense.Tarpit:
		e.entangle(v, w, r)
	default:
		e.refuse(v, w, r)
	}
}

// pass forwards the request to the site's upstream.
func (e *Edge) pass(v *visit, w http.ResponseWriter, r *http.Request) {
	var body *idleBody
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		body = &idleBody{ReadCloser: r.Body, control: http.NewResponseController(w), idle: e.BodyIdle}
		if e.MaxBody > 0 {
			if r.ContentLength > e.MaxBody {
				e.tooLarge(v, w, r)
				return
			}
			body.ReadCloser = http.MaxBytesReader(w, r.Body, e.MaxBody)
		}
		// net/http looks at its own request's body to end a connection gently after an
		// upload that nobody wanted, so the wrapped one goes into a copy.
		r = r.WithContext(r.Context())
		r.Body = body
	}
	e.Clients.Rewrite(r.Header, v.peer, v.profile.Client.Address, v.profile.Scheme, r.Host)
	challenge.StripCookies(r.Header)
	v.request = r
	v.forward.Host = v.site.SendHost
	v.asked = e.Now()
	to, finish, release := e.filter(v, w, r)
	if release != nil {
		defer release()
	}
	e.Posture.Begin()
	res, err := v.site.Upstream.Forward(to, r, &v.forward)
	v.status, v.bytes, v.upstream = res.Status, res.Bytes, res.HeaderDuration
	kind := upstream.KindOf(err)
	if !v.asked.IsZero() { // no header came
		v.asked = time.Time{}
		e.Posture.End(e.Now(), 0, kind == upstream.FailureConnect || kind == upstream.FailureTimeout || kind == upstream.FailureReset || kind == upstream.FailureResponse)
	}
	if err == nil {
		if finish != nil && finish() != nil {
			panic(http.ErrAbortHandler) // the client is gone, or the upstream's page is damaged: it must not pass for whole
		}
		return
	}
	e.stats.upstreamFailures[kind].Add(1)
	if kind != upstream.FailureClientGone {
		e.Log.Debug("upstream failed", "site", v.site.Name, "kind", kind.String(), "error", err)
	}
	if res.Started {
		panic(http.ErrAbortHandler) // the header is out: only cutting the connection tells the client
	}
	if body != nil && (kind == upstream.FailureBody || kind == upstream.FailureClientGone) {
		// net/http cancels the request's context when a read meets a deadline, as if the client
		// had gone; so the body is asked first.
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(body.err, &tooLarge):
			e.tooLarge(v, w, r)
			return
		case errors.Is(body.err, os.ErrDeadlineExceeded):
			e.cutOff(v, w, r, answer.New(http.StatusRequestTimeout, language.UploadStoppedTitle, language.UploadStoppedText))
			return
		}
	}
	switch kind {
	case upstream.FailureClientGone:
		v.status = kind.Status()
		panic(http.ErrAbortHandler) // to return would be to answer 200, should anybody be left to read it
	case upstream.FailureRequest, upstream.FailureBody:
		e.answer(v, w, r, answer.New(http.StatusBadRequest, language.BadRequestTitle, language.BadRequestText))
	case upstream.FailureTimeout:
		e.unanswered(v, w, r, answer.New(http.StatusGatewayTimeout, language.TimeoutTitle, language.TimeoutText))
	default:
		e.unanswered(v, w, r, answer.New(http.StatusBadGateway, language.UnavailableTitle, language.UnavailableText))
	}
}

// answered is called when the upstream's header has come. What follows, a download or
// an event stream, may take as long as it likes: it says nothing about the upstream's load.
func (v *visit) answered(status int, h http.Header) {
	v.setCookies(status, h)
	now := v.edge.Now()
	v.edge.Posture.End(now, now.Sub(v.asked), status >= 500)
	v.edge.observeUpstream(now.Sub(v.asked))
	v.asked = time.Time{}
}

func (e *Edge) refuse(v *visit, w http.ResponseWriter, r *http.Request) {
	a := answer.New(http.StatusForbidden, language.RefusedTitle, language.RefusedText)
	if reason := v.verdict.Reason; v.verdict.Basis == defense.BasisCertain && reason != "" && !strings.HasPrefix(reason, policy.DefaultReason) {
		// What the client says of itself is no secret to it; a judgement's reasons are the owner's.
		a.Reason = strings.TrimSuffix(reason, ".")
	}
	if v.verdict.Intended == defense.Tarpit && v.profile.Kind.Challengeable() {
		a.Link, a.LinkText = v.wayOut(), language.LinkWayOut
	}
	e.answer(v, w, r, a)
}

// unanswered is answer for an upstream that gave none.
func (e *Edge) unanswered(v *visit, w http.ResponseWriter, r *http.Request, a *answer.Answer) {
	a.RetryAfter = 10 * time.Second
	e.answer(v, w, r, a)
}

// answer sends one of the edge's own answers in the form that suits the request.
func (e *Edge) answer(v *visit, w http.ResponseWriter, r *http.Request, a *answer.Answer) {
	a.RequestID, a.Contact = e.requestID(v), e.Contact
	form := answer.FormFor(v.profile.Kind, v.profile.Headers.Accept.Value)
	n, _ := e.Answers.Write(w, r, form, a) // an error means that the client is gone; there is nobody to tell
	v.status, v.bytes = a.Status, int64(n)
}

// cutOff is answer to an upload of which the rest is not wanted: the answer does not wait for
// it, and the connection is closed.
func (e *Edge) cutOff(v *visit, w http.ResponseWriter, r *http.Request, a *answer.Answer) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	e.answer(v, w, r, a)
}

func (e *Edge) tooLarge(v *visit, w http.ResponseWriter, r *http.Request) {
	e.cutOff(v, w, r, answer.New(http.StatusRequestEntityTooLarge, language.TooLargeTitle, language.TooLargeText))
}

func (e *Edge) requestID(v *visit) string {
	if v.profile.RequestID == "" {
		v.profile.RequestID = e.NewID()
	}
	return v.profile.RequestID
}

// leave records the visit and gives its memory back.
func (e *Edge) leave(v *visit) {
	failure := recover()
	if failure != nil && !v.asked.IsZero() { // Forward panicked: the upstream was asked and nobody waits for it any more
		e.Posture.End(e.Now(), 0, false)
	}
	if v.site != nil {
		want := record.Keep // what came of a challenge always is, and a trap
		if v.outcome == nil && !v.profile.Trap {
			want = e.Recorder.Wants(&v.verdict)
		}
		if want != record.None {
			ev := e.event(v)
			ev.Transient = want == record.Transient
			if v.tangle == nil || v.tangle.ended(ev) {
				e.Recorder.Record(ev)
			}
		}
	}
	e.visits.Put(v)
	if failure == nil {
		return
	}
	if failure != http.ErrAbortHandler {
		e.stats.panics.Add(1)
		e.Log.Error("panic while serving a request", "panic", failure, "stack", stack())
	}
	panic(http.ErrAbortHandler)
}

// peerAddress reads the address of a "host:port" as net/http writes it; a Unix
// socket's peer has none.
func peerAddress(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
