package casebook

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// What clients may have in common, the narrowest first: the fingerprint kinds, and the neighbourhood.
const (
	kindRange = defense.FingerprintKinds
	keyKinds  = defense.FingerprintKinds + 1
)

// fingerprints are the hashes of a navigation's fingerprints by kind; 0: not observed.
type fingerprints [defense.FingerprintKinds]uint64

func fingerprintsOf(e *defense.Event) (f fingerprints) {
	for i, p := range e.Fingerprints() {
		f[i] = p.Hash
	}
	return f
}

// settlement is a navigation whose assets may still come.
type settlement struct {
	due     int64 // by the book's clock
	at      int64 // the time for which the client is then looked at
	client  uint64
	prints  fingerprints
	site    *site
	counted bool // its client may belong to a campaign
}

// settling is a queue of them with a bound, a ring that grows.
type settling struct {
	ring    []settlement
	first   int
	waiting int
	limit   int
}

func (q *settling) len() int { return q.waiting }

func (q *settling) push(s settlement) bool {
	if q.waiting == len(q.ring) {
		if q.waiting >= q.limit {
			return false
		}
		larger := make([]settlement, min(max(2*len(q.ring), 256), q.limit))
		n := copy(larger, q.ring[q.first:])
		copy(larger[n:], q.ring[:q.first])
		q.ring, q.first = larger, 0
	}
	q.ring[(q.first+q.waiting)%len(q.ring)] = s
	q.waiting++
	return true
}

func (q *settling) pop(now int64) (s settlement, ok bool) {
	if q.waiting == 0 || q.ring[q.first].due > now {
		return s, false
	}
	s = q.ring[q.first]
	q.first = (q.first + 1) % len(q.ring)
	q.waiting--
	return s, true
}

// settles is how long a navigation waits, in milliseconds.
const settles = int64(behaviour.Settling / time.Millisecond)

// navigated takes in that a client asked for a document of the site.
func (b *Book) navigated(c *client, e *defense.Event, s *site) {
	f := fingerprintsOf(e)
	prefix := neighbourhood(netip.AddrFrom16(c.addr))
	b.exemplify(c, e, s, f, prefix)
	if e.Client.Token != "" { // a reader for certain, unless it does what readers do not
		if c.subject() == nil {
			b.readingOnce(c, s, f, prefix)
		}
		return
	}
	const slowest = 60 // seconds; a page that takes longer settles early
	took := e.Response.Duration
	if !(took > 0) {
		took = 0
	}
	end := e.Time.UnixMilli() + int64(min(took, slowest)*1000)
	keys := uint32(spread(uint32(f[0])^uint32(f[0]>>32)) ^ s.id)
	if c.waiting == keys && int64(c.waitEnd)*1000 > b.now {
		c.again += min(1, math.MaxUint16-c.again)
		return
	}
	// It waits by the book's clock, not the event's: events that come late bring their assets as late.
	due := max(end, b.now) + settles
	if !b.settling.push(settlement{due: due, at: end + settles, client: c.hash, prints: f, site: s, counted: b.counts(e)}) {
		b.stats.Unsettled++
		return
	}
	c.waiting, c.waitEnd, c.again = keys, uint32(due/1000), 0
}

// counts reports whether a client may be counted to a campaign by this navigation. Who declares to be a catalogued
// crawler is dealt with by name; feed readers and git fetch pages without assets by nature.
func (b *Book) counts(e *defense.Event) bool {
	switch e.Request.Family {
	case defense.AgentFeed, defense.AgentGit:
		return false
	}
	return e.Identity.Crawler == "" || e.Identity.Status == defense.IdentityImpostor
}

// settle looks at the clients of navigations whose assets would have come.
func (b *Book) settle() {
	for {
		s, ok := b.settling.pop(b.now)
		if !ok {
			return
		}
		c := b.clients[s.client]
		if c == nil {
			continue
		}
		events := 1 + uint64(c.again)
		if c.waitEnd == uint32(s.due/1000) {
			c.waiting, c.again = 0, 0
		} else {
			events = 1
		}
		if links, fetches := c.Follows(); c.site == s.site && (!c.settled || links && !c.follows) {
			s.site.settled(!c.settled, links && !c.follows, fetches)
			c.settled, c.follows = true, links
		}
		m := c.Measure(time.UnixMilli(s.at))
		standing := c.Standing(time.UnixMilli(s.at), &m)
		covered := false
		switch prefix := neighbourhood(netip.AddrFrom16(c.addr)); {
		case !s.counted:
		case standing == behaviour.StandingReader && c.subject() == nil:
			b.readingOnce(c, s.site, s.prints, prefix)
		case standing == behaviour.StandingOdd:
			covered = b.odd(c, &s, prefix, events)
		}
		if c.events >= c.screen {
			c.screen = c.events + max(2, c.events/4)
			b.screenClient(c, &m, standing, covered)
		}
	}
}

