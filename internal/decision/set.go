package decision

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/multimatch"
	"github.com/quickthorn/quickthorn/internal/record"
)

// MaxAgents is the largest number of agent decisions in a Set. Every one of them
// is a word that each request's User-Agent is searched for.
const MaxAgents = 4096

// ErrTooManyAgents is returned when more agent decisions are added than a Set can look for at once.
var ErrTooManyAgents = errors.New("too many agent decisions")

// Set is the decisions in force, by address, range, fingerprint and agent. Look-ups take no
// lock and never wait for a change; changes wait for each other.
type Set struct {
	protected []netip.Prefix

	byKey  table                      // all but agents
	ranges atomic.Pointer[bart.Lite]  // which ranges are in byKey
	agents atomic.Pointer[agentIndex] // nil: no agent decision
	prints atomic.Int64               // fingerprints in byKey; 0: no request needs hashing
	tokens atomic.Int64               // tokens in byKey

	mu     sync.Mutex // held by writers, never across I/O
	byID   map[string]*entry
	words  map[string]*entry // of agents, by id
	abouts map[about]*sharedAbout
	counts map[Count]int // N is 0 in the key
	swept  sweepPoint
}

// sharedAbout counts who refers to an about, so that reasons long gone do not stay in memory.
type sharedAbout struct {
	about about
	refs  int
}

// agentIndex finds agent decisions in a User-Agent. It is immutable.
type agentIndex struct {
	matcher *multimatch.Matcher
	entries [][]*entry // by pattern
}

// NewSet returns an empty set that refuses decisions which would stop one of
// the protected addresses: the trusted proxies in front of the edge.
func NewSet(protected []netip.Prefix) *Set {
	s := &Set{
		protected: make([]netip.Prefix, 0, len(protected)),
		byID:      map[string]*entry{},
		words:     map[string]*entry{},
		abouts:    map[about]*sharedAbout{},
		counts:    map[Count]int{},
	}
	for _, p := range protected {
		s.protected = append(s.protected, p.Masked())
	}
	s.byKey.seed = [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1}
	s.ranges.Store(new(bart.Lite))
	return s
}

// Found is a decision that applies to a request. The zero Found is none.
type Found struct {
	OK     bool
	ID     string
	Scope  defense.Scope
	Action defense.Action
	Rank   defense.Rank
	Wide   bool // it is about more than one client
	Origin string
	Reason string

	e *entry
}

// Created is when it was decided; the zero time when that is not known.
func (f *Found) Created() time.Time {
	if f.e == nil || f.e.created == 0 {
		return time.Time{}
	}
	return time.Unix(int64(f.e.created), 0)
}

// Decision returns all of the decision that was found; the zero Decision when none was.
func (f *Found) Decision() defense.Decision {
	if f.e == nil {
		return defense.Decision{}
	}
	return f.e.decision()
}

func found(e *entry) Found {
	if e == nil {
		return Found{}
	}
	return Found{
		OK: true, ID: e.id, Scope: e.scope, Action: e.action, Rank: e.rank, Wide: e.wide(),
		Origin: e.about.origin, Reason: e.about.reason, e: e,
	}
}

// Match is what a look-up finds. The policy's rules stand between the two.
type Match struct {
	Strong Found // the winner among ranks of defense.RankEngine and above
	Weak   Found // the winner below
}

// Created is when the decision of that id, one of the two, was made; the zero time for any other.
func (m *Match) Created(id string) time.Time {
	switch {
	case id == "":
	case m.Strong.ID == id:
		return m.Strong.Created()
	case m.Weak.ID == id:
		return m.Weak.Created()
	}
	return time.Time{}
}

// Subject is what decisions can be about: a request and who makes it.
type Subject struct {
	Addr  netip.Addr // unmapped; invalid if unknown
	Agent string     // the User-Agent header
	Site  string
	Token defense.TokenID // of a good clearance or issued token; 0 if there is none
	// What makes the fingerprints, see defense.Fingerprints; the path is the normalised one. A Shape of 0, not
	// observed, has no fingerprints.
	Shape            uint64
	JA4, Path, Query string
}

// Lookup finds the decisions in force at now about the subject and returns the winners: the
// highest rank, then the narrowest scope, then the latest. It does not keep q, neither blocks nor
// allocates (but for fingerprints of texts that are no UTF-8), and hashes nothing unless there is a decision on a fingerprint.
func (s *Set) Lookup(q *Subject, now time.Time) Match {
	var w winners
	w.site, w.now = q.Site, now.Unix()
	s.lookup(q, &w)
	return Match{Strong: found(w.strong), Weak: found(w.weak)}
}

