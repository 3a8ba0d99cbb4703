// Package multimatch finds many words in a text in one pass.
//
// It is what stands between a thousand crawler names and a thousand regular
// expressions per request: the patterns are compiled once to a deterministic
// automaton (Aho and Corasick, CACM 18(6), 1975, with every transition filled
// in), and a text then costs one table look-up a byte whatever the number of
// patterns. Letter case of ASCII is ignored; other bytes are compared as they are,
// so texts need not be valid UTF-8.
//
// Use boundaries. Without them "LCC" hits the "SLCC1" of an old Internet Explorer
// and "bot" hits the CUBOT, a telephone.
package multimatch

import (
	"errors"
	"fmt"
	"math"
)

// Limits of a matcher: what keeps a long list of operators' patterns from
// taking the memory of the process.
const (
	// MaxPattern is the length of the longest pattern, in bytes.
	MaxPattern = 512
	// MaxTable is the size of the largest transition table, in bytes. A thousand
	// crawler names take about 3 MiB.
	MaxTable = 64 << 20
)

// ErrTooLarge is returned by New when the patterns would need a table larger than MaxTable.
var ErrTooLarge = errors.New("patterns need too large a table")

// Pattern is one text to look for.
type Pattern struct {
	// Text is compared without regard to ASCII case.
	Text string
	// Boundary asks that the match does not stand inside a word: where Text
	// begins or ends with a letter or digit, the neighbouring byte must not be one.
	// CamelCase is one word, so "spider" is not found in "YisouSpider". The
	// underscore separates words, and bytes of 0x80 and above (non-ASCII letters in
	// UTF-8) count as letters. An end of Text that is neither letter nor digit
	// needs nothing beside it: "BW/" is found in "BW/1.3".
	Boundary bool
}

// Match is one occurrence of a pattern in a text.
type Match struct {
	Index      int // of the pattern, as given to New
	Start, End int // byte offsets: text[Start:End] is what matched
}

// outputFlag marks a transition into a state at which some pattern ends, so that the
// inner loop needs no second look-up.
const outputFlag = 1 << 31

// Matcher finds its patterns. It is immutable, needs no allocation to match and may be used by many
// goroutines at once. The zero Matcher finds nothing.
type Matcher struct {
	class  [256]uint8 // byte -> column of the table; 0 for bytes that occur in no pattern
	stride uint32     // columns
	table  []uint32   // [state*stride+class] -> next state*stride, perhaps with outputFlag

	// Per state. head is the first of the patterns that end here, or -1; same
	// chains patterns of equal text; suffix is the longest proper suffix state at
	// which some pattern ends, or -1; depth is the length of the longest pattern prefix
	// that the bytes read so far end with.
	head   []int32
	suffix []int32
	depth  []uint16
	same   []int32 // per pattern

	length   []uint16 // per pattern
	boundary []uint8  // per pattern: needBefore, needAfter
}

const (
	needBefore = 1 << iota
	needAfter
)

// New compiles the patterns. It fails on an empty pattern, one longer than
// MaxPattern, and with ErrTooLarge. Equal patterns are allowed and each is reported.
func New(patterns []Pattern) (*Matcher, error) {
	if len(patterns) == 0 {
		return new(Matcher), nil
	}
	if len(patterns) > math.MaxInt32 {
		return nil, fmt.Errorf("%d patterns: %w", len(patterns), ErrTooLarge)
	}
	m := &Matcher{
		same:     make([]int32, len(patterns)),
		length:   make([]uint16, len(patterns)),
		boundary: make([]uint8, len(patterns)),
	}
	bytes := 0
	for i, p := range patterns {
		if p.Text == "" {
			return nil, fmt.Errorf("pattern %d is empty", i)
		}
		if len(p.Text) > MaxPattern {
			return nil, fmt.Errorf("pattern %d has %d bytes, at most %d are allowed", i, len(p.Text), MaxPattern)
		}
		bytes += len(p.Text)
		m.length[i] = uint16(len(p.Text))
		if p.Boundary {
			if isWord(p.Text[0]) {
				m.boundary[i] |= needBefore
			}
			if isWord(p.Text[len(p.Text)-1]) {
				m.boundary[i] |= needAfter
			}
		}
	}
	m.classify(patterns)
	return m, m.build(patterns, bytes+1)
}

// classify gives each byte that occurs in a pattern a column of its own, upper and
// lower case the same, and all others column 0.
func (m *Matcher) classify(patterns []Pattern) {
	var used [256]bool
	for _, p := range patterns {
		for i := range len(p.Text) {
			used[lower(p.Text[i])] = true
		}
	}
	n := uint32(1)
	for b := range 256 {
		if !used[b] {
			continue
		}
		// At most 230 of the 256 are used: capitals never are.
		m.class[b] = uint8(n)
		if 'a' <= b && b <= 'z' {
			m.class[b-'a'+'A'] = uint8(n)
		}
		n++
	}
	m.stride = n
}

