package rows

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
)

// What is kept of one case, in bytes of text and in entries. What exceeds is cut; the last decisions and stages stay.
const (
	maxID            = 64
	maxName          = 128
	maxAgent         = 512
	maxTarget        = 4096
	maxSentence      = 1024
	maxAgents        = 8
	maxPaths         = 16
	maxSample        = 64
	maxStages        = 16
	maxContributions = 12
	maxDecisions     = 128
	maxFeatures      = 256
)

// Case is a case as it is stored.
type Case struct {
	ID             string
	Kind           string
	Key            string // see privacy.Masker.Subject
	Site           string
	LastSeen       int64 // Unix milliseconds
	Score          float64
	Outcome        string
	Label          string
	Client, Prefix []byte // of a client's case; see privacy.Masker.Client
	Body           string // JSON of the whole case
}

// EncodeCase returns the case as it is stored, without changing it: bounded, its text valid UTF-8 without NUL,
// its numbers such as JSON can hold, and with no more of the clients' addresses and queries than the masker lets through.
func EncodeCase(c *defense.Case, m *privacy.Masker) (Case, error) {
	switch {
	case c.ID == "" || len(c.ID) > maxID || record.Clean(c.ID, maxID) != c.ID:
		return Case{}, fmt.Errorf("a case needs an id of at most %d bytes, not %.80q", maxID, c.ID)
	case c.Kind != defense.CaseClient && c.Kind != defense.CaseCampaign:
		return Case{}, fmt.Errorf("case %s: unknown kind %.40q", c.ID, c.Kind)
	}
	if err := CheckLabel(c.Label); err != nil {
		return Case{}, fmt.Errorf("case %s: %w", c.ID, err)
	}
	k := bounded(c)
	row := Case{ID: c.ID, Kind: string(c.Kind), LastSeen: c.LastSeen.UnixMilli(), Client: []byte{}, Prefix: []byte{}}
	if c.Kind == defense.CaseClient {
		row.Client, row.Prefix = m.StoredSubject(k.Key)
	}
	mask(&k, m)
	row.Key, row.Site, row.Score, row.Outcome, row.Label = k.Key, k.Site, k.Score, string(k.Outcome), string(k.Label)
	text, err := json.Marshal(&k)
	if err != nil {
		return Case{}, fmt.Errorf("encoding case %s: %w", c.ID, err)
	}
	row.Body = string(text)
	return row, nil
}

// bounded returns a copy within the limits. It shares nothing that mask changes.
func bounded(c *defense.Case) defense.Case {
	k := *c
	k.Key, k.Site, k.Outcome = record.Clean(k.Key, maxName), record.Clean(k.Site, maxName), defense.CaseOutcome(record.Clean(string(k.Outcome), maxID))
	k.Identity.Crawler, k.Identity.How = record.Clean(k.Identity.Crawler, maxName), record.Clean(k.Identity.How, maxName)
	k.FirstSeen, k.LastSeen, k.JudgedAt = k.FirstSeen.UTC(), k.LastSeen.UTC(), k.JudgedAt.UTC()
	k.Score = probability(k.Score)
	k.Agents = cleanAll(first(c.Agents, maxAgents), maxAgent)
	k.Paths = cleanAll(first(c.Paths, maxPaths), maxTarget)
	k.Members.Sample = cleanAll(first(c.Members.Sample, maxSample), maxID)
	k.DecisionIDs = cleanAll(last(c.DecisionIDs, maxDecisions), maxID)
	if c.Features.Values != nil {
		k.Features.Values = make(map[string]float64, len(c.Features.Values))
		for name, v := range c.Features.Values {
			// What is no number was not measured.
			if !math.IsNaN(v) && !math.IsInf(v, 0) && len(k.Features.Values) < maxFeatures {
				k.Features.Values[record.Clean(name, maxName)] = v
			}
		}
	}
	k.Stages = slices.Clone(last(c.Stages, maxStages))
	for i := range k.Stages {
		s := &k.Stages[i]
		s.Name, s.Sentence, s.Problem = record.Clean(s.Name, maxName), record.Clean(s.Sentence, maxSentence), record.Clean(s.Problem, maxSentence)
		s.Score, s.Weight, s.At = probability(s.Score), finite(s.Weight), s.At.UTC()
		s.Contributions = slices.Clone(first(s.Contributions, maxContributions))
		for j := range s.Contributions {
			o := &s.Contributions[j]
			o.Name, o.Sentence = record.Clean(o.Name, maxName), record.Clean(o.Sentence, maxSentence)
			o.Value, o.LogOdds = finite(o.Value), finite(o.LogOdds)
		}
	}
	return k
}

