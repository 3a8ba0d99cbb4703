// Package crawler is the catalogue of automated agents: their names, who runs
// them, what for, and how a claim to be one of them could be checked.
//
// The catalogue answers "which agent does this User-Agent name?", nothing more: anybody can write
// "Googlebot" into a header. Before a claim earns a favour it wants proof, and
// before it costs one it should be unwelcome even if true.
//
// catalogue.json is generated from public lists and from overrides.yaml, which
// decides wherever it matters; see README.md for how to change it. Use [Default]
// for it, once per process, and [New] for a catalogue of one's own.
package crawler

import (
	_ "embed" // catalogue.json
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/multimatch"
)

//go:generate go run ./gen -in testdata/sources -overrides overrides.yaml -out catalogue.json

//go:embed catalogue.json
var catalogueJSON []byte

// MinToken is the length of the shortest token that New accepts, in bytes.
const MinToken = 3

// Catalogue finds the crawler that a User-Agent names. It is immutable and may be
// used by many goroutines at once.
type Catalogue struct {
	crawlers []defense.Crawler
	byID     map[string]*defense.Crawler
	matcher  *multimatch.Matcher
	tokens   []token // by index of the matcher's pattern
}

type token struct {
	crawler *defense.Crawler
	rank    rank
}

// rank orders the tokens that one text holds, the least telling first.
type rank uint8

const (
	// What a crawler is built with. "ExampleBot/1.0 python-requests/2.31" is ExampleBot.
	rankMeans rank = iota
	// A part of an address, which many agents of one operator may link to.
	rankAddress
	rankName
)

// Default returns the built-in catalogue. It is compiled anew by each call, which
// takes some milliseconds; keep it. It fails only if the program was built with a broken catalogue.
func Default() (*Catalogue, error) {
	var crawlers []defense.Crawler
	if err := json.Unmarshal(catalogueJSON, &crawlers); err != nil {
		return nil, fmt.Errorf("read built-in crawler catalogue: %w", err)
	}
	c, err := New(crawlers)
	if err != nil {
		return nil, fmt.Errorf("built-in crawler catalogue: %w", err)
	}
	return c, nil
}

// New returns a catalogue of these crawlers, of which it keeps a copy. It fails on an entry without id, name
// or token, on an unknown purpose, kind of proof or robots value, and on an id or a token that two
// entries share, and reports all such problems at once.
func New(crawlers []defense.Crawler) (*Catalogue, error) {
	c := &Catalogue{crawlers: slices.Clone(crawlers), byID: make(map[string]*defense.Crawler, len(crawlers))}
	owner := make(map[string]string)
	var patterns []multimatch.Pattern
	var problems []error
	for i := range c.crawlers {
		entry := &c.crawlers[i]
		if err := check(entry); err != nil {
			problems = append(problems, fmt.Errorf("crawler %q: %w", entry.ID, err))
			continue
		}
		if c.byID[entry.ID] != nil {
			problems = append(problems, fmt.Errorf("crawler %q: the id is used twice", entry.ID))
			continue
		}
		c.byID[entry.ID] = entry
		for _, t := range entry.Tokens {
			if other, taken := owner[strings.ToLower(t)]; taken {
				problems = append(problems, fmt.Errorf("crawler %q: token %q belongs to %q", entry.ID, t, other))
				continue
			}
			owner[strings.ToLower(t)] = entry.ID
			patterns = append(patterns, multimatch.Pattern{Text: t, Boundary: true})
			c.tokens = append(c.tokens, token{entry, rankOf(entry, t)})
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	var err error
	if c.matcher, err = multimatch.New(patterns); err != nil {
		return nil, fmt.Errorf("compile crawler tokens: %w", err)
	}
	return c, nil
}

func check(c *defense.Crawler) error {
	switch {
	case c.ID == "":
		return fmt.Errorf("an entry (name %q) has no id", c.Name)
	case c.Name == "":
		return errors.New("it has no name")
	case len(c.Tokens) == 0:
		return errors.New("it has no token, so nothing can match it")
	case !slices.Contains(defense.Purposes(), c.Purpose):
		return fmt.Errorf("unknown purpose %q: use one of %v", c.Purpose, defense.Purposes())
	case !slices.Contains([]string{"", "yes", "no"}, c.RespectsRobots):
		return fmt.Errorf("unknown respectsRobots %q: use yes, no or leave it out", c.RespectsRobots)
	}
	for _, t := range c.Tokens {
		if len(t) < MinToken || len(t) > multimatch.MaxPattern {
			return fmt.Errorf("token %q: has %d bytes, needs %d to %d", t, len(t), MinToken, multimatch.MaxPattern)
		}
	}
	for _, p := range c.Provable {
		if p != "range" && p != "dns" && p != "signature" {
			return fmt.Errorf("unknown proof %q: use range, dns or signature", p)
		}
	}
	return nil
}

func rankOf(c *defense.Crawler, t string) rank {
	// A slash at the end stands before a version, one with a dot before it in an address.
	slash := strings.IndexByte(t, '/')
	switch {
	case c.Purpose == defense.PurposeTool || c.Purpose == defense.PurposeBrowserAgent:
		return rankMeans
	case strings.Contains(t, "://") || slash > 0 && slash < len(t)-1 && strings.Contains(t[:slash], "."):
		return rankAddress
	}
	return rankName
}

// Match returns the crawler that the User-Agent names, or nil. Tokens are found
// without regard to case and only at word boundaries. Where several are found, the name of an agent
// beats an address, and both beat the library or automated browser that the agent
// is made with; among equals the longest token wins, as the most specific
// ("Applebot-Extended" over "Applebot"), then the leftmost. A name after the word "like", as in
// "Feedly/1.0 (…; like FeedFetcher-Google)", is a comparison and not a claim. The entry is shared and must
// not be changed.
func (c *Catalogue) Match(agent string) *defense.Crawler {
	crawler, _, _ := c.Find(agent)
	return crawler
}

// Find is Match, and says which bytes of the text named the crawler: agent[start:end].
func (c *Catalogue) Find(agent string) (crawler *defense.Crawler, start, end int) {
	var best rank
	c.matcher.Each(agent, func(i, s, e int) bool {
		if isLikened(agent[:s]) {
			return true
		}
		t := c.tokens[i]
		if crawler == nil || t.rank > best || t.rank == best && (e-s > end-start || e-s == end-start && s < start) {
			crawler, best, start, end = t.crawler, t.rank, s, e
		}
		return true
	})
	return crawler, start, end
}

// isLikened reports whether the text ends with the word "like" and a space.
func isLikened(before string) bool {
	const like = "like "
	n := len(before) - len(like)
	return n >= 0 && strings.EqualFold(before[n:], like) && (n == 0 || before[n-1] == ' ' || before[n-1] == '(')
}

// All returns the entries in the order given, for the built-in catalogue sorted by id.
func (c *Catalogue) All() []defense.Crawler { return slices.Clone(c.crawlers) }

// ByID returns the entry with that id, or nil. It is shared and must not be changed.
func (c *Catalogue) ByID(id string) *defense.Crawler { return c.byID[id] }