// winners is the state of one look-up.
type winners struct {
	site         string
	now          int64
	strong, weak *entry
}

func (w *winners) consider(e *entry) {
	if e.expired(w.now) || e.about.site != "" && e.about.site != w.site {
		return
	}
	if best := &w.weak; e.rank >= defense.RankEngine {
		if best = &w.strong; e.beats(*best) {
			*best = e
		}
	} else if e.beats(*best) {
		*best = e
	}
}

func (s *Set) lookup(q *Subject, w *winners) {
	if addr := q.Addr; addr.IsValid() {
		single := addr.BitLen()
		for p := s.byKey.find(keyOf(addr, single)); p.next(); {
			w.consider(p.e)
		}
		// A wider range of a higher rank beats a narrower one: all of them count.
		if ranges := s.ranges.Load(); ranges.Contains(addr) {
			for r := range ranges.Supernets(netip.PrefixFrom(addr, single)) {
				for p := s.byKey.find(keyOf(r.Addr(), r.Bits())); p.next(); {
					w.consider(p.e)
				}
			}
		}
	}
	if q.Token != 0 && s.tokens.Load() != 0 {
		for p := s.byKey.find(tokenKey(q.Token)); p.next(); {
			w.consider(p.e)
		}
	}
	if q.Shape != 0 && s.prints.Load() != 0 {
		s.lookupFingerprints(q, w)
	}
	if x := s.agents.Load(); x != nil && q.Agent != "" {
		x.matcher.Each(q.Agent, func(i, _, _ int) bool {
			for _, e := range x.entries[i] {
				w.consider(e)
			}
			return true
		})
	}
}

// lookupFingerprints is apart so that a request pays for it only when there is a decision on a fingerprint.
func (s *Set) lookupFingerprints(q *Subject, w *winners) {
	// Fingerprints are made from events, and what a client may make long is cut there.
	agent, path, query := record.Recorded(q.Agent, q.Path, q.Query)
	for _, f := range defense.Fingerprints(agent, q.Shape, q.JA4, path, query) {
		for p := s.byKey.find(fingerprintKey(f)); p.next(); {
			w.consider(p.e)
		}
	}
}

// item is a decision that was checked, with its key.
type item struct {
	defense.Decision
	k key
}

// check normalizes d and refuses what the set may not hold.
func (s *Set) check(d defense.Decision) (item, error) {
	if err := normalize(&d); err != nil {
		return item{}, err
	}
	switch d.Scope {
	case defense.ScopeAgent:
		return item{Decision: d}, nil
	case defense.ScopeFingerprint:
		f, err := defense.ParseFingerprint(d.Value)
		if err != nil {
			return item{}, &InvalidError{"value", err.Error()}
		}
		return item{d, fingerprintKey(f)}, nil
	case defense.ScopeToken:
		t, err := defense.ParseTokenID(d.Value)
		if err != nil {
			return item{}, &InvalidError{"value", err.Error()}
		}
		return item{d, tokenKey(t)}, nil
	}
	p, err := defense.ParseAddressOrPrefix(d.Value)
	if err != nil {
		return item{}, &InvalidError{"value", err.Error()}
	}
	return item{d, keyOf(p.Addr(), p.Bits())}, s.checkProtected(&d, p)
}

// Put adds decisions that have an id, and replaces those of the same id. All
// are checked first: on an error none is added. Errors wrap *InvalidError,
// *ProtectedError or ErrTooManyAgents. Put does not ask whether a wide decision was meant: that
// is the Log's part.
func (s *Set) Put(ds ...defense.Decision) error {
	items := make([]item, len(ds))
	for i, d := range ds {
		var err error
		if items[i], err = s.check(d); err == nil && d.ID == "" {
			err = &InvalidError{"id", "is missing"}
		}
		if err != nil {
			return fmt.Errorf("decision %d: %w", i, err)
		}
	}
	return s.put(items)
}

// put adds items; on an error none.
func (s *Set) put(items []item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.agentsFit(items); err != nil {
		return err
	}
	ranges := 0
	for i := range items {
		if items[i].Scope == defense.ScopeRange {
			ranges++
		}
	}
	c := s.change(ranges)
	for i := range items {
		c.put(s.entry(&items[i]))
	}
	return c.done()
}

