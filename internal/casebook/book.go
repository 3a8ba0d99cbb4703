package casebook

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// Options are the parts and bounds of a Book. NewID and Now are required.
type Options struct {
	// MaxClients bounds how many clients are remembered; 0: 200,000. One takes about 340 bytes, and one of eight may take
	// 900 more: 90 MiB in all. When there is no room, those are forgotten that were idle for longest and are of least interest.
	MaxClients int
	// MaxCampaigns bounds how many fingerprints and neighbourhoods are watched closely; 0: 20,000. One takes one to three KiB.
	MaxCampaigns int
	// MaxCases bounds the cases that are open or remembered for their strikes; 0: 20,000.
	MaxCases int
	// MinMembers is how many quiet clients that are odd and have something in common make a campaign; 0: 20.
	MinMembers int
	// Window is how long a campaign's members count; 0: an hour. It slides by half.
	Window time.Duration

	NewID func() string // of cases: ULIDs
	Now   func() time.Time
	// Robots says whether robots.txt asks an agent not to fetch a path, and whether that is known; it must not block. May be nil.
	Robots func(site, agent, path string) (disallowed, known bool)
	// Vouched says whether an event's source answers for the client's address. Cases made of events of
	// others are ObserveOnly. nil: all do but those whose Edge begins with "webhook:".
	Vouched func(e *defense.Event) bool
	// Trusted are addresses that never become a case: the operator's own and those of proxies in front.
	Trusted []netip.Prefix
	// Hash stands for addresses and names in bounded memory. nil: one with a random key, so that nobody can choose an address that is
	// taken for another's. A simulation that is to be the same each time brings one without.
	Hash func([]byte) uint64
}

// Book watches the events of all sites and groups those that are suspicious into cases. It does no I/O and takes no lock: it
// belongs to one goroutine, which calls all methods.
//
// Every client is measured ([behaviour.Client]). Ten seconds after a client has asked for a document, when the
// assets of the page would have come, the book looks at what the client is like. If it does several odd things at
// once, a case of the client is opened. If it is too quiet for that, it is counted among the odd or the reading clients that
// share its fingerprints and its neighbourhood, and when enough odd ones have something in common that readers
// do not, a case of the campaign is opened. What comes of a case is not the book's: it hands out cases that are [Book.Due], and is
// told what was [Book.Judged].
//
// Events of verified crawlers and of clients that the operator allows never make a case. Events whose source
// does not vouch for the client are kept apart from the others.
type Book struct {
	o    Options
	now  int64 // milliseconds since 1970: of the latest event, or tick
	from int64 // when the book began to see events

	sites map[siteKey]*site
	last  *site // most events are of the site of the one before
	links *behaviour.LinkGraph

	clients  map[uint64]*client
	ring     []*client // the same, for sweeping and picking
	grown    int       // clients that take the larger amount of memory
	hand     int       // where the sweep of ring is
	swept    int64
	settling settling

	seeds   [2]map[uint64]seed // keys with few clients, the younger generation first
	seeded  int64              // when the younger generation began
	cohorts map[uint64]*cohort
	keys    []*cohort          // the same
	watched map[uint64]*cohort // those that may become a case: of these, examples are kept

	byID     map[string]*subject
	subjects map[string]*subject
	due      []*subject // with evidence that was not judged

	random uint64
	stats  Stats
}

// Stats is what the book holds and what has happened since the start.
type Stats struct {
	Clients       int // remembered
	LargeClients  int // of these, measured in full
	Campaigns     int // fingerprints and neighbourhoods watched closely
	Settling      int // navigations whose assets may still come
	OpenClients   int // open cases of clients
	OpenCampaigns int
	Dormant       int // subjects of former cases, remembered
	Links         int // pages that readers were led to, remembered

	Events           uint64 // observed
	Skipped          uint64 // events without a usable client or time
	ClientsForgotten uint64 // for want of room
	KeysForgotten    uint64 // likewise
	Unsettled        uint64 // navigations not looked at because too many waited
	CasesRefused     uint64 // for want of room
	CasesOpened      uint64
	Judged           uint64
}

// The defaults of Options.
const (
	defaultClients   = 200_000
	defaultCampaigns = 20_000
	defaultCases     = 20_000
	defaultMembers   = 20
	defaultWindow    = time.Hour
)

const (
	// ahead is how far an event's time may be ahead of ours; one further ahead counts as of now.
	ahead = 2 * time.Minute
	day   = int64(24 * time.Hour / time.Millisecond)
	// maxSites bounds the sites; events of others count as of one site without a name.
	maxSites = 4096
)

