// Package advise proposes rules for the policy, from what was recorded: what clients that were found to be unwanted have in common and readers have not.
// It changes nothing. Each proposal is tried on the recorded requests, with the policy in force, before it is shown.
package advise

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/replay"
)

// Bounds and thresholds.
const (
	maxEvents    = 200_000
	maxCases     = 20_000
	maxTraits    = 200_000
	maxTrait     = 200   // bytes of a text that a rule compares with
	MaxProposals = 10    // at most
	minClients   = 3     // unwanted ones that a rule has to meet
	minRequests  = 20    // of theirs
	maxHarm      = 0.005 // share of readers among the clients that a rule meets
	readerPages  = 2     // navigations with assets from which on a client counts as a reader
)

// Source is where events and cases come from.
type Source interface {
	Events(ctx context.Context, f record.Filter) (record.Page, error)
	Cases(ctx context.Context, f casebook.Filter) (casebook.Page, error)
}

// Options say what to look at. Now is the end of the period.
type Options struct {
	Source   Source
	Period   time.Duration
	Now      time.Time
	Policy   string // a preset's name or the absolute path of a policy file
	Policies policy.Options
	Profiler *profile.Profiler
	Max      int // proposals at most, up to MaxProposals
}

// Report is what was found.
type Report struct {
	Since     time.Time  `json:"since"`
	Until     time.Time  `json:"until"`
	Events    int        `json:"events"`
	Truncated bool       `json:"truncated"` // there were more events than are looked at
	Clients   int        `json:"clients"`
	Unwanted  int        `json:"unwantedClients"` // by the cases
	Readers   int        `json:"readerClients"`
	Proposals []Proposal `json:"proposals"`
}

// Proposal is a rule that the owner may take up.
type Proposal struct {
	Rule     string   `json:"rule"` // in YAML, in mode shadow: it is tried out first
	Name     string   `json:"name"`
	Reason   string   `json:"reason"`
	Evidence Evidence `json:"evidence"`
}

// Evidence is what a rule would have done with the recorded requests.
type Evidence struct {
	UnwantedClients  int `json:"unwantedClients"` // that it would have met
	UnwantedRequests int `json:"unwantedRequests"`
	Missed           int `json:"missed"` // of these, requests that reached the site all the same
	ReaderClients    int `json:"readerClients"`
	ReaderRequests   int `json:"readerRequests"`
	OtherClients     int `json:"otherClients"` // of whom nothing is known
	OtherRequests    int `json:"otherRequests"`
	// By the policy engine, with the rule in force instead of in shadow: requests whose verdict changes, and how many more are stopped of those that claim a
	// reader's program and come from clients that were not found to be unwanted.
	Replayed       uint64 `json:"replayed"`
	Changed        uint64 `json:"changed"`
	ReadersStopped int64  `json:"readersStopped"`
}

// kind is what is known of a client.
type kind uint8

const (
	unknown kind = iota
	unwanted
	reader
)

type client struct {
	kind               kind
	pages, assets      int
	cleared, protected bool // earned a clearance; proved to be a crawler
}

// request is an event, as far as rules look at it.
type request struct {
	client  *client
	traits  []*trait
	allowed bool
}

// trait is something that a rule can ask for.
type trait struct {
	when   string // in CEL
	says   string // in a sentence: "requests of …"
	family defense.AgentFamily

	requests, missed, readerRequests, otherRequests int
	clients                                         map[*client]int
}

// Find looks for proposals. Errors are those of the source, or of a policy that cannot be loaded.
func Find(ctx context.Context, o Options) (*Report, error) {
	if o.Max <= 0 || o.Max > MaxProposals {
		o.Max = MaxProposals
	}
	r := &Report{Since: o.Now.Add(-o.Period), Until: o.Now, Proposals: []Proposal{}}
	labels, err := known(ctx, &o, r.Since)
	if err != nil {
		return nil, err
	}
	inForce, err := policy.Load(o.Policy, o.Policies)
	if err != nil {
		return nil, err
	}
	f := &finder{clients: map[string]*client{}, traits: map[string]*trait{}}
	if err := f.read(ctx, &o, r, labels); err != nil {
		return nil, err
	}
	f.settle()
	f.count()
	r.Clients = len(f.clients)
	for _, c := range f.clients {
		switch c.kind {
		case unwanted:
			r.Unwanted++
		case reader:
			r.Readers++
		}
	}
	all, others := f.log(true), f.log(false)
	for len(r.Proposals) < o.Max {
		best := f.best()
		if best == nil {
			break
		}
		p := best.proposal(len(r.Proposals) + 1)
		if err := p.try(ctx, &o, inForce, all, others); err != nil {
			return nil, err
		}
		f.take(best)
		if p.Evidence.ReadersStopped > 0 && float64(p.Evidence.ReadersStopped) > maxHarm*float64(p.Evidence.Changed) {
			continue // the policy engine sees what may be readers where the counts did not
		}
		r.Proposals = append(r.Proposals, p)
	}
	return r, nil
}

