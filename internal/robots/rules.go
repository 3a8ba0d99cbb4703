// Package robots knows what the robots.txt of each site asks of automated agents, so that it can be seen who
// disregards it. It fetches the files now and then and answers from memory.
//
// It reads robots.txt as RFC 9309 says. Unlike a crawler, which knows its own name, it is given the whole User-Agent of
// somebody else, and takes the group whose name stands in it. The file asks robots, not people: that a browser goes to a
// disallowed page means nothing.
package robots

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// The bounds of a robots.txt. What exceeds them is not read.
const (
	MaxBytes    = 500 << 10 // as RFC 9309 section 2.5 has it
	maxRules    = 4096
	maxGroups   = 1024
	maxPieces   = 32  // of a rule, between its asterisks
	maxName     = 128 // bytes of an agent's name
	maxRemember = 1024
)

// Rules are what one robots.txt says. They may be used by many goroutines at once.
type Rules struct {
	groups []group // the longest name first, "*" last
	rules  int
	cut    bool

	mu     sync.Mutex
	agents [2]map[string]*group // of User-Agents seen before, the younger generation first
}

// group is what is said to one agent.
type group struct {
	name  string // in lower case
	rules []rule // the longest first; among equals allow
}

// rule is a path with wildcards, taken apart at them and percent-decoded.
type rule struct {
	pieces []string
	end    bool // ends with "$"
	allow  bool
	length int // bytes of the path as written, which decides
}

// Parse reads a robots.txt. It never fails: what it does not understand is left out, as the RFC asks.
func Parse(text []byte) *Rules {
	r := &Rules{}
	if len(text) > MaxBytes {
		text, r.cut = text[:MaxBytes], true
		if i := strings.LastIndexAny(string(text), "\r\n"); i >= 0 {
			text = text[:i] // a rule cut short would disallow more than is meant
		}
	}
	byName := map[string]int{}
	var current []int // groups that the next rules are for
	inRules := false
	for rest := strings.TrimPrefix(string(text), "\ufeff"); rest != ""; {
		line := rest
		if i := strings.IndexAny(rest, "\r\n"); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		} else {
			rest = ""
		}
		line, _, _ = strings.Cut(line, "#")
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.Trim(value, " \t")
		switch key = strings.ToLower(strings.Trim(key, " \t")); key {
		case "user-agent", "useragent":
			if inRules {
				current, inRules = current[:0], false
			}
			name := agentName(value)
			if name == "" {
				continue
			}
			i, known := byName[name]
			if !known {
				if len(r.groups) >= maxGroups {
					r.cut = true
					continue
				}
				i = len(r.groups)
				byName[name] = i
				r.groups = append(r.groups, group{name: name})
			}
			if !slices.Contains(current, i) {
				current = append(current, i)
			}
		case "allow", "disallow":
			inRules = true
			if len(current) == 0 {
				continue
			}
			one, ok := parseRule(value, key == "allow")
			if !ok {
				continue
			}
			if r.rules++; r.rules > maxRules {
				r.rules, r.cut = maxRules, true
				continue
			}
			for _, i := range current {
				r.groups[i].rules = append(r.groups[i].rules, one)
			}
		}
	}
	for i := range r.groups {
		slices.SortStableFunc(r.groups[i].rules, func(a, b rule) int {
			if a.length != b.length {
				return cmp.Compare(b.length, a.length)
			}
			if a.allow != b.allow && a.allow {
				return -1
			} else if a.allow != b.allow {
				return 1
			}
			return 0
		})
	}
	slices.SortStableFunc(r.groups, func(a, b group) int {
		switch {
		case a.name == "*": // there is one, as of each name
			return 1
		case b.name == "*":
			return -1
		}
		return cmp.Compare(len(b.name), len(a.name))
	})
	return r
}

// agentName returns the product's name of a User-agent line, without a version.
func agentName(v string) string {
	if i := strings.IndexAny(v, "/ \t"); i >= 0 {
		v = v[:i]
	}
	if len(v) > maxName {
		return ""
	}
	return strings.ToLower(v)
}

// parseRule reads the path of a rule. An empty one says nothing; one that begins with neither "/" nor "*" matches nothing.
func parseRule(path string, allow bool) (rule, bool) {
	if path == "" || path[0] != '/' && path[0] != '*' {
		return rule{}, false
	}
	r := rule{allow: allow, length: len(path)}
	if strings.HasSuffix(path, "$") {
		path, r.end = path[:len(path)-1], true
	}
	pieces := strings.SplitN(path, "*", maxPieces+1)
	if len(pieces) > maxPieces {
		return rule{}, false
	}
	for i, p := range pieces {
		pieces[i] = decode(p)
	}
	r.pieces = pieces
	return r, true
}

// decode resolves percent-encoding, so that two ways of writing one path are the same. What is not
// encoded correctly stays.
func decode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// Disallowed reports whether the file asks the agent, given by its User-Agent, not to fetch the path. The path is percent-decoded,
// its query, if any, follows "?" as sent: as events hold them.
func (r *Rules) Disallowed(agent, path string) bool {
	if path == "/robots.txt" {
		return false
	}
	g := r.group(agent)
	if g == nil {
		return false
	}
	if before, query, ok := strings.Cut(path, "?"); ok && strings.IndexByte(query, '%') >= 0 {
		path = before + "?" + decode(query)
	}
	for i := range g.rules {
		if g.rules[i].match(path) {
			return !g.rules[i].allow // the longest decides
		}
	}
	return false
}

// match reports whether the path begins with the rule's path, in which "*" stands for anything.
func (r *rule) match(path string) bool {
	rest, ok := strings.CutPrefix(path, r.pieces[0])
	if !ok {
		return false
	}
	last := len(r.pieces) - 1
	if last == 0 {
		return !r.end || rest == ""
	}
	for _, p := range r.pieces[1:last] {
		i := strings.Index(rest, p) // the leftmost leaves most to the others
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	if r.end {
		return strings.HasSuffix(rest, r.pieces[last])
	}
	return strings.Contains(rest, r.pieces[last])
}

// group returns the group that speaks to an agent, nil when none does. Looking a name up among hundreds for each request would
// cost more than all else, so it is remembered for the agents that come often.
func (r *Rules) group(agent string) *group {
	if len(r.groups) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g, ok := r.agents[0][agent]; ok {
		return g
	}
	g, ok := r.agents[1][agent]
	if !ok {
		g = r.find(agent)
	}
	if r.agents[0] == nil || len(r.agents[0]) >= maxRemember {
		r.agents[0], r.agents[1] = map[string]*group{}, r.agents[0]
	}
	r.agents[0][strings.Clone(agent)] = g
	return g
}

// find returns the group with the longest name that stands in the agent as a word of its own.
func (r *Rules) find(agent string) *group {
	agent = strings.ToLower(agent)
	for i := range r.groups {
		g := &r.groups[i]
		if g.name == "*" || names(agent, g.name) {
			return g
		}
	}
	return nil
}

func names(agent, name string) bool {
	for from := 0; ; {
		i := strings.Index(agent[from:], name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if (start == 0 || !nameByte(agent[start-1])) && (end == len(agent) || !nameByte(agent[end])) {
			return true
		}
		from = start + 1
	}
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
