package simulate

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// Result is what a play showed.
type Result struct {
	Scenario string    `json:"scenario"`
	Seed     uint64    `json:"seed"`
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"` // of the scenario's time
	Requests int       `json:"requests"`
	// FirstUnwanted is when the first request of an unwanted client was sent, in seconds since the start; -1 if there was none.
	FirstUnwanted float64 `json:"firstUnwanted"`
	Groups        []Group `json:"groups"` // those that took part, in the order of [AllLabels]
	// Ended says why the play ended before its actors did; "" if they had done.
	Ended string `json:"ended,omitempty"`
	// Transcript is a hash over what was asked and answered. The same seed against the same handler gives the same; tokens of checks, which
	// are random, are left out.
	Transcript string  `json:"transcript"`
	Summary    Summary `json:"summary"`
}

// Counts are requests by what was done with them.
type Counts struct {
	Requests   int `json:"requests"` // all but Checks
	Allowed    int `json:"allowed"`
	Observed   int `json:"observed"` // passed, but another mode or posture would have stopped it
	Throttled  int `json:"throttled"`
	Challenged int `json:"challenged"`
	Tarpitted  int `json:"tarpitted"`
	Denied     int `json:"denied"`
	Failed     int `json:"failed"` // of the allowed and observed: the site had no answer or one of 500 or more
	Checks     int `json:"checks"` // at the edge's own addresses: neither stopped nor served
}

// Stopped is how many requests did not reach the site.
func (c Counts) Stopped() int { return c.Throttled + c.Challenged + c.Tarpitted + c.Denied }

// StoppedShare is the part that did not reach the site, 0..1; 0 without requests.
func (c Counts) StoppedShare() float64 {
	if c.Requests == 0 {
		return 0
	}
	return float64(c.Stopped()) / float64(c.Requests)
}

// Clients are clients by what they met. One client may count several times.
type Clients struct {
	Total      int `json:"total"`     // that sent a request
	Addresses  int `json:"addresses"` // different ones
	Throttled  int `json:"throttled"`
	Challenged int `json:"challenged"`
	Passed     int `json:"passed"` // of those challenged: were served after the last challenge
	GaveUp     int `json:"gaveUp"` // of those challenged: were not
	Tarpitted  int `json:"tarpitted"`
	Denied     int `json:"denied"`
	// Harmed are those to whom happened what ought not to: a person denied or tarpitted, a welcome program also challenged.
	Harmed int `json:"harmed"`
}

// Group is what the clients of one label met.
type Group struct {
	Label       Label       `json:"label"`
	Expectation Expectation `json:"expectation"`
	All         Counts      `json:"all"`
	// AfterMinute are the requests sent a minute or more after the first of an unwanted client.
	AfterMinute Counts  `json:"afterMinute"`
	Clients     Clients `json:"clients"`
}

// Summary sums the groups up by expectation.
type Summary struct {
	Unwanted            int     `json:"unwanted"`            // requests
	Caught              int     `json:"caught"`              // of them
	Missed              int     `json:"missed"`              // of them
	CaughtShare         float64 `json:"caughtShare"`         // 0..1
	UnwantedAfterMinute int     `json:"unwantedAfterMinute"` // as above, but for the first minute
	CaughtAfterMinute   int     `json:"caughtAfterMinute"`
	CaughtShareAfter    float64 `json:"caughtShareAfterMinute"` // 0..1
	Welcome             int     `json:"welcome"`                // clients: people and welcome programs
	Harmed              int     `json:"harmed"`                 // of them
	Challenged          int     `json:"challenged"`             // of them
	GaveUp              int     `json:"gaveUp"`                 // of them
}

// Group returns the group of a label, an empty one if there is none.
func (r *Result) Group(l Label) Group {
	for _, g := range r.Groups {
		if g.Label == l {
			return g
		}
	}
	return Group{Label: l, Expectation: l.Expectation()}
}

// firstMinute is how long a campaign is given before it counts whether it is caught.
const firstMinute = time.Minute

// tally counts while a scenario is played.
type tally struct {
	result   *Result
	groups   map[Label]*Group
	clients  map[*Actor]*met
	first    time.Duration // of an unwanted client, -1: none yet
	requests int
	ended    time.Duration
	hash     hash.Hash64
}

// met is what one client met.
type met struct {
	Counts
	unserved bool // has not been served since the last challenge
}

