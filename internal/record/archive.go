package record

import (
	"context"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Archive is what events are kept in. Packages store/sqlite and store/postgres implement it. It is never
// given transient events.
type Archive interface {
	// Append stores the events, all or none. Events that are already there, by id, are
	// left as they are and counted as duplicates, so that a batch may be sent again.
	Append(ctx context.Context, events []*defense.Event) (duplicates int, err error)
	// AddCounters adds to the exact counters, all or none.
	AddCounters(ctx context.Context, counters []Counter) error
	// Prune removes the oldest events until none is older than maxAge and the
	// archive is no larger than maxBytes; 0 sets no limit.
	Prune(ctx context.Context, maxAge time.Duration, maxBytes int64, now time.Time) (removed int, err error)
	// Size returns the bytes that the archive takes on disk.
	Size() (int64, error)
}

// Reader is what the API reads from. Package store/sqlite implements it.
type Reader interface {
	// Events returns the events that match, newest first.
	Events(ctx context.Context, f Filter) (Page, error)
	// Summary counts what happened from since until before until.
	Summary(ctx context.Context, since, until time.Time) (Summary, error)
	// Harm lists whom the verdicts of that time stopped, or would have stopped, who looks like a reader.
	Harm(ctx context.Context, since, until time.Time) (Harm, error)
	// Erase removes what is kept of the clients in the prefix.
	Erase(ctx context.Context, client netip.Prefix) (removed int, err error)
}

// Counter is how many requests of a site met a verdict within an hour. Counters
// are exact, though only a sample of allowed requests is kept as events.
type Counter struct {
	Hour     time.Time      `json:"hour,omitzero"` // its beginning, UTC
	Site     string         `json:"site,omitempty"`
	Action   defense.Action `json:"action"`
	Intended defense.Action `json:"intended"`
	Count    uint64         `json:"count"`
}

// MaxEvents is the largest Filter.Limit.
const MaxEvents = 1000

// Filter selects events. The zero value of a field does not restrict.
type Filter struct {
	Since, Until time.Time // from Since until before Until
	ID           string    // the id of the event or of its request
	Site         string
	Client       netip.Prefix // an address or a range
	Action       *defense.Action
	Intended     *defense.Action
	Event        string // Event.Kind: "request", "challenge", …
	Kind         *defense.Kind
	Host         string
	Path         string // a part of the path
	Agent        string // a part of the User-Agent, ASCII letters without case
	Rule         string
	Crawler      string
	Before       string // Page.Next of the page before
	Limit        int    // at most MaxEvents; 0: 100
}

// Page is a part of the events that match a filter.
type Page struct {
	Events []defense.Event `json:"events"`
	Next   string          `json:"next,omitempty"` // Filter.Before of the next page; "" after the last
}

// Tally is how often something was recorded, and how often it was stopped.
// Allowed requests are recorded as a sample only; all others are complete.
type Tally struct {
	Name    string `json:"name"`
	Events  int    `json:"events"`
	Stopped int    `json:"stopped"` // kept from the upstream
	Held    int    `json:"held"`    // would have been, had every verdict been carried out
}

// Summary is the owner's view of a period.
type Summary struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Requests, Totals and Hours are exact and cover the whole hours that the period touches.
	Requests uint64    `json:"requests"`
	Totals   []Counter `json:"totals"` // for each site and verdict
	Hours    []Counter `json:"hours"`  // for each hour and verdict, all sites
	// Events and the tallies count what was recorded, the most frequent first.
	Events   int     `json:"events"`
	Rules    []Tally `json:"rules"`
	Kinds    []Tally `json:"kinds"`
	Families []Tally `json:"families"`
	Crawlers []Tally `json:"crawlers"`
	Agents   []Tally `json:"agents"`
	Prefixes []Tally `json:"prefixes"`
}

// Harm lists verdicts that stopped, or would have stopped, clients that look
// like those a site must not lose. It overstates: a scraper that claims to be a browser looks like one.
type Harm struct {
	Since    time.Time   `json:"since"`
	Until    time.Time   `json:"until"`
	Events   int         `json:"events"`
	Clients  int         `json:"clients"`
	Prefixes int         `json:"prefixes"`
	Groups   []HarmGroup `json:"groups"`            // the largest first
	Omitted  int         `json:"omitted,omitempty"` // events in groups beyond the hundred largest
}

// HarmGroup is a neighbourhood of clients that one rule met in one way.
type HarmGroup struct {
	Prefix    string         `json:"prefix"`
	LooksLike string         `json:"looksLike"` // "browser", "app", "feed", "git", "preview", "crawler" (a verified one)
	Rule      string         `json:"rule"`
	Intended  defense.Action `json:"intended"`
	Stopped   int            `json:"stopped"` // carried out
	Held      int            `json:"held"`    // would have been
	Clients   int            `json:"clients"`
	Score     int            `json:"score"` // mean
	First     time.Time      `json:"first"`
	Last      time.Time      `json:"last"`
	Example   defense.Event  `json:"example"` // the newest
}
