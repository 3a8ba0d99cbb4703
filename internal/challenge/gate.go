package challenge

import (
	"context"
	"crypto/sha256"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/challenge/work"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/redemption"
)

const (
	// Prefix is the path below which the edge answers itself. It is not under
	// /.well-known/ because sites and their other tools own that.
	Prefix = "/.quickthorn/"
	// PassPath is where a challenge page leads to.
	PassPath = Prefix + "pass"
	// WayOutPath is where a person who is in the tarpit by mistake finds a challenge.
	WayOutPath = Prefix + "way-out"
	// SeenPath is below which the style sheets of kind silent are.
	SeenPath = Prefix + "seen/"
	// TrapField is the name of a form field that people neither see nor fill in.
	TrapField = "website"

	// Choices is how many words a question offers, of the first Words of a language's.
	Choices = 5
	Words   = 12

	maxAnswer   = 2048
	maxAttempts = 3 // rounds that follow each other without the visitor asking for one
)

// Captcha asks a provider whether its widget's token is good. An error means that it could not be asked.
type Captcha interface {
	Available() bool // it is worth showing the widget
	Verify(ctx context.Context, token, address, host string) (bool, error)
}

// Redemptions remembers, for all edges together, which tickets were redeemed, so that one earns one clearance.
type Redemptions interface {
	// Redeem notes a redemption and returns the first one of its ticket; known is false if there was none before. An error means that
	// this could not be found out in time; who asks then goes on with what it knows itself.
	Redeem(ctx context.Context, r defense.Redemption) (first defense.Redemption, known bool, err error)
}

// Options are the parts of a gate. Signer, Validity, Budget, Ladder and Redemptions are required.
type Options struct {
	Signer      *clearance.Signer
	Validity    time.Duration    // of a clearance
	Budget      clearance.Budget // what a whole answer of kind work earns
	Ladder      defense.Ladder   // where a rule has none of its own
	Algorithm   work.Algorithm
	Redemptions Redemptions // what edges share; nil for a single edge
	Captcha     Captcha     // nil: kind captcha is skipped
	// NewID makes the numbers of tickets and visitors, which nobody may guess; nil: at random.
	NewID func() uint64
}

// Gate issues challenges, redeems them, and knows clearances. It is safe for concurrent use.
type Gate struct {
	Options
	pressure *pressure
	passes   *budget.Store      // visits to the pass address by neighbourhood
	own      *redemption.Memory // what was redeemed here
}

// passRate and passBurst bound visits to the pass address from one neighbourhood: a school's class opens the site
// at once, a solver farm does so all day.
const (
	passRate  = 5.0 // a second
	passBurst = 200.0
)

// NewGate returns a gate.
func NewGate(o Options) *Gate {
	if o.NewID == nil {
		o.NewID = clearance.RandomID
	}
	return &Gate{Options: o, pressure: newPressure(), passes: budget.New(1 << 14), own: redemption.NewMemory(1 << 17)}
}

// Visit is what the gate must know of a request.
type Visit struct {
	Context  context.Context // of the request, which it lives as long as
	Header   http.Header
	Host     string
	Target   string // path and query as received
	Secure   bool   // the client uses HTTPS
	Embedded bool   // the page stands in a frame on another site
	Client   defense.Client
	Family   defense.AgentFamily
	Shape    uint64   // of the header; 0 if not observed
	Words    []string // of the visitor's language, for kind question: at least as many as Words
	Now      time.Time
}

// Clearance reads what the request has to show for itself: the token that the
// owner issued, else the clearance cookie. Junk is no clearance, never an error. It allocates nothing.
func (g *Gate) Clearance(h http.Header, client *defense.Client, family defense.AgentFamily, now time.Time) (out defense.Clearance) {
	for _, text := range h[clearance.Header] {
		if i, ok := g.Signer.ReadLong(text); ok && i.Good(now) {
			return defense.Clearance{Valid: true, ID: defense.TokenID(i.ID), Name: i.Name, Minute: i.Budget.Minute, Day: i.Budget.Day, Issued: i.Issued}
		}
	}
	for _, line := range h["Cookie"] {
		for range maxCookies {
			value, rest, ok := nextCookie(line, clearanceCookie)
			if !ok {
				break
			}
			line = rest
			c, ok := g.Signer.Read(value, g.Validity, now)
			if !ok {
				continue
			}
			out = defense.Clearance{Valid: true, ID: defense.TokenID(c.ID), Kind: c.Kind, Minute: c.Budget.Minute, Day: c.Budget.Day, Issued: c.Issued}
			if c.Net != clearance.NetOf(client.Prefix) {
				out.Changed++
			}
			if c.Family != family {
				out.Changed++
			}
			return out
		}
	}
	return defense.Clearance{}
}