func newTally(scenario string, seed uint64, start time.Time, actors []*Actor) *tally {
	t := &tally{
		result: &Result{Scenario: scenario, Seed: seed, Started: start, FirstUnwanted: -1}, groups: map[Label]*Group{},
		clients: make(map[*Actor]*met, len(actors)), first: -1, hash: fnv.New64a(),
	}
	for _, a := range actors {
		if t.groups[a.Label] == nil {
			t.groups[a.Label] = &Group{Label: a.Label, Expectation: a.Label.Expectation()}
		}
		t.clients[a] = &met{}
	}
	return t
}

// add counts one answer. Requests are added in the order in which they were sent, or nearly so.
func (t *tally) add(a *Actor, q *Request, r *Response, action defense.Action, known bool) {
	t.requests++
	t.transcribe(a, q, r)
	g, m := t.groups[a.Label], t.clients[a]
	if g.Expectation == ExpectStop && t.first < 0 {
		t.first = q.At
	}
	counts := []*Counts{&g.All, &m.Counts}
	if t.first >= 0 && q.At >= t.first+firstMinute {
		counts = append(counts, &g.AfterMinute)
	}
	if strings.HasPrefix(q.Path(), challenge.Prefix) {
		for _, c := range counts {
			c.Checks++
		}
		return
	}
	if !known {
		action = actionOf(r)
	}
	failed := !action.Stops() && (r.Status == 0 || r.Status >= 500)
	for _, c := range counts {
		c.Requests++
		switch action {
		case defense.Allow:
			c.Allowed++
		case defense.Observe:
			c.Observed++
		case defense.Throttle:
			c.Throttled++
		case defense.Challenge:
			c.Challenged++
		case defense.Tarpit:
			c.Tarpitted++
		default:
			c.Denied++
		}
		if failed {
			c.Failed++
		}
	}
	switch {
	case action == defense.Challenge:
		m.unserved = true
	case !action.Stops() && !failed:
		m.unserved = false
	}
}

// actionOf reads from an answer what the edge did. A site's own 403 and 429 look like refusals.
func actionOf(r *Response) defense.Action {
	switch r.Status {
	case http.StatusForbidden:
		return defense.Deny
	case http.StatusTooManyRequests:
		if bytes.Contains(r.Body, []byte(challenge.PassPath)) {
			return defense.Challenge
		}
		return defense.Throttle
	}
	return defense.Allow
}

func (t *tally) transcribe(a *Actor, q *Request, r *Response) {
	target := q.Target
	if strings.HasPrefix(target, challenge.Prefix) {
		target = q.Path()
	}
	fmt.Fprintf(t.hash, "%d %s %s %s %s\n", q.At, a.Client, q.Method, target, q.Header.Get("User-Agent"))
	for _, name := range []string{"Accept", "Accept-Language", "Referer", "Sec-Fetch-Site", "If-None-Match"} {
		io.WriteString(t.hash, q.Header.Get(name))
		t.hash.Write([]byte{'\n'})
	}
	fmt.Fprintf(t.hash, "%d %d\n", r.Status, r.Duration)
}