// entry makes the item's form in memory.
func (s *Set) entry(it *item) *entry {
	return &entry{
		hi: it.k.hi, lo: it.k.lo, bits: it.k.bits, id: strings.Clone(it.ID), seq: it.Sequence,
		scope: it.Scope, action: it.Action, rank: it.Rank(), created: toUnix(it.Created), expires: toUnix(it.Expires),
		about: s.share(about{origin: it.Origin, reason: it.Reason, site: it.Site, caseID: it.CaseID, agent: it.agent()}),
	}
}

// agent returns the value when the decision is about an agent.
func (it *item) agent() string {
	if it.Scope == defense.ScopeAgent {
		return it.Value
	}
	return ""
}

// share returns a of which there is one. What names a case is not shared: hardly
// two decisions have the same.
func (s *Set) share(a about) *about {
	if shared := s.abouts[a]; shared != nil {
		shared.refs++
		return &shared.about
	}
	shared := &sharedAbout{refs: 1, about: about{ // the caller's strings may be parts of something larger
		origin: strings.Clone(a.origin), reason: strings.Clone(a.reason), site: strings.Clone(a.site),
		caseID: strings.Clone(a.caseID), agent: strings.Clone(a.agent),
	}}
	if a.caseID == "" {
		s.abouts[shared.about] = shared
	}
	return &shared.about
}

// change is one batch of changes to a set; the caller holds s.mu.
type change struct {
	s      *Set
	ranges *bart.Lite // being changed
	own    bool       // ranges is a copy nobody else reads
	agents bool       // some agent decision changed
}

// change begins a batch in which n ranges change. A few changes to many ranges
// copy the path to each; many changes copy the whole once.
func (s *Set) change(n int) *change {
	c := &change{s: s, ranges: s.ranges.Load()}
	if n > 32 && n*64 > c.ranges.Size() {
		c.ranges, c.own = c.ranges.Clone(), true
	}
	return c
}

func (c *change) put(e *entry) {
	s := c.s
	old := s.byID[e.id]
	if old != nil && (old.key() != e.key() || old.scope != e.scope) {
		c.remove(old)
		old = nil
	}
	s.byID[e.id] = e
	s.counts[e.count()]++
	if old != nil {
		s.forget(old)
	}
	switch e.scope {
	case defense.ScopeAgent:
		s.words[e.id] = e
		c.agents = true
	case defense.ScopeRange:
		// The entry first: a reader who finds the range must find what it says.
		s.byKey.put(e)
		if p := e.key().prefix(); c.own {
			c.ranges.Insert(p)
		} else if !c.ranges.Get(p) {
			c.ranges = c.ranges.InsertPersist(p)
		}
	case defense.ScopeFingerprint:
		if old == nil {
			s.prints.Add(1) // first, so that a reader who looks finds it
		}
		s.byKey.put(e)
	case defense.ScopeToken:
		if old == nil {
			s.tokens.Add(1)
		}
		s.byKey.put(e)
	default:
		s.byKey.put(e)
	}
}

func (c *change) remove(e *entry) {
	s := c.s
	delete(s.byID, e.id)
	s.forget(e)
	switch e.scope {
	case defense.ScopeAgent:
		delete(s.words, e.id)
		c.agents = true
	case defense.ScopeRange:
		if others := s.byKey.remove(e.key(), e.id); others {
			return
		}
		if p := e.key().prefix(); c.own {
			c.ranges.Delete(p)
		} else {
			c.ranges = c.ranges.DeletePersist(p)
		}
	case defense.ScopeFingerprint:
		s.byKey.remove(e.key(), e.id)
		s.prints.Add(-1)
	case defense.ScopeToken:
		s.byKey.remove(e.key(), e.id)
		s.tokens.Add(-1)
	default:
		s.byKey.remove(e.key(), e.id)
	}
}

// forget takes back what was counted for e.
func (s *Set) forget(e *entry) {
	if n := e.count(); s.counts[n] > 1 {
		s.counts[n]--
	} else {
		delete(s.counts, n)
	}
	if a := s.abouts[*e.about]; a != nil {
		if a.refs--; a.refs == 0 {
			delete(s.abouts, *e.about)
		}
	}
}

// done makes the changes of ranges and agents visible.
func (c *change) done() error {
	c.s.ranges.Store(c.ranges)
	if !c.agents {
		return nil
	}
	x, err := indexAgents(c.s.words, nil)
	if err != nil {
		return err
	}
	c.s.agents.Store(x)
	return nil
}

