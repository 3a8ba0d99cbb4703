package casebook

import (
	"math"
	"math/bits"
	"net/netip"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// client is one client and what the book needs to know of it besides its behaviour.
type client struct {
	behaviour.Client
	hash    uint64 // the key in Book.clients
	addr    [16]byte
	site    *site // the first; more says that there are others
	extra   *extra
	at      uint32 // in Book.ring
	events  uint32
	screen  uint32 // number of events at which it is looked at next
	reading uint32 // hash of the keys under which it was last counted as a reader
	waiting uint32 // hash of the keys of its navigation that is settling
	waitEnd uint32 // when that settles, in seconds since 1970
	tensed  uint32 // when posture was met, likewise
	ipv4    bool
	vouched bool
	more    bool
	settled bool // counted among the clients of its site, and
	follows bool // among those that follow links
	family  defense.AgentFamily
	posture defense.Posture // the tensest of the latest
	again   uint16          // navigations with the keys of the one that is settling
}

// extra is what few clients have.
type extra struct {
	subject *subject // the case
	token   string   // of the clearance by which the client is known
	tokens  uint64   // bitmap of the clearances of others at the same address
	toldAt  int64    // when the last of these was seen
}

// tag returns what counters know the client by; 0 marks nobody.
func (c *client) tag() uint32 { return uint32(c.hash>>16) | 1 }

// address returns the client's address or /64, as it is written in cases.
func (c *client) address() string {
	p := c.prefix()
	if c.ipv4 {
		return p.Addr().String()
	}
	return p.String()
}

// prefix returns what is counted: a /32 or a /64.
func (c *client) prefix() netip.Prefix {
	return defense.NewClient(netip.AddrFrom16(c.addr)).Counted
}

// neighbourhood returns the /24 or /48 of an address.
func neighbourhood(a netip.Addr) netip.Prefix { return defense.NewClient(a).Prefix }

// client finds the client of an event or makes it.
func (b *Book) client(e *defense.Event, addr netip.Addr, s *site) *client {
	one := netip.PrefixFrom(addr, 32)
	if addr.Is6() {
		one, _ = addr.Prefix(64) // a valid address has one
	}
	h := b.addressHash(one.Addr(), s.vouched)
	if e.Client.Token != "" {
		token := b.o.Hash([]byte(e.Client.Token))
		if !s.vouched {
			token = ^token
		}
		// The address itself remembers how many readers share it.
		if c := b.clients[token]; c == nil || c.addr != one.Addr().As16() {
			if a := b.clients[h]; a != nil {
				x := a.having()
				if b.now-x.toldAt > day {
					x.tokens = 0
				}
				x.tokens, x.toldAt = x.tokens|1<<(token>>58), b.now
			}
		}
		h = token
	}
	c := b.clients[h]
	if c == nil {
		if len(b.ring) >= b.o.MaxClients {
			b.evictClient()
		}
		c = &client{hash: h, site: s, vouched: s.vouched, at: uint32(len(b.ring))}
		if e.Client.Token != "" {
			c.having().token = strings.Clone(e.Client.Token)
		}
		b.clients[h] = c
		b.ring = append(b.ring, c)
	}
	c.addr, c.ipv4 = one.Addr().As16(), addr.Is4()
	return c
}

func (b *Book) addressHash(one netip.Addr, vouched bool) uint64 {
	a := one.As16()
	h := b.o.Hash(a[:])
	if !vouched {
		h = ^h
	}
	return h
}

func (c *client) having() *extra {
	if c.extra == nil {
		c.extra = new(extra)
	}
	return c.extra
}

// subject returns the client's case, nil when it has none.
func (c *client) subject() *subject {
	if c.extra == nil {
		return nil
	}
	return c.extra.subject
}

// readersBeside returns how many clients with a clearance came from the same address within a day, an estimate.
func (c *client) readersBeside(now int64) uint64 {
	if c.extra == nil || c.extra.token != "" || now-c.extra.toldAt > day {
		return 0
	}
	n := bits.OnesCount64(c.extra.tokens)
	return uint64(math.Round(64 * math.Log(64/float64(64-min(n, 63)))))
}

// postureLasts is for how long a posture counts as that of the latest events, in milliseconds.
const postureLasts = 5 * 60 * 1000

// note keeps what a case says about its client.
func (c *client) note(e *defense.Event, b *Book, s *site) {
	if c.events < math.MaxUint32 {
		c.events++
	}
	if c.site != s {
		c.more = true
	}
	if e.Request.Kind == defense.KindNavigation || c.events == 1 {
		c.family = e.Request.Family
	}
	now := uint32(b.now / 1000)
	if p := e.Verdict.Posture; p >= c.posture || now > c.tensed+postureLasts/1000 {
		c.posture, c.tensed = p, now
	}
}

func (b *Book) countGrown(c *client, before bool) {
	if after := c.Grown(); after && !before {
		b.grown++
	} else if !after && before {
		b.grown--
	}
}

// evictClient forgets the least interesting of some clients picked at random.
func (b *Book) evictClient() {
	var worst *client
	most := int64(-1)
	for range 5 {
		c := b.ring[b.roll()%uint64(len(b.ring))]
		idle := max(0, b.now-c.Last().UnixMilli()) + 1
		switch {
		case c.subject() != nil:
			idle = 0 // only if nobody else is found
		case c.Grown():
			idle /= 2
		case c.Fetches(): // explains why its next visit needs no assets
			idle /= 2
		}
		if idle > most {
			worst, most = c, idle
		}
	}
	b.stats.ClientsForgotten++
	b.forgetClient(worst)
}

func (b *Book) forgetClient(c *client) {
	if s := c.subject(); s != nil {
		b.rest(s)
	}
	if c.Grown() {
		b.grown--
	}
	last := b.ring[len(b.ring)-1]
	b.ring[c.at], last.at = last, c.at
	b.ring[len(b.ring)-1] = nil
	b.ring = b.ring[:len(b.ring)-1]
	delete(b.clients, c.hash)
}

// clientAge is for how long a client that is idle is remembered if there is room.
const clientAge = 24 * time.Hour

// sweepClients looks at a part of the clients: those that are idle are made small, and forgotten in the end.
func (b *Book) sweepClients() {
	for range len(b.ring)/64 + 16 {
		if len(b.ring) == 0 {
			return
		}
		if b.hand >= len(b.ring) {
			b.hand = 0
		}
		c := b.ring[b.hand]
		switch idle := time.Duration(b.now-c.Last().UnixMilli()) * time.Millisecond; {
		case idle > clientAge && c.subject() == nil:
			b.forgetClient(c) // another takes its place
			continue
		case idle > 2*behaviour.Part && c.Grown():
			c.Shrink()
			b.grown--
		}
		b.hand++
	}
}

// Forget removes what is kept of clients within the prefix: their behaviour, their cases, and their names as members of campaigns.
// What remains are counts, from which nobody can be told.
func (b *Book) Forget(p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	p = unmapped(p)
	for i := 0; i < len(b.ring); {
		if c := b.ring[i]; p.Overlaps(c.prefix()) {
			b.forgetClient(c)
			continue
		}
		i++
	}
	for _, s := range b.byID {
		q, err := defense.ParseAddressOrPrefix(s.c.Key)
		if err != nil {
			continue // a fingerprint
		}
		within := p.Bits() <= q.Bits() && p.Contains(q.Addr())
		if within || s.c.Kind == defense.CaseClient && p.Overlaps(q) {
			b.forgetCase(s)
		}
	}
	for _, co := range b.keys {
		kept := co.sample[:0]
		for _, m := range co.sample {
			if !p.Overlaps(defense.NewClient(netip.AddrFrom16(m.addr)).Counted) {
				kept = append(kept, m)
			}
		}
		clear(co.sample[len(kept):])
		co.sample, co.sampleAt = kept, len(kept)%maxSample
	}
}

func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
