package casebook

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// subject is who or what a case is about. It is active while it behaves suspiciously and dormant afterwards: a dormant one is
// remembered for its id and its strikes.
type subject struct {
	c      defense.Case // without what is measured when it is handed out
	name   string       // the key in Book.subjects
	active bool
	client *client // of an active case
	cohort *cohort // likewise

	waiting  bool   // in Book.due
	asked    bool   // handed out and not judged since
	handed   int64  // when it was last handed out
	events   uint64 // EventCount when it was handed out
	judged   uint64 // the revision that was judged last
	judgedAt int64
	known    uint64 // EventCount at that judgement
	until    int64  // for how long the latest decisions hold
	forgiven int64  // when a strike was last forgiven or earned
	restored int64  // when it was taken over from the store, 0 when it was not
}

const (
	maxDecisions     = 32
	lostRevisions    = 1 << 16 // more than can have been judged and not stored before a crash
	clientPaths      = 8
	judgeAgain       = int64(time.Minute / time.Millisecond) // at the earliest, if the events have not doubled
	judgePatience    = int64(time.Minute / time.Millisecond) // for an answer
	dormantAge       = 6 * time.Hour                         // a case without strikes
	suspiciousEnough = 3                                     // weight of oddities that opens a case
	clearedEnough    = 5                                     // likewise of a client that has behaved like a reader, or belongs to a campaign
)

// covers reports whether the campaign is dealt with: it was decided, or is about to be judged.
func (s *subject) covers() bool {
	return s != nil && s.active && (s.c.Outcome == defense.OutcomeDecided || s.c.Outcome == defense.OutcomeOpen)
}

// screenAtOnce looks at a client that cannot wait until its navigation has settled: one that is fast, or in a trap.
func (b *Book) screenAtOnce(c *client, e *defense.Event) {
	n := c.events
	if c.subject() != nil && c.subject().active || e.Kind != "trap" && (n < 16 || n&(n-1) != 0) {
		return
	}
	now := time.UnixMilli(b.now)
	m := c.Measure(now)
	b.screenClient(c, &m, c.Standing(now, &m), false)
}

// screenClient opens a case of a client that does several odd things. The links that people do not see are the one
// thing that suffices by itself: who follows one is asked to pass a challenge, which only a case can lead to. A member of a campaign
// that is dealt with needs no case of its own, unless it does far more than the others.
func (b *Book) screenClient(c *client, m *behaviour.Measured, standing behaviour.Standing, covered bool) {
	if c.subject() != nil && c.subject().active {
		return
	}
	odd := m.Oddities(c.family)
	enough := suspiciousEnough
	if covered || standing == behaviour.StandingReader || c.Fetches() {
		enough = clearedEnough
	}
	trapped := odd&behaviour.OddTrap != 0 && standing != behaviour.StandingReader
	if trapped || odd.Weight() >= enough { // which takes two at least
		b.openClient(c)
	}
}

func (b *Book) openClient(c *client) {
	token := ""
	if c.extra != nil {
		token = c.extra.token
	}
	// The case of a token is not that of the address from which it was last used.
	name := subjectName(defense.CaseClient, c.vouched, "", c.address(), token)
	s := b.subject(name, func() defense.Case {
		return defense.Case{Kind: defense.CaseClient, Key: c.address(), Site: c.site.name, FirstSeen: c.First(), EventCount: uint64(c.events) - 1, ObserveOnly: !c.vouched}
	})
	if s == nil {
		return
	}
	s.active, s.client = true, c
	c.having().subject = s
	s.c.EventCount++
	s.c.LastSeen = c.Last()
	b.grew(s)
}

func (b *Book) openCampaign(co *cohort) {
	name := subjectName(defense.CaseCampaign, co.site.vouched, co.site.name, co.text(), "")
	s := b.subject(name, func() defense.Case {
		return defense.Case{
			Kind: defense.CaseCampaign, Key: co.text(), Site: co.site.name, FirstSeen: time.UnixMilli(b.now).UTC(), EventCount: co.events, ObserveOnly: !co.site.vouched,
		}
	})
	if s == nil {
		return
	}
	if !s.active {
		s.c.Outcome = defense.OutcomeOpen // what was found of an earlier wave does not cover this one
	}
	s.active, s.cohort = true, co
	co.subject = s
	b.watched[co.key] = co
	b.grew(s)
}

// subjectName is what a subject is known by.
func subjectName(kind defense.CaseKind, vouched bool, site, key, token string) string {
	source := "edge"
	if !vouched {
		source = "other"
	}
	return strings.Join([]string{string(kind), source, site, key, token}, "\x00")
}

// subject returns the remembered subject of that name or makes one; nil when there is no room.
func (b *Book) subject(name string, make func() defense.Case) *subject {
	if s := b.subjects[name]; s != nil {
		return s
	}
	if len(b.byID) >= b.o.MaxCases && !b.evictCase() {
		b.stats.CasesRefused++
		return nil
	}
	s := &subject{c: make(), name: name}
	s.c.ID = b.o.NewID()
	b.byID[s.c.ID], b.subjects[name] = s, s
	b.stats.CasesOpened++
	return s
}