// agentsFit tries whether the agents among items can be added.
func (s *Set) agentsFit(items []item) error {
	var more []*entry
	for i := range items {
		if it := &items[i]; it.Scope == defense.ScopeAgent && s.words[it.ID] == nil {
			more = append(more, &entry{about: &about{agent: it.Value}})
		}
	}
	if len(more) == 0 {
		return nil
	}
	_, err := indexAgents(s.words, more)
	return err
}

// indexAgents builds the index of agent decisions; nil for none. There are few and they change rarely.
func indexAgents(words map[string]*entry, more []*entry) (*agentIndex, error) {
	if len(words)+len(more) == 0 {
		return nil, nil
	}
	if n := len(words) + len(more); n > MaxAgents {
		return nil, fmt.Errorf("%w: %d, at most %d", ErrTooManyAgents, n, MaxAgents)
	}
	x := &agentIndex{}
	var patterns []multimatch.Pattern
	at := map[string]int{}
	add := func(e *entry) {
		word := strings.ToLower(e.about.agent)
		i, ok := at[word]
		if !ok {
			i = len(patterns)
			at[word] = i
			patterns = append(patterns, multimatch.Pattern{Text: word, Boundary: true})
			x.entries = append(x.entries, nil)
		}
		x.entries[i] = append(x.entries[i], e)
	}
	for _, e := range words {
		add(e)
	}
	for _, e := range more {
		add(e)
	}
	m, err := multimatch.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooManyAgents, err)
	}
	x.matcher = m
	return x, nil
}

// fits is agentsFit for who does not hold s.mu.
func (s *Set) fits(items []item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agentsFit(items)
}

// entries returns those of ids that there are.
func (s *Set) entries(ids []string) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*entry, 0, len(ids))
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if e := s.byID[id]; e != nil && !seen[id] {
			seen[id] = true
			out = append(out, e)
		}
	}
	return out
}

// drop is remove for who does not hold s.mu.
func (s *Set) drop(gone []*entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.remove(gone)
	return err
}

// toSweep is expired for who does not hold s.mu.
func (s *Set) toSweep(now time.Time, limit int) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expired(now, limit)
}

// Remove deletes the decisions of these ids and returns how many there were.
func (s *Set) Remove(ids ...string) (int, error) {
	gone := s.entries(ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(gone)
}

// remove takes out entries, each of which may be named twice. The caller holds s.mu.
func (s *Set) remove(gone []*entry) (int, error) {
	if len(gone) == 0 {
		return 0, nil
	}
	ranges := 0
	for _, e := range gone {
		if e.scope == defense.ScopeRange {
			ranges++
		}
	}
	c, before := s.change(ranges), len(s.byID)
	for _, e := range gone {
		if s.byID[e.id] == e {
			c.remove(e)
		}
	}
	return before - len(s.byID), c.done()
}

// Sweep frees the memory of decisions that have expired. It looks at no more than
// about limit places and goes on where it stopped: ten thousand take a millisecond or so.
// It returns how many it removed. Expired decisions have no effect whether swept
// or not. With a Log, call the Log's Sweep instead.
func (s *Set) Sweep(now time.Time, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(s.expired(now, limit))
}

// expired walks on over limit places and returns what is to be swept. The caller holds s.mu.
func (s *Set) expired(now time.Time, limit int) []*entry {
	var gone []*entry
	unix := now.Unix()
	note := func(e *entry) {
		if e.expired(unix) {
			gone = append(gone, e)
		}
	}
	s.swept = s.byKey.walk(s.swept, limit, note)
	for _, e := range s.words {
		note(e)
	}
	return gone
}

// Get returns the decision of that id, expired ones included until they are swept.
func (s *Set) Get(id string) (defense.Decision, bool) {
	s.mu.Lock()
	e := s.byID[id]
	s.mu.Unlock()
	if e == nil {
		return defense.Decision{}, false
	}
	return e.decision(), true
}

// Len returns the number of decisions, expired ones included until they are swept.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// Count is how many decisions there are of one origin and action.
type Count struct {
	Origin string
	Action defense.Action
	N      int
}

func (e *entry) count() Count {
	return Count{Origin: e.about.origin, Action: e.action}
}

// Counts returns the number of decisions by origin and action, in that order,
// expired ones included until they are swept.
func (s *Set) Counts() []Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Count, 0, len(s.counts))
	for c, n := range s.counts {
		c.N = n
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Count) int {
		if c := strings.Compare(a.Origin, b.Origin); c != 0 {
			return c
		}
		return int(a.Action) - int(b.Action)
	})
	return out
}