// known are the clients that the cases of the time say something of.
func known(ctx context.Context, o *Options, since time.Time) (map[string]kind, error) {
	labels := map[string]kind{}
	filter := casebook.Filter{Since: since, Until: o.Now, Limit: casebook.MaxCases}
	for n := 0; n < maxCases; {
		page, err := o.Source.Cases(ctx, filter)
		if err != nil {
			return nil, err
		}
		for i := range page.Cases {
			c := &page.Cases[i]
			k := unknown
			switch {
			case c.Label == defense.LabelHuman:
				k = reader
			case c.Label == defense.LabelBot, c.Label == defense.LabelNone && c.Outcome == defense.OutcomeDecided:
				k = unwanted
			}
			members := c.Members.Sample
			if c.Kind == defense.CaseClient {
				members = []string{c.Key}
			}
			for _, m := range members {
				if a := addressOf(m); k != unknown && labels[a] != reader { // whom one case calls a reader no other condemns
					labels[a] = k
				}
			}
		}
		n += len(page.Cases)
		if filter.Before = page.Next; page.Next == "" {
			break
		}
	}
	return labels, nil
}

// addressOf is a client as it is counted: an IPv4 address, or an IPv6 /64.
func addressOf(text string) string {
	p, err := defense.ParseAddressOrPrefix(text)
	if err != nil {
		return text // shortened or hashed by the archive's privacy
	}
	return defense.NewClient(p.Addr()).Counted.String()
}

// finder counts.
type finder struct {
	clients  map[string]*client
	requests []request
	traits   map[string]*trait
	lines    []line // the requests as an access log, the newest first
}

type line struct {
	client *client
	text   string
}

// log is the access log in the order of time: of all clients, or of those that were not found to be unwanted.
func (f *finder) log(all bool) []byte {
	var b bytes.Buffer
	for _, l := range slices.Backward(f.lines) {
		if all || l.client.kind != unwanted {
			b.WriteString(l.text)
		}
	}
	return b.Bytes()
}

// read reads the events, the newest first as the archive has them.
func (f *finder) read(ctx context.Context, o *Options, r *Report, labels map[string]kind) error {
	filter := record.Filter{Since: r.Since, Until: r.Until, Event: "request", Limit: record.MaxEvents}
	for {
		page, err := o.Source.Events(ctx, filter)
		if err != nil {
			return err
		}
		for i := range page.Events {
			if r.Events++; r.Events > maxEvents {
				r.Events, r.Truncated = maxEvents, true
				break
			}
			f.add(&page.Events[i], labels)
		}
		if filter.Before = page.Next; page.Next == "" || r.Truncated {
			break
		}
	}
	return nil
}

func (f *finder) add(e *defense.Event, labels map[string]kind) {
	if e.Client.Address == "" {
		return
	}
	key := addressOf(e.Client.Address)
	c := f.clients[key]
	if c == nil {
		c = &client{kind: labels[key]}
		f.clients[key] = c
	}
	switch e.Request.Kind {
	case defense.KindNavigation:
		c.pages++
	case defense.KindAsset:
		c.assets++
	}
	c.cleared = c.cleared || e.Client.Token != "" && e.Client.Token != "0"
	c.protected = c.protected || e.Identity.Status == defense.IdentityVerified
	q := request{client: c, allowed: e.Verdict.Action == defense.Allow}
	for _, t := range traitsOf(e) {
		have := f.traits[t.when]
		if have == nil {
			if len(f.traits) >= maxTraits {
				continue
			}
			t.clients = map[*client]int{}
			have = &t
			f.traits[t.when] = have
		}
		q.traits = append(q.traits, have)
	}
	f.requests = append(f.requests, q)
	if text := logLine(e); text != "" {
		f.lines = append(f.lines, line{c, text})
	}
}