// build makes the trie of the patterns, then turns it into an automaton breadth
// first: a state's missing transitions are those of its failure state.
func (m *Matcher) build(patterns []Pattern, maxStates int) error {
	maxTable := MaxTable / 4 / int(m.stride) // in states
	// The trie is usually much smaller than the sum of the pattern lengths, so it is
	// grown as needed. 0 means "no child": nothing leads back to the root.
	table := make([]uint32, 0, min(maxStates, maxTable, 1<<10)*int(m.stride))
	addState := func(depth uint16) int32 {
		table = append(table, make([]uint32, m.stride)...)
		m.head = append(m.head, -1)
		m.depth = append(m.depth, depth)
		return int32(len(m.head) - 1)
	}
	addState(0)
	for i, p := range patterns {
		s := int32(0)
		for j := range len(p.Text) {
			cell := int(s)*int(m.stride) + int(m.class[p.Text[j]])
			if table[cell] == 0 {
				if len(m.head) >= maxTable {
					return ErrTooLarge
				}
				next := addState(uint16(j + 1))
				table[cell] = uint32(next)
			}
			s = int32(table[cell])
		}
		m.same[i] = -1
		if m.head[s] < 0 {
			m.head[s] = int32(i)
			continue
		}
		last := m.head[s] // in order of index
		for m.same[last] >= 0 {
			last = m.same[last]
		}
		m.same[last] = int32(i)
	}

	states := len(m.head)
	stride := int(m.stride)
	m.suffix = make([]int32, states)
	m.suffix[0] = -1
	fail := make([]int32, states)
	queue := make([]int32, 1, states) // the root first
	for head := 0; head < len(queue); head++ {
		s := queue[head]
		row := table[int(s)*stride : int(s+1)*stride]
		var failRow []uint32
		if s != 0 {
			f := fail[s]
			m.suffix[s] = m.suffix[f]
			if m.head[f] >= 0 {
				m.suffix[s] = f
			}
			failRow = table[int(f)*stride : int(f+1)*stride]
		}
		for c, next := range row {
			if next != 0 {
				if s != 0 {
					fail[next] = int32(failRow[c])
				}
				queue = append(queue, int32(next))
			} else if s != 0 {
				row[c] = failRow[c]
			}
		}
	}

	// States are renumbered in the order of the queue, so that the shallow ones,
	// where texts spend their time, lie together in the cache.
	order := make([]uint32, states)
	for i, s := range queue {
		order[s] = uint32(i)
	}
	renumber := func(old []int32, value func(int32) int32) []int32 {
		out := make([]int32, states)
		for s, v := range old {
			out[order[s]] = value(v)
		}
		return out
	}
	m.table = make([]uint32, states*stride)
	depth := make([]uint16, states)
	for s := range states {
		depth[order[s]] = m.depth[s]
		out := m.table[int(order[s])*stride:][:stride]
		for c, next := range table[s*stride:][:stride] {
			out[c] = order[next] * m.stride
			if m.head[next] >= 0 || m.suffix[next] >= 0 {
				out[c] |= outputFlag
			}
		}
	}
	m.depth = depth
	m.head = renumber(m.head, func(v int32) int32 { return v })
	m.suffix = renumber(m.suffix, func(v int32) int32 {
		if v < 0 {
			return v
		}
		return int32(order[v])
	})
	return nil
}

// Each calls yield for every match, in order of End and the longest first among
// those that end together, overlapping ones included, until yield returns false.
func (m *Matcher) Each(text string, yield func(index, start, end int) bool) {
	if len(m.table) == 0 {
		return
	}
	table, state := m.table, uint32(0)
	for i := 0; i < len(text); i++ {
		state = table[state+uint32(m.class[text[i]])]
		if state&outputFlag == 0 {
			continue
		}
		state &^= outputFlag
		for s := int32(state / m.stride); s >= 0; s = m.suffix[s] {
			for p := m.head[s]; p >= 0; p = m.same[p] {
				if start := i + 1 - int(m.length[p]); m.bounded(p, text, start, i+1) && !yield(int(p), start, i+1) {
					return
				}
			}
		}
	}
}

// First returns the leftmost match, the longest of those that start there and the
// lowest index among equal ones; ok is false when there is none.
func (m *Matcher) First(text string) (match Match, ok bool) {
	if len(m.table) == 0 {
		return Match{}, false
	}
	table, state := m.table, uint32(0)
	for i := 0; i < len(text); i++ {
		state = table[state+uint32(m.class[text[i]])]
		output := state&outputFlag != 0
		state &^= outputFlag
		if !output && !ok {
			continue
		}
		s := int32(state / m.stride)
		if ok && i+1-int(m.depth[s]) > match.Start {
			break // nothing still being read began at or before the match
		}
		if !output {
			continue
		}
		for ; s >= 0; s = m.suffix[s] {
			p := m.head[s]
			for p >= 0 && !m.bounded(p, text, i+1-int(m.length[p]), i+1) {
				p = m.same[p]
			}
			if p < 0 {
				continue
			}
			if start := i + 1 - int(m.length[p]); !ok || start <= match.Start {
				match, ok = Match{int(p), start, i + 1}, true
			}
			break // the shorter ones that end here start later
		}
	}
	return match, ok
}

// bounded reports whether text[start:end] stands where pattern p may stand.
func (m *Matcher) bounded(p int32, text string, start, end int) bool {
	need := m.boundary[p]
	return (need&needBefore == 0 || start == 0 || !isWord(text[start-1])) &&
		(need&needAfter == 0 || end == len(text) || !isWord(text[end]))
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + ('a' - 'A')
	}
	return b
}

// isWord reports whether b is a letter, a digit, or part of a non-ASCII character.
func isWord(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b >= 0x80
}