// evictCase makes room for a case: of some picked at random, the one that matters least is forgotten.
func (b *Book) evictCase() bool {
	var worst *subject
	looked := 0
	for _, s := range b.byID { // Go begins anywhere
		standing := s.active && (s.c.Outcome == defense.OutcomeDecided || s.c.Outcome == defense.OutcomeOpen)
		if !standing && s.until <= b.now && (worst == nil || s.c.Strikes < worst.c.Strikes || s.c.Strikes == worst.c.Strikes && s.c.LastSeen.Before(worst.c.LastSeen)) {
			worst = s
		}
		if looked++; looked >= 32 {
			break
		}
	}
	if worst == nil {
		return false
	}
	b.forgetCase(worst)
	return true
}

func (b *Book) forgetCase(s *subject) {
	b.rest(s)
	s.waiting = false // Due drops it
	delete(b.byID, s.c.ID)
	delete(b.subjects, s.name)
}

// rest makes a subject dormant.
func (b *Book) rest(s *subject) {
	if s.client != nil {
		s.client.extra.subject = nil
	}
	if s.cohort != nil {
		s.cohort.subject = nil
	}
	s.active, s.client, s.cohort = false, nil, nil
}

// evidence adds an event of a client to its case.
func (b *Book) evidence(c *client, e *defense.Event) {
	s := c.subject()
	if s == nil || !s.active {
		return
	}
	s.c.EventCount++
	s.c.LastSeen = c.Last()
	if c.more {
		s.c.Site = ""
	}
	if e.Identity.Crawler != "" {
		s.c.Identity = e.Identity
		s.c.Identity.Crawler, s.c.Identity.How = strings.Clone(e.Identity.Crawler), strings.Clone(e.Identity.How)
	}
	s.c.Agents = b.example(s.c.Agents, maxAgents, e.Request.Agent, "")
	if e.Request.Kind == defense.KindNavigation {
		s.c.Paths = b.example(s.c.Paths, clientPaths, e.Request.Path, e.Request.Query)
	}
	b.grew(s)
}

// grew notes that there is new evidence.
func (b *Book) grew(s *subject) {
	s.c.Revision++
	if !s.waiting {
		s.waiting = true
		b.due = append(b.due, s)
	}
}

// Due returns up to limit cases whose evidence has grown enough to be judged, those that were never judged first. A case
// is due as soon as it is opened, then when its events have doubled or a minute has passed; one that was
// found clear only when they have doubled. One that was handed out and not judged within a minute is due again.
func (b *Book) Due(now time.Time, limit int) []defense.Case {
	b.now = max(b.now, now.UnixMilli())
	kept := b.due[:0]
	for _, s := range b.due {
		if !s.waiting || !s.active || s.c.Revision == s.judged && !s.asked {
			s.waiting = false
			continue
		}
		kept = append(kept, s)
	}
	clear(b.due[len(kept):])
	b.due = kept
	var out []defense.Case
	for _, first := range [...]bool{true, false} {
		for _, s := range b.due {
			if len(out) >= limit {
				break
			}
			if (s.judgedAt == 0) == first && b.ready(s) {
				s.asked, s.handed, s.events = true, b.now, s.c.EventCount
				out = append(out, b.snapshot(s))
			}
		}
	}
	// Those that have waited for longest are first the next time.
	slices.SortStableFunc(b.due, func(x, y *subject) int { return cmp.Compare(x.handed, y.handed) })
	return out
}

// ready reports whether a case's evidence has grown enough.
func (b *Book) ready(s *subject) bool {
	switch {
	case s.asked:
		return b.now-s.handed >= judgePatience
	case s.judgedAt == 0:
		return true
	case s.c.Revision == s.judged:
		return false
	case s.c.EventCount >= 2*s.known:
		return true
	}
	return s.c.Outcome != defense.OutcomeClear && b.now-s.judgedAt >= judgeAgain
}

// snapshot returns the case as it is now.
func (b *Book) snapshot(s *subject) defense.Case {
	c := s.c
	c.Agents, c.Paths = slices.Clone(c.Agents), slices.Clone(c.Paths)
	c.Stages, c.DecisionIDs = slices.Clone(c.Stages), slices.Clone(c.DecisionIDs)
	if cl := s.client; cl != nil {
		c.Family, c.Posture = cl.family, cl.posture
		c.Members = defense.CaseMembers{Count: 1, Sample: []string{cl.address()}}
		c.Readers = cl.readersBeside(b.now)
		c.Features = cl.Features(time.UnixMilli(b.now))
	}
	if co := s.cohort; co != nil {
		b.turn(co)
		c.LastSeen = time.UnixMilli(co.latest).UTC()
		c.Posture, c.Agents, c.Paths = co.posture, slices.Clone(co.agents), slices.Clone(co.paths)
		for f, n := range co.families {
			if n > co.families[c.Family] {
				c.Family = defense.AgentFamily(f)
			}
		}
		c.Members.Count = co.odd.count()
		c.Members.Sample = nil
		for _, m := range co.sample {
			if b.stillOdd(m) {
				one := &client{addr: m.addr, ipv4: isIPv4(m.addr)}
				c.Members.Sample = append(c.Members.Sample, one.address())
			}
		}
		c.Readers = co.readersOf(b.now)
		crowd, members := b.crowd(co)
		c.Features = behaviour.CampaignFeatures(members, crowd)
	}
	return c
}