// traitsOf are the traits of a request. Texts that a client wrote go into rules only in quotes, and only plain ones.
func traitsOf(e *defense.Event) []trait {
	var list []trait
	family := e.Request.Family
	ofFamily := fmt.Sprintf(` && agent.family == %q`, family.String())
	add := func(when, says string) { list = append(list, trait{when: when, says: says, family: family}) }
	agent, okAgent := quoted(e.Request.Agent)
	switch {
	case e.Request.Agent == "":
		add(`agent.text == ""`, "requests without a User-Agent")
	case okAgent:
		add(`agent.text == `+agent, "requests that call themselves "+agent)
	}
	path := e.Request.Path
	if segment := firstSegment(path); segment != "" && len(segment) < maxTrait {
		if s, ok := quoted("/" + segment + "/"); ok {
			add(`request.path.startsWith(`+s+`)`+ofFamily, fmt.Sprintf("requests below %s from what claims to be %s", s, article(family)))
		}
	}
	for pair := range strings.SplitSeq(e.Request.Query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if s, ok := quoted(name + "="); ok && name != "" && len(name) <= 40 {
			add(`request.query.contains(`+s+`)`+ofFamily, fmt.Sprintf("requests with %s in the query from what claims to be %s", s, article(family)))
		}
	}
	if e.Client.ASN != 0 {
		add(fmt.Sprintf(`client.asn == %d`, e.Client.ASN)+ofFamily, fmt.Sprintf("requests from network AS%d from what claims to be %s", e.Client.ASN, article(family)))
	}
	return list
}

// article names a family in a sentence.
func article(f defense.AgentFamily) string {
	switch f {
	case defense.AgentUnknown:
		return "an unknown program"
	case defense.AgentNone:
		return "nothing"
	case defense.AgentFeed:
		return "a feed reader"
	case defense.AgentApp:
		return "an app"
	}
	return "a " + f.String()
}

func firstSegment(path string) string {
	rest := strings.TrimPrefix(path, "/")
	segment, after, ok := strings.Cut(rest, "/")
	if !ok || after == "" {
		return ""
	}
	return segment
}

// quoted is a text in quotes, as CEL and YAML have them; ok is false for what is long or not plain ASCII.
func quoted(s string) (text string, ok bool) {
	if s == "" || len(s) > maxTrait {
		return "", false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return "", false
		}
	}
	return strconv.Quote(s), true
}

// settle finds out who reads like a person.
func (f *finder) settle() {
	for _, c := range f.clients {
		if c.kind == unknown && (c.protected || c.cleared || c.pages >= readerPages && c.assets >= c.pages) {
			c.kind = reader
		}
		if c.protected {
			c.kind = reader
		}
	}
}

// count counts for each trait.
func (f *finder) count() {
	for i := range f.requests {
		q := &f.requests[i]
		for _, t := range q.traits {
			t.clients[q.client]++
			switch q.client.kind {
			case unwanted:
				t.requests++
				if q.allowed {
					t.missed++
				}
			case reader:
				t.readerRequests++
			default:
				t.otherRequests++
			}
		}
	}
}

// of counts the clients of a kind that a trait meets.
func (t *trait) of(k kind) (n int) {
	for c := range t.clients {
		if c.kind == k {
			n++
		}
	}
	return n
}

// good reports whether a rule for the trait is worth proposing: it meets unwanted clients whose requests reach the site, hardly a reader, and not many of whom
// nothing is known.
func (t *trait) good() bool {
	if t.requests < minRequests || t.missed*2 < t.requests || t.otherRequests > t.requests {
		return false
	}
	bad, readers := t.of(unwanted), t.of(reader)
	return bad >= minClients && float64(readers) <= maxHarm*float64(len(t.clients))
}

// best is the trait whose rule would have stopped most of what reached the site.
func (f *finder) best() *trait {
	var best *trait
	for _, t := range f.traits {
		if !t.good() {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(t.missed, best.missed), cmp.Compare(best.otherRequests, t.otherRequests), cmp.Compare(best.when, t.when)) > 0 {
			best = t
		}
	}
	return best
}

