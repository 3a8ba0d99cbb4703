// Package entry is the way into the tarpit: what an edge says of the client that it sends there and what it is told in return, in one
// process or from one to another.
package entry

import (
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Guest is a client with a tarpit verdict, and what it asks for.
type Guest struct {
	Client    netip.Prefix // what is counted as one client: an address, or an IPv6 /64; invalid when it has no address
	Address   netip.Addr
	Site      string
	Scheme    string // "http" or "https", as the client sees it
	RequestID string
	WayOut    string // the address of the way out for people
}

// Stay is what one request cost the client and us.
type Stay struct {
	Status int
	Held   time.Duration // from its arrival to the end of the answer
	Bytes  int64         // of the body, sent to the client
	Depth  int           // how deep in the maze the page lies
	Cost   time.Duration // our processor's time, as measured by the clock while its answer was made; 0 when another process made it
}

// Refusal is why a client is not taken in.
type Refusal uint8

const (
	// Taken means that the client was answered, or will be.
	Taken Refusal = iota
	// Full means that a bound is reached or the tarpit is switched off: the edge answers as if there were none.
	Full
	// Spent means that the client has used up its day's pages: it is to be denied.
	Spent
)

// String is the refusal as HeaderStay has it.
func (r Refusal) String() string { return [...]string{"taken", "full", "spent"}[r] }

// Into completes the event of the request with what its stay cost.
func (s *Stay) Into(e *defense.Event) {
	if s.Status != 0 {
		e.Response.Status = s.Status
	}
	e.Response.Bytes, e.Response.Duration = s.Bytes, s.Held.Seconds()
	e.Tarpit = &defense.EventTarpit{Held: s.Held.Seconds(), Bytes: s.Bytes, Depth: s.Depth}
}