func (t *tally) finish(ended time.Duration) *Result {
	r := t.result
	r.Seconds, r.Requests, r.Transcript = ended.Seconds(), t.requests, hex.EncodeToString(t.hash.Sum(nil))
	if t.first >= 0 {
		r.FirstUnwanted = t.first.Seconds()
	}
	addresses := map[Label]map[netip.Addr]bool{}
	for a, m := range t.clients {
		if m.Requests+m.Checks == 0 {
			continue // the play ended before its turn
		}
		g := t.groups[a.Label]
		if addresses[a.Label] == nil {
			addresses[a.Label] = map[netip.Addr]bool{}
		}
		addresses[a.Label][a.Client] = true
		c := &g.Clients
		c.Total++
		c.Addresses = len(addresses[a.Label])
		c.Throttled += one(m.Throttled > 0)
		c.Challenged += one(m.Challenged > 0)
		c.GaveUp += one(m.Challenged > 0 && m.unserved)
		c.Passed += one(m.Challenged > 0 && !m.unserved)
		c.Tarpitted += one(m.Tarpitted > 0)
		c.Denied += one(m.Denied > 0)
		switch g.Expectation {
		case ExpectAdmit:
			c.Harmed += one(m.Denied+m.Tarpitted > 0)
		case ExpectServe:
			c.Harmed += one(m.Denied+m.Tarpitted+m.Challenged > 0)
		}
	}
	s := &r.Summary
	for _, l := range AllLabels() {
		g := t.groups[l]
		if g == nil {
			continue
		}
		r.Groups = append(r.Groups, *g)
		switch g.Expectation {
		case ExpectStop:
			s.Unwanted += g.All.Requests
			s.Caught += g.All.Stopped()
			s.UnwantedAfterMinute += g.AfterMinute.Requests
			s.CaughtAfterMinute += g.AfterMinute.Stopped()
		case ExpectAdmit, ExpectServe:
			s.Welcome += g.Clients.Total
			s.Harmed += g.Clients.Harmed
			s.Challenged += g.Clients.Challenged
			s.GaveUp += g.Clients.GaveUp
		}
	}
	s.Missed = s.Unwanted - s.Caught
	s.CaughtShare = share(s.Caught, s.Unwanted)
	s.CaughtShareAfter = share(s.CaughtAfterMinute, s.UnwantedAfterMinute)
	return r
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Format is how a table is written.
type Format uint8

// The formats.
const (
	Text     Format = iota // columns for a terminal
	Markdown               // tables for documentation
)

// WriteTable writes the results for people: what each kind of client met, and a sentence for each scenario.
func WriteTable(w io.Writer, f Format, results ...*Result) error {
	rows := [][]string{{"scenario", "who", "ought to be", "clients", "requests", "allowed", "observed", "throttled", "challenged", "tarpitted", "denied", "failed",
		"stopped after 1 min", "challenged clients", "passed", "gave up", "denied clients", "harmed"}}
	for _, r := range results {
		for _, g := range r.Groups {
			after := "-"
			if g.AfterMinute.Requests > 0 {
				after = fmt.Sprintf("%.1f %% of %d", 100*g.AfterMinute.StoppedShare(), g.AfterMinute.Requests)
			}
			harmed := "-"
			if g.Expectation == ExpectAdmit || g.Expectation == ExpectServe {
				harmed = strconv.Itoa(g.Clients.Harmed)
			}
			row := []string{r.Scenario, string(g.Label), expected(g.Expectation)}
			for _, n := range []int{g.Clients.Total, g.All.Requests, g.All.Allowed, g.All.Observed, g.All.Throttled, g.All.Challenged, g.All.Tarpitted, g.All.Denied, g.All.Failed} {
				row = append(row, strconv.Itoa(n))
			}
			row = append(row, after, strconv.Itoa(g.Clients.Challenged), strconv.Itoa(g.Clients.Passed), strconv.Itoa(g.Clients.GaveUp), strconv.Itoa(g.Clients.Denied), harmed)
			rows = append(rows, row)
		}
	}
	var b bytes.Buffer
	if f == Markdown {
		for i, row := range rows {
			b.WriteString("| " + strings.Join(row, " | ") + " |\n")
			if i == 0 {
				b.WriteString("| --- | --- | ---" + strings.Repeat(" | ---:", len(row)-3) + " |\n")
			}
		}
	} else {
		tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range rows {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	b.WriteByte('\n')
	for _, r := range results {
		line := r.Sentence()
		if f == Markdown {
			line = "- " + line
		}
		b.WriteString(line + "\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// expected says an expectation in the table.
func expected(e Expectation) string {
	switch e {
	case ExpectAdmit:
		return "let in, or asked once"
	case ExpectServe:
		return "served"
	case ExpectStop:
		return "stopped"
	}
	return "as the owner likes"
}

// Sentence says in one line who was caught, missed and harmed.
func (r *Result) Sentence() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", r.Scenario)
	s := r.Summary
	if s.Unwanted > 0 {
		fmt.Fprintf(&b, "caught %d of %d unwanted requests (%.1f %%), missed %d; after the first minute %.1f %%; ", s.Caught, s.Unwanted, 100*s.CaughtShare, s.Missed, 100*s.CaughtShareAfter)
	}
	fmt.Fprintf(&b, "harmed %d of %d welcome clients, asked %d, of whom %d gave up.", s.Harmed, s.Welcome, s.Challenged, s.GaveUp)
	if r.Ended != "" {
		b.WriteString(" Ended " + r.Ended + ".")
	}
	return b.String()
}

// WriteJSON writes the results for programs.
func WriteJSON(w io.Writer, results ...*Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if results == nil {
		results = []*Result{}
	}
	return e.Encode(results)
}