// Renew returns a Set-Cookie value that makes the clearance as good as new, "" when there is no need. Its
// budget goes on: the token has the same number.
func (g *Gate) Renew(c *defense.Clearance, v *Visit) string {
	if !c.Valid || c.Name != "" || c.Changed > 0 || v.Now.Sub(c.Issued) < g.Validity/2 {
		return ""
	}
	token := g.Signer.Issue(&clearance.Clearance{
		ID: uint64(c.ID), Issued: v.Now, Kind: c.Kind, Budget: clearance.Budget{Minute: c.Minute, Day: c.Day},
		Family: v.Family, Net: clearance.NetOf(v.Client.Prefix),
	})
	return cookie(clearanceCookie, token, g.Validity, v.Secure, v.Embedded)
}

// Notice says why a challenge is shown again.
type Notice uint8

// The notices.
const (
	NoticeNone    Notice = iota
	NoticeWrong          // the answer was not right
	NoticeExpired        // the page lay open for too long
	NoticeEarly          // it goes on in a moment
	NoticeOther          // what was tried does not work here, so here is another way
)

// Page is what a challenge page needs.
type Page struct {
	Kind    defense.ChallengeKind
	ID      defense.TokenID // of the ticket
	Cookies []string        // Set-Cookie values
	Ticket  string
	Pass    string // where an answer goes, without the ticket
	Return  string // same-site address that it returns to
	// Fallback is the same-site address of the way without JavaScript, for kind work and captcha; Next the one that the page
	// refreshes to by itself, for silent and refresh (for work only without JavaScript).
	Fallback string
	Refresh  string
	Delay    time.Duration // before Refresh
	Puzzle   work.Puzzle   // for kind work
	Limit    time.Duration // for kind work: when the browser stops calculating
	Seen     string        // for kind silent: the style sheet that is loaded
	Word     int           // for kind question: which of the language's words is to be chosen
	Offered  []int         // and those it stands among
	Embedded bool
	Notice   Notice
}

// puzzleLimit is when a browser hands in what it has calculated.
const puzzleLimit = 2500 * time.Millisecond

// Puzzle returns the work for a level of pressure. A level doubles it; the browser stops at
// its time limit all the same and is given a budget for what it has done.
func (g *Gate) puzzle(level uint8) work.Puzzle {
	if g.Algorithm == work.Memory {
		return work.Puzzle{Algorithm: work.Memory, Puzzles: min(6+2*int(level), 16), Least: 1}
	}
	return work.Puzzle{Algorithm: work.SHA256, Puzzles: 32, Bits: 12 + int(level), Least: 4}
}

// refreshDelay is how long a page waits before it goes on. Long enough to read one sentence; a scraper that
// fetches pages in bulk does not wait.
func refreshDelay(level uint8, downgrade bool) time.Duration {
	d := 2*time.Second + time.Duration(level)*500*time.Millisecond
	if downgrade {
		d *= 2
	}
	return d
}

// SilentDelay is how long the page of kind silent waits for its style sheet.
const SilentDelay = time.Second

// earned is the budget for an answer of a kind. What costs a scraper less earns less, and
// in a neighbourhood that passes all the time everything does, down to what one reader needs.
func (g *Gate) earned(k defense.ChallengeKind, share, level uint8) clearance.Budget {
	f := float64(share) / 255
	switch k {
	case defense.ChallengeSilent, defense.ChallengeRefresh:
		f *= 0.25
	case defense.ChallengeQuestion:
		f *= 0.5
	}
	f /= math.Exp2(float64(level) / 2)
	scale := func(full uint32, least float64) uint32 {
		return uint32(min(max(float64(full)*f, least), float64(full)))
	}
	return clearance.Budget{Minute: scale(g.Budget.Minute, 20), Day: scale(g.Budget.Day, 100)}
}

func (v *Visit) context() context.Context {
	if v.Context == nil {
		return context.Background()
	}
	return v.Context
}

func (v *Visit) keys() (near, kindred pressureKey) {
	near.net = v.Client.Prefix
	wide := 16
	if v.Client.Address.Is6() {
		wide = 32
	}
	if v.Shape != 0 {
		if p, err := v.Client.Address.Prefix(wide); err == nil {
			kindred = pressureKey{net: p, shape: v.Shape}
		}
	}
	return near, kindred
}

// level is how busy the visitor's neighbourhood has been passing, or the programs like it in the wider network.
func (g *Gate) level(v *Visit) uint8 {
	near, kindred := v.keys()
	return max(g.pressure.level(near, freePasses, v.Now), g.pressure.level(kindred, 8*freePasses, v.Now))
}

