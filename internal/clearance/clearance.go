package clearance

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Header carries a token that the owner has issued. It is not Authorization, which belongs to the site.
const Header = "Quickthorn-Token"

const (
	useClearance Use = 0x11
	useIssued    Use = 0x12
)

// Budget is how much a token may ask for before its bearer is asked to wait, or
// to earn another. It is counted at each edge for itself.
type Budget struct {
	Minute uint32 // requests in a minute, 1 to 65535
	Day    uint32 // requests in a day, 1 to 2³²−1
}

// Clearance is what a passed challenge earned.
type Clearance struct {
	ID     uint64
	Issued time.Time // whole seconds
	Kind   defense.ChallengeKind
	Budget Budget
	// Family and Net are what the client was when it passed. Another of either lowers trust and does not
	// void the clearance: phones change networks, browsers are updated.
	Family defense.AgentFamily
	Net    uint32 // NetOf its neighbourhood
}

// NetOf returns a number for a neighbourhood of addresses (IPv4 /24, IPv6 /48),
// 0 when it is not known. Two neighbourhoods may share one: it is for trust, not for proof.
func NetOf(p netip.Prefix) uint32 {
	if !p.IsValid() {
		return 0
	}
	a := p.Addr().As16()
	h := fnv.New32a()
	h.Write(a[:])
	return max(h.Sum32(), 1)
}

const clearanceSize = 8 + 8 + 1 + 1 + 4 + 2 + 4

// Issue returns the token of a clearance.
func (s *Signer) Issue(c *Clearance) string {
	var b [clearanceSize]byte
	binary.BigEndian.PutUint64(b[0:], uint64(c.Issued.Unix()))
	binary.BigEndian.PutUint64(b[8:], c.ID)
	b[16], b[17] = byte(c.Kind), byte(c.Family)
	binary.BigEndian.PutUint32(b[18:], c.Net)
	binary.BigEndian.PutUint16(b[22:], uint16(min(c.Budget.Minute, 1<<16-1)))
	binary.BigEndian.PutUint32(b[24:], c.Budget.Day)
	return s.Sign(useClearance, b[:], "")
}

// Read returns the clearance of a token that is good at now, for tokens that are valid for that long.
// It allocates nothing.
func (s *Signer) Read(token string, validity time.Duration, now time.Time) (c Clearance, ok bool) {
	var b [clearanceSize]byte
	if !s.Verify(useClearance, token, b[:], "") {
		return Clearance{}, false
	}
	c = Clearance{
		Issued: time.Unix(int64(binary.BigEndian.Uint64(b[0:])), 0), ID: binary.BigEndian.Uint64(b[8:]),
		Kind: defense.ChallengeKind(b[16]), Family: defense.AgentFamily(b[17]), Net: binary.BigEndian.Uint32(b[18:]),
		Budget: Budget{Minute: uint32(binary.BigEndian.Uint16(b[22:])), Day: binary.BigEndian.Uint32(b[24:])},
	}
	return c, Within(c.Issued, now, validity)
}

// Skew is how far a clock may be wrong, ours or another edge's, without a
// reader noticing: a token that seems to come from the future, or to have run out, by less is good.
const Skew = 24 * time.Hour

// Within reports whether a token of that time is good at now.
func Within(issued, now time.Time, validity time.Duration) bool {
	age := now.Sub(issued)
	return age >= -Skew && age <= validity+Skew
}
