// Package casebook groups suspicious events into cases: of one client, and of campaigns of many clients that share something.
package casebook

import (
	"context"
	"errors"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// ErrNoCase is wrapped when a named case is not in the store.
var ErrNoCase = errors.New("no such case")

// MaxCases is the largest Filter.Limit.
const MaxCases = 1000

// Filter selects cases. The zero value of a field does not restrict.
type Filter struct {
	Kind         defense.CaseKind
	Site         string
	Key          string // exactly this client, fingerprint or range
	Outcome      defense.CaseOutcome
	Label        defense.CaseLabel
	Labelled     bool      // only those with a label
	Since, Until time.Time // last seen from Since until before Until
	MinScore     float64   // 0..1
	Before       string    // Page.Next of the page before
	Limit        int       // at most MaxCases; 0: 100
}

// Page is a part of the cases that match a filter, the latest seen first.
type Page struct {
	Cases []defense.Case `json:"cases"`
	Next  string         `json:"next,omitempty"` // Filter.Before of the next page; "" after the last
}

// Store keeps cases. Packages store/sqlite and store/postgres implement it.
type Store interface {
	// PutCases keeps the cases as they are now, by id, all or none. A label that the store has and the
	// given case lacks stays: a person's word is not lost to the next revision.
	PutCases(ctx context.Context, cases []defense.Case) error
	// Case returns one case; the error wraps ErrNoCase when there is none.
	Case(ctx context.Context, id string) (defense.Case, error)
	// Cases returns the cases that match.
	Cases(ctx context.Context, f Filter) (Page, error)
	// LabelCase keeps what a person says that the case was; LabelNone takes it back.
	LabelCase(ctx context.Context, id string, label defense.CaseLabel) error
	// PruneCases removes cases without label last seen before t and returns how many.
	PruneCases(ctx context.Context, t time.Time) (int, error)
}