// Issue starts a challenge. A zero ladder is the configured one. looping says that
// this browser has passed again and again and does not send the clearance back: another round would not help.
func (g *Gate) Issue(v *Visit, l defense.Ladder) (p *Page, looping bool) {
	if l == (defense.Ladder{}) {
		l = g.Ladder
	}
	who, known := g.visitor(v)
	if known && who.passes >= 2 && v.Now.Sub(who.passed) < 5*time.Minute && !eachCookie(v.Header, clearanceCookie, func(string) bool { return true }) {
		looping = true
	}
	t := ticket{issued: v.Now, ladder: l, level: g.level(v)}
	if v.Embedded {
		t.flags |= flagEmbedded
	}
	t.kind = g.first(l, t.level)
	p = g.page(v, &t, Location(returnTarget(v.Target)))
	if !known {
		who = visitor{issued: v.Now, id: g.NewID()}
		p.Cookies = append(p.Cookies, g.visitorCookie(&who, v))
	}
	return p, looping
}

func (g *Gate) visitorCookie(who *visitor, v *Visit) string {
	return cookie(visitorCookie, who.sign(g.Signer), visitorValidity, v.Secure, v.Embedded)
}

func (g *Gate) visitor(v *Visit) (who visitor, ok bool) {
	eachCookie(v.Header, visitorCookie, func(text string) bool {
		who, ok = readVisitor(g.Signer, text, v.Now)
		return ok
	})
	return who, ok
}

// usable reports whether a kind can be offered here.
func (g *Gate) usable(k defense.ChallengeKind) bool {
	return k != defense.ChallengeNone && (k != defense.ChallengeCaptcha || g.Captcha != nil && g.Captcha.Available())
}

// first is the kind that a ladder begins with: under pressure not the silent one, if there is another.
func (g *Gate) first(l defense.Ladder, level uint8) defense.ChallengeKind {
	at := defense.ChallengeNone
	for _, k := range l {
		if !g.usable(k) {
			continue
		}
		if at == defense.ChallengeNone || at == defense.ChallengeSilent {
			at = k
		}
		if at != defense.ChallengeSilent || level < 2 {
			break
		}
	}
	if at == defense.ChallengeNone {
		return defense.ChallengeRefresh
	}
	return at
}

// after is the kind that follows one which did not work here. plain leaves out what needs JavaScript. There always is
// one: a ladder without a rung for those who have no JavaScript ends in a question.
func (g *Gate) after(l defense.Ladder, k defense.ChallengeKind, plain bool) defense.ChallengeKind {
	past := false
	for _, r := range l {
		if r == k {
			past = true
			continue
		}
		if past && g.usable(r) && !(plain && needsScript(r)) {
			return r
		}
	}
	return defense.ChallengeQuestion
}

func needsScript(k defense.ChallengeKind) bool {
	return k == defense.ChallengeWork || k == defense.ChallengeCaptcha
}

// page makes the page of a ticket, whose number is made here.
func (g *Gate) page(v *Visit, t *ticket, to string) *Page {
	t.id = g.NewID()
	if t.kind == defense.ChallengeWork {
		t.puzzle = g.puzzle(t.level)
	}
	p := &Page{Kind: t.kind, ID: defense.TokenID(t.id), Ticket: t.sign(g.Signer, to), Return: to, Embedded: t.flags&flagEmbedded != 0}
	p.Pass = PassPath + "?to=" + queryEscape(to)
	pass := p.Pass + "&ticket=" + p.Ticket
	switch t.kind {
	case defense.ChallengeSilent:
		p.Refresh, p.Delay, p.Seen = pass, SilentDelay, SeenPath+signTime(g.Signer, useLook, v.Now)+".css"
	case defense.ChallengeRefresh:
		p.Refresh, p.Delay = pass, refreshDelay(t.level, t.flags&flagDowngrade != 0)
		p.Delay = min(max(p.Delay-v.Now.Sub(t.issued), time.Second), p.Delay)
	case defense.ChallengeWork:
		p.Puzzle, p.Limit = t.puzzle, puzzleLimit
		p.Fallback = pass + "&plain=1"
		p.Refresh, p.Delay = p.Fallback, refreshDelay(t.level, true)
	case defense.ChallengeQuestion:
		p.Word, p.Offered = question(p.Ticket)
	case defense.ChallengeCaptcha:
		p.Fallback = pass + "&plain=1"
	}
	return p
}

