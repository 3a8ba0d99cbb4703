package challenge

import (
	"encoding/binary"
	"time"

	"github.com/quickthorn/quickthorn/internal/challenge/work"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/redemption"
)

// The uses of this package's tokens.
const (
	useTicket  clearance.Use = 0x21
	useVisitor clearance.Use = 0x22
	useLook    clearance.Use = 0x23 // the address of the style sheet of kind silent
	useSeen    clearance.Use = 0x24 // the cookie that comes with it
)

const (
	// ticketValidity is how long a challenge page may lie open before it is followed. After
	// it, another one is shown in its place. It bounds what must be remembered of redeemed tickets.
	ticketValidity = redemption.Keep - 2*ticketSkew
	// ticketSkew is how far the clocks of edges may differ. That a server's clock was set back must not stop anybody, so
	// a ticket from the future has clearance.Skew.
	ticketSkew = 10 * time.Minute
)

// ticket is what a challenge page needs to come back. It is bound to the address that the page returns to.
type ticket struct {
	issued  time.Time
	id      uint64
	kind    defense.ChallengeKind
	ladder  defense.Ladder
	level   uint8
	attempt uint8 // rounds before this one
	flags   uint8
	puzzle  work.Puzzle // of kind work
}

const (
	flagEmbedded  = 1 << iota // the page stands in a frame on another site
	flagDowngrade             // the visitor took the way without JavaScript where another was offered
)

const ticketSize = 8 + 8 + 1 + 5 + 1 + 1 + 1 + 4

func (t *ticket) sign(s *clearance.Signer, to string) string {
	var b [ticketSize]byte
	binary.BigEndian.PutUint64(b[0:], uint64(t.issued.Unix()))
	binary.BigEndian.PutUint64(b[8:], t.id)
	b[16] = byte(t.kind)
	for i, k := range t.ladder {
		b[17+i] = byte(k)
	}
	b[22], b[23], b[24] = t.level, t.attempt, t.flags
	b[25], b[26], b[27], b[28] = byte(t.puzzle.Algorithm), byte(t.puzzle.Puzzles), byte(t.puzzle.Bits), byte(t.puzzle.Least)
	return s.Sign(useTicket, b[:], to)
}

func readTicket(s *clearance.Signer, text, to string) (t ticket, ok bool) {
	var b [ticketSize]byte
	if !s.Verify(useTicket, text, b[:], to) {
		return ticket{}, false
	}
	t = ticket{
		issued: time.Unix(int64(binary.BigEndian.Uint64(b[0:])), 0), id: binary.BigEndian.Uint64(b[8:]),
		kind: defense.ChallengeKind(b[16]), level: b[22], attempt: b[23], flags: b[24],
		puzzle: work.Puzzle{Algorithm: work.Algorithm(b[25]), Puzzles: int(b[26]), Bits: int(b[27]), Least: int(b[28])},
	}
	for i := range t.ladder {
		t.ladder[i] = defense.ChallengeKind(b[17+i])
	}
	return t, true
}

// current reports whether the ticket may be redeemed at now.
func (t *ticket) current(now time.Time) bool {
	age := now.Sub(t.issued)
	return age >= -clearance.Skew && age <= ticketValidity+ticketSkew
}

// visitor is the cookie that proves that cookies are kept, and by which a repeated
// redemption is known to be the same browser's.
type visitor struct {
	issued time.Time
	id     uint64
	passes uint8     // how often it passed lately without a clearance to show
	passed time.Time // the last time
}

const visitorSize = 8 + 8 + 1 + 8

func (v *visitor) sign(s *clearance.Signer) string {
	var b [visitorSize]byte
	binary.BigEndian.PutUint64(b[0:], uint64(v.issued.Unix()))
	binary.BigEndian.PutUint64(b[8:], v.id)
	b[16] = v.passes
	binary.BigEndian.PutUint64(b[17:], uint64(v.passed.Unix()))
	return s.Sign(useVisitor, b[:], "")
}

func readVisitor(s *clearance.Signer, text string, now time.Time) (v visitor, ok bool) {
	var b [visitorSize]byte
	if !s.Verify(useVisitor, text, b[:], "") {
		return visitor{}, false
	}
	v = visitor{
		issued: time.Unix(int64(binary.BigEndian.Uint64(b[0:])), 0), id: binary.BigEndian.Uint64(b[8:]),
		passes: b[16], passed: time.Unix(int64(binary.BigEndian.Uint64(b[17:])), 0),
	}
	return v, clearance.Within(v.issued, now, visitorValidity)
}

// signTime returns a token that says no more than when it was made.
func signTime(s *clearance.Signer, u clearance.Use, now time.Time) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.Unix()))
	return s.Sign(u, b[:], "")
}

func readTime(s *clearance.Signer, u clearance.Use, text string, now time.Time, validity time.Duration) bool {
	var b [8]byte
	if !s.Verify(u, text, b[:], "") {
		return false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(b[:])), 0))
	return age >= -ticketSkew && age <= validity+ticketSkew
}