type siteKey struct {
	name    string
	vouched bool
}

// site is what is known of a site as one kind of source shows it.
type site struct {
	siteKey
	id       uint64
	fetchers [5]uint32 // different clients that fetched assets
	referred [3]uint32 // different clients that named a referrer
	fetched  int64     // when the last asset was seen
	// Clients that follow links, and those of them that fetch assets. Where a cache or another server
	// answers for the assets, few do.
	follow, followFetch uint32
	settle, settleFetch uint32 // likewise of all clients that navigate
}

// New returns an empty book.
func New(o Options) *Book {
	setDefault(&o.MaxClients, defaultClients)
	setDefault(&o.MaxCampaigns, defaultCampaigns)
	setDefault(&o.MaxCases, defaultCases)
	setDefault(&o.MinMembers, defaultMembers)
	setDefault(&o.Window, defaultWindow)
	if o.Hash == nil {
		seed := maphash.MakeSeed()
		o.Hash = func(b []byte) uint64 { return maphash.Bytes(seed, b) }
	}
	b := &Book{
		o: o, sites: map[siteKey]*site{}, links: behaviour.NewLinkGraph(0),
		clients: map[uint64]*client{}, cohorts: map[uint64]*cohort{}, watched: map[uint64]*cohort{},
		byID: map[string]*subject{}, subjects: map[string]*subject{}, random: 0x9e3779b97f4a7c15,
	}
	for i := range b.seeds {
		b.seeds[i] = map[uint64]seed{}
	}
	b.settling.limit = max(1024, min(o.MaxClients, 1<<17))
	return b
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Observe takes in an event. It keeps nothing of it but short copies, so the caller may use it again.
func (b *Book) Observe(e *defense.Event) { b.observe(e, false) }

// Recall takes in an event of before a restart, from the archive. The archive holds a sample of what is plainly allowed, so what is not in
// it may have happened all the same: from recalled events the book learns who was there and who behaves like a
// reader, and suspects nobody.
func (b *Book) Recall(e *defense.Event) { b.observe(e, true) }

func (b *Book) observe(e *defense.Event, recalled bool) {
	if latest := b.o.Now().Add(ahead); e.Time.After(latest) {
		changed := *e
		changed.Time = latest.Add(-ahead)
		e = &changed
	}
	t := e.Time.UnixMilli()
	addr, err := netip.ParseAddr(e.Client.Address)
	if err != nil || t <= 0 {
		b.stats.Skipped++
		return
	}
	b.stats.Events++
	b.advance(t)
	addr = addr.Unmap().WithZone("")
	if operatorAllows(e) || b.trusted(addr) {
		return
	}
	s := b.siteOf(e)
	navigation := e.Request.Kind == defense.KindNavigation && e.Kind != "trap" && e.Kind != "appeal" && !isOwnPage(e)
	if e.Identity.Status == defense.IdentityVerified {
		if navigation {
			b.reading(s, fingerprintsOf(e), neighbourhood(addr), uint32(b.o.Hash(addr.AsSlice())), false)
		}
		return
	}

	c := b.client(e, addr, s)
	s.note(e, c.tag(), b.now)
	grown := c.Grown()
	c.Observe(e, behaviour.Context{
		Links: b.links, Robots: b.o.Robots, Assets: s.showsAssets(b.now), Referrers: s.showsReferrers(), Sampled: recalled,
		Lean: !grown && b.grown >= b.o.MaxClients/8,
	})
	b.countGrown(c, grown)
	c.note(e, b, s)
	if recalled {
		if navigation && c.Fetches() {
			b.readingOnce(c, s, fingerprintsOf(e), neighbourhood(addr))
		}
		return
	}
	b.evidence(c, e)
	if navigation {
		b.navigated(c, e, s)
	}
	b.screenAtOnce(c, e)
}

// advance moves the clock and looks at what has settled.
func (b *Book) advance(t int64) {
	if b.from == 0 {
		b.from, b.seeded, b.swept = t, t, t
	}
	b.now = max(b.now, t)
	b.settle()
}

// operatorAllows reports whether the operator's decision let the request pass.
func operatorAllows(e *defense.Event) bool {
	v := &e.Verdict
	return v.Basis == defense.BasisOperator && v.Action == defense.Allow && strings.HasPrefix(v.Rule, "decision:")
}

// isOwnPage reports whether the edge's own pages were asked for: the way through a challenge is no navigation of the site.
func isOwnPage(e *defense.Event) bool {
	return e.Kind == "challenge" && (e.Challenge == nil || e.Challenge.Outcome != "issued")
}

func (b *Book) trusted(addr netip.Addr) bool {
	for _, p := range b.o.Trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// vouched reports whether the source answers for the client's address.
func (b *Book) vouched(e *defense.Event) bool {
	if b.o.Vouched != nil {
		return b.o.Vouched(e)
	}
	return !strings.HasPrefix(e.Edge, "webhook:")
}

// siteOf returns the event's site as its kind of source shows it.
func (b *Book) siteOf(e *defense.Event) *site {
	k := siteKey{e.Site, b.vouched(e)}
	if b.last != nil && b.last.siteKey == k {
		return b.last
	}
	s := b.sites[k]
	if s == nil {
		if len(b.sites) >= maxSites {
			k.name = ""
		}
		if s = b.sites[k]; s == nil {
			k.name = strings.Clone(k.name)
			s = &site{siteKey: k, id: b.o.Hash(fmt.Appendf(nil, "%t\x00%s", k.vouched, k.name))}
			b.sites[k] = s
		}
	}
	b.last = s
	return s
}

// note learns what the site's source shows at all.
func (s *site) note(e *defense.Event, tag uint32, now int64) {
	if e.Request.Kind == defense.KindAsset {
		s.fetched = now
		addFew(s.fetchers[:], tag)
	}
	if e.Request.Referrer != "" {
		addFew(s.referred[:], tag)
	}
}

// addFew adds a tag to a set of few; 0 marks a free place.
func addFew(set []uint32, tag uint32) {
	for i, t := range set {
		if t == tag {
			return
		}
		if t == 0 {
			set[i] = tag
			return
		}
	}
}

// settled takes in a client whose navigation has settled: for the first time, and for the first time that it followed a link.
func (s *site) settled(first, follows, fetches bool) {
	for _, c := range [...]struct {
		counts         bool
		clients, fetch *uint32
	}{{first, &s.settle, &s.settleFetch}, {follows, &s.follow, &s.followFetch}} {
		if !c.counts {
			continue
		}
		if *c.clients >= 4000 { // what was long ago counts less and less
			*c.clients, *c.fetch = *c.clients/2, *c.fetch/2
		}
		if *c.clients++; fetches {
			*c.fetch++
		}
	}
}

// showsAssets reports whether requests for assets are seen: five clients have fetched some, the last within a day, and at least a
// quarter of those that follow links do; many have the assets from earlier. Of a site whose pages name no
// referrers, at least half of all clients must: of these, more are scrapers.
func (s *site) showsAssets(now int64) bool {
	if s.fetchers[len(s.fetchers)-1] == 0 || now-s.fetched > day {
		return false
	}
	if s.follow >= 5 {
		return 4*s.followFetch >= s.follow+4
	}
	return s.settle >= 20 && 2*s.settleFetch >= s.settle
}

func (s *site) showsReferrers() bool { return s.referred[len(s.referred)-1] != 0 }

// Tick lets time pass: what was waiting is looked at, and what has been quiet for long is forgiven and forgotten. Call it
// every second or so.
func (b *Book) Tick(now time.Time) {
	t := now.UnixMilli()
	if t <= 0 {
		return
	}
	b.advance(t)
	b.sweepClients()
	const minute = int64(time.Minute / time.Millisecond)
	if b.now-b.swept >= minute {
		b.swept = b.now
		b.sweepKeys()
		b.sweepCases()
	}
}

// Stats returns what the book holds. Like every method it belongs to the book's goroutine.
func (b *Book) Stats() Stats {
	s := b.stats
	s.Clients, s.LargeClients, s.Campaigns, s.Settling, s.Links = len(b.ring), b.grown, len(b.keys), b.settling.len(), b.links.Len()
	for _, j := range b.byID {
		switch {
		case !j.active:
			s.Dormant++
		case j.c.Kind == defense.CaseClient:
			s.OpenClients++
		default:
			s.OpenCampaigns++
		}
	}
	return s
}

// roll returns the next number of a generator (xorshift) that picks samples; nothing that matters can be guessed from it.
func (b *Book) roll() uint64 {
	b.random ^= b.random << 13
	b.random ^= b.random >> 7
	b.random ^= b.random << 17
	return b.random
}
