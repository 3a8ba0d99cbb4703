// Package id makes the identifiers of requests, events and decisions: ULIDs
// (https://github.com/ulid/spec), 26 characters that sort by time.
//
// Make one [Source] per process and share it: it takes no lock.
package id

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

// maxBack is how far, in milliseconds, the clock may step back before identifiers follow
// it. A smaller step is bridged, so that order holds; a larger one means that
// the clock was wrong before, and then a wrong time is worse than a broken order.
const maxBack = 1000

// Source makes identifiers that increase strictly while its clock does not step
// back by more than a second. It is safe for concurrent use.
type Source struct {
	now    func() time.Time
	random func() uint64
	// last is the top 64 bits of the newest identifier: 48 bits of milliseconds and
	// 16 of sequence. More than 65,536 identifiers in a millisecond borrow from the next.
	last atomic.Uint64
}

// New returns a source that reads now for the time and takes 64 random bits for each
// identifier from random. Both must be safe for concurrent use; time.Now and
// rand.Uint64 of math/rand/v2 are (the latter is a ChaCha8 generator that the
// runtime seeds from the system, one for each thread). Identifiers are hard to guess, but they
// are names, not secrets.
func New(now func() time.Time, random func() uint64) *Source {
	return &Source{now: now, random: random}
}

// Next returns a new identifier.
func (s *Source) Next() string {
	var u ulid.ULID
	binary.BigEndian.PutUint64(u[:8], s.advance(uint64(s.now().UnixMilli())))
	binary.BigEndian.PutUint64(u[8:], s.random())
	return u.String()
}

func (s *Source) advance(ms uint64) uint64 {
	for {
		last := s.last.Load()
		next := ms << 16
		if next <= last && last>>16-ms <= maxBack {
			next = last + 1
		}
		if s.last.CompareAndSwap(last, next) {
			return next
		}
	}
}