// question returns the word that a ticket asks for and those that it offers, by their places in a language's list.
func question(text string) (word int, offered []int) {
	h := sha256.Sum256([]byte("question " + text))
	var order [Words]int
	for i := range order {
		order[i] = i
	}
	for i := range Choices { // Fisher and Yates, with a byte of the hash for each step
		j := i + int(h[i])%(Words-i)
		order[i], order[j] = order[j], order[i]
	}
	return order[int(h[Choices])%Choices], order[:Choices:Choices]
}

// Outcome is what became of a visit to the pass address.
type Outcome uint8

// The outcomes of a visit to the pass address.
const (
	Passed    Outcome = iota
	Again             // another challenge is shown, see Page
	NoCookie          // the cookie did not come back: cookies are off, or another program follows
	Malformed         // not an address that we issued
	Used              // somebody else has redeemed it
	GaveUp            // several rounds did not work
	Limited           // too many come from that neighbourhood
	outcomes
)

// Outcomes is the number of outcomes.
const Outcomes = int(outcomes)

var outcomeNames = [...]string{"passed", "again", "no-cookie", "malformed", "used", "gave-up", "limited"}

// String returns the outcome's name, as metrics label it.
func (o Outcome) String() string { return outcomeNames[o] }

// Result is the answer to a visit to the pass address.
type Result struct {
	Outcome    Outcome
	Kind       defense.ChallengeKind // what was tried; ChallengeNone if that is not known
	ID         defense.TokenID       // of the ticket; 0 if that is not known
	Cookies    []string              // Set-Cookie values
	To         string                // where to go next, always a path on this site
	Page       *Page                 // for Again
	Clearance  defense.Clearance     // for Passed: what was earned, if it was not known before
	RetryAfter time.Duration         // for Limited
}

// Admit takes a visit to the pass address from its neighbourhood's allowance, before anything is read. ok is false when that is spent.
func (g *Gate) Admit(client *defense.Client, now time.Time) (ok bool, retry time.Duration) {
	return g.passes.Take(budget.Key{Limit: "pass", Client: client.Prefix}, passRate, passBurst, 1, now)
}

// Redeem answers a visit to the pass address that was admitted. It never asks for the address to be the same as
// at issue: dual-stack and mobile clients change it. What is cheap to refuse is refused first.
func (g *Gate) Redeem(v *Visit, f *Form) Result {
	to := f.To
	if returnTarget(to) != to {
		return Result{Outcome: Malformed, To: "/"}
	}
	t, ok := readTicket(g.Signer, f.Ticket, to)
	if !ok {
		return Result{Outcome: Malformed, To: "/"}
	}
	v.Embedded = t.flags&flagEmbedded != 0
	r := Result{Kind: t.kind, ID: defense.TokenID(t.id), To: to}
	who, known := g.visitor(v)
	if !known {
		r.Outcome = NoCookie
		return r
	}
	if !t.current(v.Now) {
		return g.again(v, &t, r, NoticeExpired, g.first(t.ladder, t.level), 1)
	}
	if f.Plain && needsScript(t.kind) {
		t.kind = g.after(t.ladder, t.kind, true)
		t.flags |= flagDowngrade
		if t.kind != defense.ChallengeRefresh {
			return g.again(v, &t, r, NoticeNone, t.kind, 0) // the visitor's choice, not a failure
		}
		r.Kind = t.kind
	}
	share, notice, next := g.judge(v, &t, f)
	if share == 0 {
		round := uint8(1)
		if notice == NoticeEarly {
			round = 0 // in a hurry, no more
		}
		return g.again(v, &t, r, notice, next, round)
	}
	return g.pass(v, &t, &who, share, r)
}

// again shows another challenge, or gives up after several.
func (g *Gate) again(v *Visit, t *ticket, r Result, n Notice, kind defense.ChallengeKind, round uint8) Result {
	next := *t
	if n != NoticeEarly { // who is early waits for the rest, not anew
		next.issued, next.level = v.Now, g.level(v)
	}
	next.kind = kind
	next.attempt += round
	if next.attempt > maxAttempts {
		r.Outcome = GaveUp
		return r
	}
	r.Outcome, r.Page = Again, g.page(v, &next, r.To)
	r.Page.Notice = n
	return r
}