// take removes the requests that a trait's rule stops, so that the next proposal is about others.
func (f *finder) take(best *trait) {
	rest := f.requests[:0]
	for _, q := range f.requests {
		if !slices.Contains(q.traits, best) {
			rest = append(rest, q)
		}
	}
	f.requests = rest
	for _, t := range f.traits {
		t.requests, t.missed, t.readerRequests, t.otherRequests, t.clients = 0, 0, 0, 0, map[*client]int{}
	}
	f.count()
}

func (t *trait) proposal(n int) Proposal {
	e := Evidence{
		UnwantedClients: t.of(unwanted), UnwantedRequests: t.requests, Missed: t.missed,
		ReaderClients: t.of(reader), ReaderRequests: t.readerRequests, OtherClients: t.of(unknown), OtherRequests: t.otherRequests,
	}
	p := Proposal{Name: fmt.Sprintf("advised-%d", n), Evidence: e}
	p.Reason = fmt.Sprintf("%s: %d of %d clients that sent them were found to be unwanted, and none of them read like a person", t.says, e.UnwantedClients, len(t.clients))
	if e.ReaderClients > 0 {
		p.Reason = fmt.Sprintf("%s: %d of %d clients that sent them were found to be unwanted, %d read like a person", t.says, e.UnwantedClients, len(t.clients), e.ReaderClients)
	}
	p.Rule = t.rule(p.Name, true)
	return p
}

// rule is the rule in YAML. What claims a browser can pass a challenge; a program is told to come later.
func (t *trait) rule(name string, shadow bool) string {
	action := "challenge"
	if t.family != defense.AgentBrowser {
		action = "throttle\n    retryAfter: 10m"
	}
	text := fmt.Sprintf("  - name: %s\n    when: %s\n    action: %s\n    basis: judged\n    reason: %s\n", name, yamlText(t.when+" && !clearance.valid"), action, yamlText("looks like clients that were found to be unwanted"))
	if shadow {
		text += "    mode: shadow\n"
	}
	return "rules:\n" + text
}

// yamlText is a text in YAML's single quotes, in which nothing else has a meaning.
func yamlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// try has the policy engine judge the recorded requests with the rule and without.
func (p *Proposal) try(ctx context.Context, o *Options, inForce *policy.Policy, all, others []byte) error {
	source := fmt.Sprintf("name: advised\nimports: [%s]\n%s", yamlText(o.Policy), strings.Replace(p.Rule, "    mode: shadow\n", "", 1))
	after, err := policy.Compile("advised.yaml", []byte(source), o.Policies)
	if err != nil {
		return fmt.Errorf("a proposal is no rule: %w\n%s", err, source)
	}
	compare := func(log []byte) (c replay.Comparison, err error) {
		if len(log) == 0 {
			return c, nil
		}
		r, err := replay.Run(ctx, []string{"-"}, 1, replay.Options{
			Policy: inForce, Compare: after, Mode: defense.ModeEnforce, Profiler: o.Profiler, Site: "default", Stdin: bytes.NewReader(log),
		})
		if err != nil {
			return c, fmt.Errorf("trying a proposal: %w", err)
		}
		return *r.Comparison, nil
	}
	c, err := compare(all)
	if err != nil {
		return err
	}
	p.Evidence.Replayed, p.Evidence.Changed = c.Requests, c.Changed
	if c, err = compare(others); err != nil {
		return err
	}
	p.Evidence.ReadersStopped = int64(c.Readers.StoppedB) - int64(c.Readers.StoppedA)
	return nil
}

// logLine is an event as a line of an access log in the combined format; "" for one whose address the archive does not have.
func logLine(e *defense.Event) string {
	a, err := netip.ParseAddr(e.Client.Address)
	if err != nil {
		return ""
	}
	target := e.Request.Path
	if e.Request.Query != "" {
		target += "?" + e.Request.Query
	}
	return fmt.Sprintf("%s - - [%s] \"%s %s %s\" %d %d \"%s\" \"%s\"\n", a, e.Time.Format("02/Jan/2006:15:04:05 -0700"), escape(e.Request.Method), escape(target), cmp.Or(e.Request.Protocol, "HTTP/1.1"),
		e.Response.Status, e.Response.Bytes, escape(e.Request.Referrer), escape(e.Request.Agent))
}

// escape writes what an access log does not have in a field as nginx does.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\x%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
