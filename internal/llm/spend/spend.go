// Package spend keeps what the callers of language models have used on each day, so that their budgets survive restarts and hold across replicas.
//
// Before a call the most that it may take is reserved; while it streams what it has taken is noted; at its end that is what counts. Of a process that
// was killed within a call, what was noted last counts.
package spend

import (
	"context"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/price"
)

// Amount is what calls take.
type Amount struct {
	Calls  int64       `json:"calls"`  // that were answered
	Tokens int64       `json:"tokens"` // of prompts and answers
	Cost   price.Money `json:"cost"`
}

// Plus is the sum.
func (a Amount) Plus(b Amount) Amount {
	return Amount{a.Calls + b.Calls, a.Tokens + b.Tokens, a.Cost + b.Cost}
}

// minus is the difference, no less than nothing.
func (a Amount) minus(b Amount) Amount {
	return Amount{max(a.Calls-b.Calls, 0), max(a.Tokens-b.Tokens, 0), max(a.Cost-b.Cost, 0)}
}

// most is the larger of each.
func (a Amount) most(b Amount) Amount {
	return Amount{max(a.Calls, b.Calls), max(a.Tokens, b.Tokens), max(a.Cost, b.Cost)}
}

// Limit bounds what an account may use on a day; 0 is no bound.
type Limit struct {
	Calls  int64
	Tokens int64
	Cost   price.Money
}

// None reports whether it bounds nothing.
func (l Limit) None() bool { return l == Limit{} }

// within reports whether an amount keeps to it.
func (l Limit) within(a Amount) bool {
	return (l.Calls == 0 || a.Calls <= l.Calls) && (l.Tokens == 0 || a.Tokens <= l.Tokens) && (l.Cost == 0 || a.Cost <= l.Cost)
}

// Date is a day by UTC, in days since 1 January 1970.
type Date int32

// DateOf is the day of a moment.
func DateOf(t time.Time) Date { return Date(t.Unix() / 86400) }

// Begin is its first moment.
func (d Date) Begin() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String is it as 2026-11-28.
func (d Date) String() string { return d.Begin().Format(time.DateOnly) }

// ParseDate reads a day such as 2026-11-28.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("%.20q is no day such as 2026-11-28", s)
	}
	return DateOf(t), nil
}

// Entry names a call in the books: of an account, on the day on which it began.
type Entry struct {
	Account string // at most MaxAccount bytes of a name
	Date    Date
	ID      string // that no other call has
}

// MaxAccount is the length of the longest name of an account, in bytes.
const MaxAccount = 64

// Hold is how long a reservation holds without a word of its call.
const Hold = 2 * time.Minute

// Keep is how many days are kept.
const Keep = 40

// Sums is what an account has used on a day, and what is reserved beside.
type Sums struct {
	Used     Amount `json:"used"`
	Reserved Amount `json:"reserved"`
}

// Store keeps the books. Its methods may be called again after an error: they do nothing twice.
type Store interface {
	// Reserve reserves the most that a call may take; ok is false, and nothing is reserved, if that with what is used and reserved is beyond the limit.
	Reserve(ctx context.Context, e Entry, most Amount, limit Limit) (sums Sums, ok bool, err error)
	// Note notes what a call that has reserved has taken so far, which holds its reservation for another Hold.
	Note(ctx context.Context, e Entry, used Amount) error
	// Settle ends a call. noted is what Note noted last; it counts when the reservation was given up meanwhile. A call that has not reserved can be
	// settled as well.
	Settle(ctx context.Context, e Entry, used, noted Amount) error
	// Sums returns an account's sums of a day.
	Sums(ctx context.Context, account string, d Date) (Sums, error)
}

// Day is the books of an account's day, for stores that keep them as one value.
type Day struct {
	Used   Amount              `json:"used"`
	Leases map[string]DayLease `json:"leases,omitempty"`
	Done   map[string]int64    `json:"done,omitempty"` // calls that were settled lately, with when that may be forgotten in Unix milliseconds
}

// DayLease is a reservation.
type DayLease struct {
	Until int64  `json:"until"` // Unix milliseconds
	Most  Amount `json:"most"`
	Used  Amount `json:"used"`
}

// tidy counts what the calls of killed processes had noted.
func (d *Day) tidy(now int64) {
	for id, l := range d.Leases {
		if l.Until <= now {
			d.Used = d.Used.Plus(l.Used)
			delete(d.Leases, id)
		}
	}
	for id, until := range d.Done {
		if until <= now {
			delete(d.Done, id)
		}
	}
}

// Sums returns the sums. The Day is tidied for it.
func (d *Day) Sums(now time.Time) Sums {
	d.tidy(now.UnixMilli())
	s := Sums{Used: d.Used}
	for _, l := range d.Leases {
		s.Reserved = s.Reserved.Plus(l.Most.most(l.Used))
	}
	return s
}

// Reserve is Store's.
func (d *Day) Reserve(now time.Time, id string, most Amount, limit Limit) (Sums, bool) {
	d.tidy(now.UnixMilli())
	delete(d.Leases, id) // asked for again
	s := d.Sums(now)
	if !limit.within(s.Used.Plus(s.Reserved).Plus(most)) {
		return s, false
	}
	if d.Leases == nil {
		d.Leases = map[string]DayLease{}
	}
	d.Leases[id] = DayLease{Until: now.Add(Hold).UnixMilli(), Most: most}
	s.Reserved = s.Reserved.Plus(most)
	return s, true
}

// Note is Store's.
func (d *Day) Note(now time.Time, id string, used Amount) {
	d.tidy(now.UnixMilli())
	if l, ok := d.Leases[id]; ok {
		l.Until, l.Used = now.Add(Hold).UnixMilli(), used
		d.Leases[id] = l
	}
}

// Settle is Store's.
func (d *Day) Settle(now time.Time, id string, used, noted Amount) {
	d.tidy(now.UnixMilli())
	if _, ok := d.Done[id]; ok {
		return
	}
	if _, ok := d.Leases[id]; ok {
		delete(d.Leases, id)
		d.Used = d.Used.Plus(used)
	} else {
		d.Used = d.Used.Plus(used.minus(noted))
	}
	if d.Done == nil {
		d.Done = map[string]int64{}
	}
	d.Done[id] = now.Add(Hold).UnixMilli()
}