// mask takes out of the case what the masker does not let through: addresses, also where sentences name the key or a member, and queries.
func mask(k *defense.Case, m *privacy.Masker) {
	for i, p := range k.Paths {
		if path, query, ok := strings.Cut(p, "?"); ok {
			if query = m.Query(query); query != "" {
				path += "?" + query
			}
			k.Paths[i] = path
		}
	}
	names := append([]string{k.Key}, k.Members.Sample...)
	// The longer first, since 192.0.2.7 is also the beginning of 192.0.2.77.
	slices.SortStableFunc(names, func(x, y string) int { return len(y) - len(x) })
	var pairs []string
	for _, name := range names {
		if s := m.Subject(name); s != name {
			pairs = append(pairs, name, s)
		}
	}
	k.Key = m.Subject(k.Key)
	if len(pairs) == 0 {
		return
	}
	sample := k.Members.Sample[:0]
	for _, member := range k.Members.Sample {
		if s := m.Subject(member); !slices.Contains(sample, s) {
			sample = append(sample, s)
		}
	}
	k.Members.Sample = sample
	r := strings.NewReplacer(pairs...)
	for i := range k.Stages {
		s := &k.Stages[i]
		s.Sentence, s.Problem = r.Replace(s.Sentence), r.Replace(s.Problem)
		for j := range s.Contributions {
			s.Contributions[j].Sentence = r.Replace(s.Contributions[j].Sentence)
		}
	}
}

// DecodeCase returns a stored case: its body, with the label that a person gave it.
func DecodeCase(body, label string) (defense.Case, error) {
	var c defense.Case
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return c, fmt.Errorf("reading a stored case: %w", err)
	}
	c.Label = defense.CaseLabel(label)
	return c, nil
}

// WithoutMembers returns the stored body without the members that match, and whether there were any. The
// count of members stays, since it is an estimate that names nobody.
func WithoutMembers(body string, match func(text string) bool) (string, bool, error) {
	c, err := DecodeCase(body, "")
	if err != nil {
		return body, false, err
	}
	n := len(c.Members.Sample)
	c.Members.Sample = slices.DeleteFunc(c.Members.Sample, match)
	if len(c.Members.Sample) == n {
		return body, false, nil
	}
	text, err := json.Marshal(&c)
	return string(text), true, err
}

// ErasedRange returns the prefix whose client cases go when p is erased: an address goes with its client.
func ErasedRange(p netip.Prefix) netip.Prefix {
	if c := defense.NewClient(p.Addr()).Counted; p.Bits() > c.Bits() {
		return c
	}
	return p
}

// CheckLabel reports a label that there is not.
func CheckLabel(l defense.CaseLabel) error {
	switch l {
	case defense.LabelNone, defense.LabelHuman, defense.LabelBot, defense.LabelCrawler:
		return nil
	}
	return fmt.Errorf("unknown label %.40q: use human, bot, crawler or nothing", l)
}

// Cases puts a page of cases together. Its Next is set when Add has been called more often than the page is long.
type Cases struct {
	Filter casebook.Filter
	Limit  int
	Page   casebook.Page
	last   int64 // last seen of the last case, Unix milliseconds
}

// NewCases checks the filter's limit and label; the error wraps [record.ErrBadFilter].
func NewCases(f casebook.Filter) (*Cases, error) {
	limit, err := Limit(f.Limit, casebook.MaxCases, record.ErrBadFilter)
	if err != nil {
		return nil, err
	}
	if math.IsNaN(f.MinScore) {
		return nil, fmt.Errorf("%w: the least score is no number", record.ErrBadFilter)
	}
	return &Cases{Filter: f, Limit: limit, Page: casebook.Page{Cases: []defense.Case{}}}, nil
}

// Add adds the next stored case. A key that only the filter's can have become is shown as the filter has it.
func (p *Cases) Add(lastSeen int64, body, label string, m *privacy.Masker) error {
	if len(p.Page.Cases) == p.Limit {
		p.Page.Next = Cursor(p.last, p.Page.Cases[p.Limit-1].ID)
		return nil
	}
	c, err := DecodeCase(body, label)
	if err != nil {
		return err
	}
	if key := p.Filter.Key; key != "" && m.Restores(key, c.Key) {
		c.Key = key
	}
	p.last = lastSeen
	p.Page.Cases = append(p.Page.Cases, c)
	return nil
}

// NoCase is the error about a case that is not there.
func NoCase(id string) error { return fmt.Errorf("%w: %.80q", casebook.ErrNoCase, id) }

func probability(f float64) float64 { return max(0, min(1, finite(f))) }

func first[T any](s []T, n int) []T { return s[:min(len(s), n)] }

func last[T any](s []T, n int) []T { return s[max(0, len(s)-n):] }

func cleanAll(s []string, limit int) []string {
	if s == nil {
		return nil
	}
	c := make([]string, len(s))
	for i := range s {
		c[i] = record.Clean(s[i], limit)
	}
	return c
}

// Text makes a text valid UTF-8 without NUL, as stored text is.
func Text(s string) string { return record.Clean(s, len(s)) }