// cohort is what is known of the clients that share a fingerprint or a neighbourhood on a site.
type cohort struct {
	key    uint64 // in Book.cohorts
	at     int    // in Book.keys
	kind   int
	print  uint64 // of a fingerprint
	prefix netip.Prefix
	site   *site

	odd      window // clients that are odd: a campaign's members
	novel    window // clients that behave like readers and were not seen before the window
	prefixes window // neighbourhoods of the odd
	programs window // programs of the odd, where the key leaves the agent open
	readers  window // clients that behave like readers, of a day
	turned   int64  // when the halves of the windows were turned
	dayed    int64  // likewise of readers
	latest   int64

	families [8]uint32 // of the odd
	events   uint64    // navigations of the odd
	recent   [2]uint64 // likewise, in the halves of the window
	rhythm   rhythm
	posture  defense.Posture
	tensed   int64
	sample   []member
	sampleAt int
	agents   []string
	paths    []string
	subject  *subject
}

// maxSample, maxAgents and maxPaths bound the examples in a case.
const (
	maxSample  = 64
	maxAgents  = 8
	maxPaths   = 16
	maxExample = 200 // bytes of one
)

// member is one of the latest odd clients. The latest and not any: they are those that a decision would still meet.
type member struct {
	client uint64
	addr   [16]byte
	at     int64
}

// seed is a key that few clients have had.
type seed struct {
	tags    [3]uint32
	readers uint8 // bit for each of tags
}

// keyOf returns what a key is known by in the maps of the book.
func keyOf(s *site, kind int, print uint64, prefix netip.Prefix) uint64 {
	if kind == kindRange {
		a := prefix.Addr().As16()
		for i := range 8 {
			print = print<<8 | uint64(a[i])
		}
		print ^= uint64(a[12])<<40 | uint64(a[13])<<48 | uint64(a[14])<<56
	}
	h := print*0x9e3779b97f4a7c15 ^ s.id ^ uint64(kind)<<60
	return h ^ h>>29
}

// cohort returns the cohort of a key, or nil while too few clients share it.
func (b *Book) cohort(s *site, kind int, print uint64, prefix netip.Prefix, tag uint32, reader bool) *cohort {
	if kind != kindRange && print == 0 {
		return nil
	}
	key := keyOf(s, kind, print, prefix)
	if co := b.cohorts[key]; co != nil {
		b.turn(co)
		return co
	}
	sd, ok := b.seeds[0][key]
	if !ok {
		sd = b.seeds[1][key]
	}
	for i := range sd.tags {
		if sd.tags[i] != 0 && sd.tags[i] != tag {
			continue
		}
		sd.tags[i] = tag
		if sd.readers &^= 1 << i; reader {
			sd.readers |= 1 << i
		}
		b.putSeed(key, sd)
		return nil
	}
	delete(b.seeds[0], key)
	delete(b.seeds[1], key)
	if len(b.keys) >= b.o.MaxCampaigns {
		b.evictKey()
	}
	co := &cohort{key: key, at: len(b.keys), kind: kind, print: print, prefix: prefix, site: s, turned: b.now, dayed: b.now, latest: b.now}
	for i, t := range sd.tags {
		if sd.readers>>i&1 == 1 {
			co.readers.add(t)
		}
	}
	b.cohorts[key] = co
	b.keys = append(b.keys, co)
	return co
}

func (b *Book) putSeed(key uint64, sd seed) {
	if _, ok := b.seeds[0][key]; !ok && len(b.seeds[0]) >= 2*b.o.MaxCampaigns || b.now-b.seeded > b.window() {
		b.seeds[0], b.seeds[1], b.seeded = map[uint64]seed{}, b.seeds[0], b.now
	}
	b.seeds[0][key] = sd
}

func (b *Book) window() int64 { return int64(b.o.Window / time.Millisecond) }

// turn lets what is older than the windows fall out of them.
func (b *Book) turn(co *cohort) {
	for half := b.window() / 2; b.now-co.turned >= half; {
		for _, w := range [...]*window{&co.odd, &co.novel, &co.prefixes, &co.programs} {
			w.turn()
		}
		co.recent = [2]uint64{0, co.recent[0]}
		if co.turned += half; b.now-co.turned >= 2*half {
			co.turned = b.now - half // the rest has long been empty
		}
	}
	for b.now-co.dayed >= day/2 {
		co.readers.turn()
		if co.dayed += day / 2; b.now-co.dayed >= day {
			co.dayed = b.now - day/2
		}
	}
}