// judge looks at what the visitor did for its ticket's kind and returns its
// share of a budget, at least 1, or 0 with what is shown next.
func (g *Gate) judge(v *Visit, t *ticket, f *Form) (share uint8, n Notice, next defense.ChallengeKind) {
	const full = 255
	next = g.after(t.ladder, t.kind, true)
	age := v.Now.Sub(t.issued)
	switch t.kind {
	case defense.ChallengeSilent:
		if eachCookie(v.Header, seenCookie, func(text string) bool { return readTime(g.Signer, useSeen, text, v.Now, 0) }) {
			return full, 0, 0
		}
		return 0, NoticeNone, g.after(t.ladder, t.kind, false)
	case defense.ChallengeRefresh:
		// A second is what times in whole seconds may be off by.
		if age < refreshDelay(t.level, t.flags&flagDowngrade != 0)-time.Second && age >= 0 {
			return 0, NoticeEarly, t.kind
		}
		return full, 0, 0
	case defense.ChallengeWork:
		solved, err := t.puzzle.Verify(f.Ticket, f.Answer)
		if err != nil {
			return 0, NoticeOther, next
		}
		return uint8(max(1, full*solved/t.puzzle.Puzzles)), 0, 0
	case defense.ChallengeQuestion:
		word, _ := question(f.Ticket)
		if f.Trap != "" || word >= len(v.Words) || f.Answer != v.Words[word] {
			return 0, NoticeWrong, t.kind
		}
		return full, 0, 0
	case defense.ChallengeCaptcha:
		if g.Captcha == nil || f.Token == "" {
			return 0, NoticeOther, next
		}
		good, err := g.Captcha.Verify(v.context(), f.Token, v.Client.Address.String(), v.Host)
		switch {
		case err != nil: // an outage of somebody else's locks nobody out
			return 0, NoticeOther, next
		case !good:
			return 0, NoticeWrong, t.kind
		}
		return full, 0, 0
	}
	return 0, NoticeOther, next
}

// pass redeems the ticket.
func (g *Gate) pass(v *Visit, t *ticket, who *visitor, share uint8, r Result) Result {
	first, _ := g.redeem(v.context(), defense.Redemption{Ticket: defense.TokenID(t.id), Visitor: defense.TokenID(who.id), At: time.Unix(v.Now.Unix(), 0), Share: share})
	if first.Visitor != defense.TokenID(who.id) {
		r.Outcome = Used
		if g.Clearance(v.Header, &v.Client, v.Family, v.Now).Valid {
			r.Outcome = Passed // it has what it came for, from another tab
		}
		return r
	}
	return g.grant(v, t, who, first, r)
}

// grant makes the clearance that a redemption earns.
func (g *Gate) grant(v *Visit, t *ticket, who *visitor, first defense.Redemption, r Result) Result {
	near, kindred := v.keys()
	g.pressure.add(near, v.Now)
	g.pressure.add(kindred, v.Now)
	if v.Now.Sub(who.passed) > 5*time.Minute {
		who.passes = 0
	}
	who.passes, who.passed = min(who.passes+1, 200), v.Now
	b := g.earned(t.kind, first.Share, t.level)
	r.Clearance = defense.Clearance{Valid: true, ID: r.ID, Kind: t.kind, Minute: b.Minute, Day: b.Day, Issued: first.At}
	token := g.Signer.Issue(&clearance.Clearance{
		ID: t.id, Issued: first.At, Kind: t.kind, Budget: b, Family: v.Family, Net: clearance.NetOf(v.Client.Prefix),
	})
	r.Outcome = Passed
	r.Cookies = []string{cookie(clearanceCookie, token, g.Validity, v.Secure, v.Embedded), g.visitorCookie(who, v)}
	return r
}

// redeemTime bounds the wait for the memory that edges share. Without its answer this edge's own counts.
const redeemTime = 2 * time.Second

func (g *Gate) redeem(ctx context.Context, r defense.Redemption) (first defense.Redemption, known bool) {
	first, known = g.own.Note(r)
	if known || g.Redemptions == nil {
		return first, known
	}
	ctx, cancel := context.WithTimeout(ctx, redeemTime)
	defer cancel()
	shared, known, err := g.Redemptions.Redeem(ctx, r)
	if err != nil {
		return first, false // open: a ticket redeemed at two edges while the store is away is cheaper than readers locked out
	}
	return shared, known
}

// Seen answers the address of a style sheet of kind silent: with a Set-Cookie value if we made the address lately and the request looks like
// a browser that loads a style sheet, else with "".
func (g *Gate) Seen(v *Visit, path, dest, site string) string {
	token, ok := strings.CutSuffix(strings.TrimPrefix(path, SeenPath), ".css")
	if !ok || dest != "" && dest != "style" || site != "" && site != "same-origin" || !readTime(g.Signer, useLook, token, v.Now, ticketValidity) {
		return ""
	}
	return cookie(seenCookie, signTime(g.Signer, useSeen, v.Now), ticketSkew, v.Secure, v.Embedded)
}