// Judged takes in what came of a case at a revision: the judgement, and the ids of all decisions that are in force because of it. An
// older judgement than the last, and one of a case that is not remembered, is ignored.
//
// A strike is counted when there are decisions, but none while those of an earlier strike hold: to renew them is no new offence.
func (b *Book) Judged(id string, revision uint64, j *defense.Judgement, decided []string, now time.Time) {
	s := b.byID[id]
	if s == nil || j == nil || revision < s.judged {
		return
	}
	b.stats.Judged++
	t := now.UnixMilli()
	s.judged, s.judgedAt, s.known, s.asked = revision, t, max(s.events, 1), false
	s.c.Stages, s.c.Score, s.c.Outcome, s.c.JudgedAt = slices.Clone(j.Stages), j.Score, j.Outcome, now
	if len(decided) == 0 {
		return
	}
	// After a restart it is not known for how long the decisions hold that were made before it; one of them is no new offence.
	renewed := s.until == 0 && slices.ContainsFunc(decided, func(d string) bool { return slices.Contains(s.c.DecisionIDs, d) })
	for _, d := range decided {
		if !slices.Contains(s.c.DecisionIDs, d) {
			s.c.DecisionIDs = append(s.c.DecisionIDs, d)
		}
	}
	if n := len(s.c.DecisionIDs); n > maxDecisions {
		s.c.DecisionIDs = slices.Clone(s.c.DecisionIDs[n-maxDecisions:])
	}
	var longest int64
	for i := range j.Proposals {
		longest = max(longest, min(j.Proposals[i].Seconds, 10*365*86400))
	}
	if t >= s.until {
		if !renewed {
			s.c.Strikes++
			s.forgiven = t
		}
		s.until = t + longest*1000
	}
}

// Restore takes over cases from the store after a restart, the latest seen first. They are dormant, with their id and
// strikes, until their subject is suspicious again: what it did before is not known any more.
func (b *Book) Restore(cases []defense.Case) {
	now := b.o.Now().UnixMilli()
	for i := range cases {
		c := cases[i]
		site := c.Site
		if c.Kind == defense.CaseClient {
			site = ""
		}
		name := subjectName(c.Kind, !c.ObserveOnly, site, c.Key, "")
		if b.byID[c.ID] != nil || b.subjects[name] != nil || c.ID == "" || c.Key == "" {
			continue
		}
		if len(b.byID) >= b.o.MaxCases {
			return
		}
		c.Features, c.Members = defense.Features{}, defense.CaseMembers{}
		c.Revision += lostRevisions
		c.Agents, c.Paths = c.Agents[:min(len(c.Agents), maxAgents)], c.Paths[:min(len(c.Paths), maxPaths)]
		s := &subject{c: c, name: name, judged: c.Revision, judgedAt: max(0, c.JudgedAt.UnixMilli()), known: max(1, c.EventCount),
			restored: now, forgiven: c.LastSeen.UnixMilli()}
		if c.Outcome != defense.OutcomeDecided {
			s.judgedAt = 0 // to be judged at once when it begins again
		}
		b.byID[c.ID], b.subjects[name] = s, s
	}
}

// Case returns an open case as it is now; false when there is none of that id, or its subject is dormant.
func (b *Book) Case(id string) (defense.Case, bool) {
	s := b.byID[id]
	if s == nil || !s.active {
		return defense.Case{}, false
	}
	return b.snapshot(s), true
}

// sweepCases lets subjects rest that are quiet, forgives a strike for each quiet day, and forgets who has none left.
func (b *Book) sweepCases() {
	for _, s := range b.byID {
		last := s.c.LastSeen.UnixMilli()
		if s.cohort != nil {
			last = s.cohort.latest
			s.c.LastSeen = time.UnixMilli(last).UTC()
			b.turn(s.cohort)
		}
		idle := b.now - last
		if s.active && !s.asked && (idle > 2*b.window() || s.cohort != nil && s.cohort.odd.count() == 0) {
			b.rest(s)
		}
		for quiet := max(last, s.forgiven, s.until); s.c.Strikes > 0 && b.now-quiet >= day; quiet = s.forgiven {
			s.c.Strikes--
			s.forgiven = quiet + day
		}
		if !s.active && s.c.Strikes == 0 && idle > int64(dormantAge/time.Millisecond) {
			b.forgetCase(s)
		}
	}
}

func isIPv4(a [16]byte) bool {
	for i := range 10 {
		if a[i] != 0 {
			return false
		}
	}
	return a[10] == 0xff && a[11] == 0xff
}