// readingOnce counts a client as a reader under its keys, unless that was the last thing that was done for it.
func (b *Book) readingOnce(c *client, s *site, f fingerprints, prefix netip.Prefix) {
	stamp := uint32(spread(uint32(f[0])^uint32(f[0]>>32))^s.id) + uint32(b.now/(day/24))
	if c.reading == stamp {
		return
	}
	c.reading = stamp
	b.reading(s, f, prefix, c.tag(), time.Duration(b.now-c.First().UnixMilli())*time.Millisecond < b.o.Window)
}

// reading counts a client that behaves like a reader under the keys of its navigation.
func (b *Book) reading(s *site, f fingerprints, prefix netip.Prefix, tag uint32, novel bool) {
	for kind := range keyKinds {
		co := b.cohort(s, kind, printOf(f, kind), prefix, tag, true)
		if co == nil {
			continue
		}
		co.latest = b.now
		co.readers.add(tag)
		if novel {
			co.novel.add(tag)
		}
		co.odd.remove(tag) // it was doubted before
	}
}

func printOf(f fingerprints, kind int) uint64 {
	if kind == kindRange {
		return 0
	}
	return f[kind]
}

// odd counts a client that is odd under the keys of its navigation, and opens a case where that makes a campaign. It
// reports whether the client belongs to a campaign that is dealt with.
func (b *Book) odd(c *client, s *settlement, prefix netip.Prefix, events uint64) bool {
	var cohorts [keyKinds]*cohort
	var cover *cohort
	for kind := range keyKinds {
		co := b.cohort(s.site, kind, printOf(s.prints, kind), prefix, c.tag(), false)
		if cohorts[kind] = co; co != nil && cover == nil && co.subject.covers() {
			cover = co
		}
	}
	for _, co := range cohorts {
		// Who belongs to a campaign that is dealt with is no evidence of another one.
		if co == nil || cover != nil && co != cover && (co.subject == nil || !co.subject.active) {
			continue
		}
		b.join(co, c, s, prefix, events)
	}
	if cover == nil {
		if co := b.choose(&cohorts); co != nil {
			b.openCampaign(co)
			return true
		}
	}
	return cover != nil
}

// join makes an odd client a member.
func (b *Book) join(co *cohort, c *client, s *settlement, prefix netip.Prefix, events uint64) {
	co.latest = b.now
	co.events += events
	co.recent[0] += events
	co.rhythm.add(b.now, events)
	co.readers.remove(c.tag())
	co.novel.remove(c.tag())
	if co.odd.add(c.tag()) {
		co.families[min(int(c.family), len(co.families)-1)]++
		co.prefixes.add(uint32(keyOf(s.site, kindRange, 0, prefix)))
		if co.kind == int(defense.FingerprintShape) {
			co.programs.add(uint32(s.prints[defense.FingerprintProgram]))
		}
		co.remember(member{c.hash, c.addr, b.now})
		if co.odd.count() >= uint64(b.o.MinMembers)/2 && len(b.watched) < maxWatched {
			b.watched[co.key] = co
		}
	}
	if co.subject != nil && co.subject.active {
		co.subject.c.EventCount += events
		b.grew(co.subject)
	}
}

// maxWatched bounds the keys of which examples are kept.
const maxWatched = 4096

// remember keeps a member as an example in the place of the oldest.
func (co *cohort) remember(m member) {
	for i := range co.sample {
		if co.sample[i].client == m.client {
			co.sample[i] = m
			return
		}
	}
	if len(co.sample) < maxSample {
		co.sample = append(co.sample, m)
		co.sampleAt = len(co.sample) % maxSample
		return
	}
	co.sample[co.sampleAt] = m
	co.sampleAt = (co.sampleAt + 1) % maxSample
}

// stillOdd reports whether an example still is one: it is of this window, and has not passed a challenge or fetched assets meanwhile, nor
// has anybody with a clearance come from the same address.
func (b *Book) stillOdd(m member) bool {
	if b.now-m.at > b.window() {
		return false
	}
	c := b.clients[m.client]
	return c == nil || !c.Fetches() && c.readersBeside(b.now) == 0
}

// choose returns the key that a case is to be opened for, nil for none. The narrowest that explains the odd clients is the best,
// since the fewest readers share it. A broader one is taken when the narrower ones hold only a part of the
// campaign's requests each: the same headers when the agents change, the same program when the kinds of page do. Broader keys need more
// members where the narrower is not ripe, and few readers.
func (b *Book) choose(c *[keyKinds]*cohort) *cohort {
	pattern, shape, program, around := c[defense.FingerprintPattern], c[defense.FingerprintShape], c[defense.FingerprintProgram], c[kindRange]
	least := uint64(b.o.MinMembers)
	if ripe(pattern, least) {
		n := pattern.navigations()
		switch {
		case ripe(shape, least) && shape.fewReaders() && 2*shape.navigations() >= 3*n:
			return shape
		case ripe(program, least) && program.fewReaders() && program.navigations() >= 3*n:
			return program
		}
		return pattern
	}
	for _, broad := range [...]struct {
		*cohort
		least uint64
	}{{shape, least * 3 / 2}, {program, 2 * least}, {around, least}} {
		if ripe(broad.cohort, broad.least) && broad.fewReaders() {
			// When the larger part of it has one narrower key, that one is about to be ripe, or was judged already.
			if broad.kind != kindRange && pattern != nil && 2*pattern.navigations() >= broad.navigations() {
				return nil
			}
			return broad.cohort
		}
	}
	return nil
}

// navigations returns how many there were of the odd within the window.
func (co *cohort) navigations() uint64 { return co.recent[0] + co.recent[1] }

// ripe reports whether so many odd clients share the key that they are a campaign: no fewer than the readers among those who are new.
func ripe(co *cohort, least uint64) bool {
	if co == nil || co.subject != nil && co.subject.active {
		return false
	}
	n := co.odd.count()
	return n >= least && n > co.novel.count()
}

// fewReaders reports whether a quarter at most of those who share the key are readers.
func (co *cohort) fewReaders() bool { return 4*co.readers.count() <= co.odd.count() }

// exemplify keeps examples of what the clients of watched keys are like.
func (b *Book) exemplify(c *client, e *defense.Event, s *site, f fingerprints, prefix netip.Prefix) {
	if len(b.watched) == 0 || c.Fetches() {
		return
	}
	for kind := range keyKinds {
		print := printOf(f, kind)
		if print == 0 && kind != kindRange {
			continue
		}
		co := b.watched[keyOf(s, kind, print, prefix)]
		if co == nil {
			continue
		}
		if p := e.Verdict.Posture; p >= co.posture || b.now-co.tensed > postureLasts {
			co.posture, co.tensed = p, b.now
		}
		co.agents = b.example(co.agents, maxAgents, e.Request.Agent, "")
		co.paths = b.example(co.paths, maxPaths, e.Request.Path, e.Request.Query)
	}
}

// example adds a text to examples; when there are enough, now and then in the place of another.
func (b *Book) example(list []string, limit int, text, query string) []string {
	if len(list) >= limit && b.roll()%16 != 0 || text == "" {
		return list
	}
	if query != "" {
		text += "?" + query
	}
	if len(text) > maxExample {
		text = strings.ToValidUTF8(text[:maxExample], "")
	}
	if slices.Contains(list, text) {
		return list
	}
	text = strings.Clone(text)
	if len(list) < limit {
		return append(list, text)
	}
	list[b.roll()%uint64(len(list))] = text
	return list
}

// evictKey forgets the least interesting of some keys picked at random.
func (b *Book) evictKey() {
	var worst *cohort
	most := int64(-1)
	for range 8 {
		co := b.keys[b.roll()%uint64(len(b.keys))]
		idle := b.now - co.latest + 1
		switch n := int64(co.odd.count()); {
		case co.subject != nil && co.subject.active:
			idle = 0
		default: // many readers or members make it worth keeping
			idle = idle/(1+n+int64(co.readers.count())/4) + 1
		}
		if idle > most {
			worst, most = co, idle
		}
	}
	b.stats.KeysForgotten++
	b.forgetKey(worst)
}

func (b *Book) forgetKey(co *cohort) {
	if co.subject != nil {
		b.rest(co.subject)
	}
	last := b.keys[len(b.keys)-1]
	b.keys[co.at], last.at = last, co.at
	b.keys[len(b.keys)-1] = nil
	b.keys = b.keys[:len(b.keys)-1]
	delete(b.cohorts, co.key)
	delete(b.watched, co.key)
}

// sweepKeys forgets keys that were not used for a day, and the least used when there are too many sketches.
func (b *Book) sweepKeys() {
	sketches, allowed := 0, b.o.MaxCampaigns/4+64
	for i := 0; i < len(b.keys); {
		co := b.keys[i]
		b.turn(co)
		if b.now-co.latest > day {
			b.forgetKey(co)
			continue
		}
		if co.odd.count() < uint64(b.o.MinMembers)/2 && (co.subject == nil || !co.subject.active) {
			delete(b.watched, co.key)
			co.agents, co.paths, co.sample, co.sampleAt = nil, nil, nil, 0
		}
		sketches += co.sketches()
		i++
	}
	for sketches > allowed && len(b.keys) > 1 {
		var worst *cohort
		for range 16 {
			co := b.keys[b.roll()%uint64(len(b.keys))]
			if co.sketches() > 0 && (co.subject == nil || !co.subject.active) && (worst == nil || co.latest < worst.latest) {
				worst = co
			}
		}
		if worst == nil {
			return // next minute
		}
		sketches -= worst.sketches()
		b.stats.KeysForgotten++
		b.forgetKey(worst)
	}
}

func (co *cohort) sketches() int {
	return co.odd.sketches() + co.novel.sketches() + co.prefixes.sketches() + co.programs.sketches() + co.readers.sketches()
}

// text returns the key as a case writes it.
func (co *cohort) text() string {
	if co.kind == kindRange {
		return co.prefix.String()
	}
	return defense.Fingerprint{Kind: defense.FingerprintKind(co.kind), Hash: co.print}.String()
}

// crowd returns what is measured of the campaign as a whole, and its members' behaviour.
func (b *Book) crowd(co *cohort) (behaviour.Crowd, []behaviour.Measured) {
	n, readers := co.odd.count(), co.readersOf(b.now)
	x := behaviour.Crowd{
		Clients: float64(n), Fresh: math.NaN(), Quiet: math.NaN(), Spread: math.NaN(), AgentsPerShape: math.NaN(), Onset: math.NaN(), Readers: math.NaN(),
	}
	now := time.UnixMilli(b.now)
	var members []behaviour.Measured
	fresh, quiet := 0, 0
	for _, m := range co.sample {
		c := b.clients[m.client]
		if c == nil || !b.stillOdd(m) {
			continue
		}
		members = append(members, c.Measure(now))
		if b.now-c.First().UnixMilli() < b.window() {
			fresh++
		}
		if c.Navigations() <= 5 && !c.Fetches() {
			quiet++
		}
	}
	if k := float64(len(members)); k > 0 {
		x.Fresh, x.Quiet = float64(fresh)/k, float64(quiet)/k
	}
	if n > 0 {
		if co.kind != kindRange {
			x.Spread = min(1, float64(co.prefixes.count())/float64(n))
		}
		x.Readers = float64(readers) / float64(readers+n)
	}
	if co.kind == int(defense.FingerprintShape) {
		x.AgentsPerShape = float64(co.programs.count())
	}
	if b.now-b.from >= int64(time.Hour/time.Millisecond) {
		x.Onset = co.rhythm.onset(b.now)
	}
	return x, members
}

// readersOf returns how many readers of the last day share the key; what was known before a restart counts for as long.
func (co *cohort) readersOf(now int64) uint64 {
	n := co.readers.count()
	if s := co.subject; s != nil && now-s.restored < day && s.restored > 0 {
		n = max(n, s.c.Readers)
	}
	return n
}

// rhythm compares the events of five minutes with what is usual.
type rhythm struct {
	slot      int64 // number of the current five minutes
	now, last float64
	usual     float64 // mean of the five minutes before these, over about a day
	slots     float64 // how many there were
}

const (
	slotLength = 5 * 60 * 1000
	slotsOfDay = 288
)

func (r *rhythm) advance(t int64) {
	slot := t / slotLength
	if r.slot == 0 {
		r.slot = slot
	}
	for n := 0; r.slot < slot; n++ {
		if n > slotsOfDay {
			*r = rhythm{slot: slot, slots: slotsOfDay}
			return
		}
		r.slots = min(r.slots+1, slotsOfDay)
		r.usual += (r.last - r.usual) / r.slots
		r.last, r.now = r.now, 0
		r.slot++
	}
}

func (r *rhythm) add(t int64, n uint64) {
	r.advance(t)
	r.now += float64(n)
}

// onset returns how many times as many events as usual there are; one in five minutes is usual at least.
func (r *rhythm) onset(t int64) float64 {
	r.advance(t)
	left := float64(slotLength-t%slotLength) / slotLength
	return (r.now + r.last*left) / max(1, r.usual)
}
