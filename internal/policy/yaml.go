package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of one YAML source. They are far above what a person writes and
// keep the parser, which recurses and slows down with depth, out of trouble.
const (
	maxSource = 1 << 20 // bytes
	maxTokens = 400_000
	maxFlow   = 16  // nested [ and {
	maxIndent = 200 // columns before a line's first token, hence levels of blocks
)

// yamlReader turns YAML nodes into Go values, collecting what is wrong.
type yamlReader struct {
	file     string
	lines    []string
	problems *problems
}

// parseYAML returns the root of the only document in src, or nil when src is
// unusable, which has then been reported.
func parseYAML(file string, src []byte, ps *problems) (*yamlReader, ast.Node) {
	r := &yamlReader{file: file, problems: ps}
	whole := position{file: file}
	if len(src) > maxSource {
		ps.errorf(whole, "is %d bytes long; a policy file may have %d", len(src), maxSource)
		return r, nil
	}
	if !utf8.Valid(src) {
		ps.errorf(whole, "is not valid UTF-8 text")
		return r, nil
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	r.lines = strings.Split(text, "\n")
	f, at, err := parseTokens(text)
	if err != nil {
		at.file = file
		ps.errorf(at, "cannot be read as YAML: %v", err)
		return r, nil
	}
	var root ast.Node
	for _, d := range f.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		if _, ok := d.Body.(*ast.NullNode); ok {
			continue
		}
		if root != nil {
			ps.errorf(r.at(d.Body), "a policy file holds one YAML document; this is a second one")
			return r, nil
		}
		root = d.Body
	}
	if root == nil {
		ps.errorf(whole, "is empty: a policy needs rules, thresholds, budgets or imports")
	}
	return r, root
}

// parseTokens checks the token stream before the parser proper sees it: no
// anchors, aliases, merges or tags (so nothing can multiply), bounded nesting.
func parseTokens(text string) (f *ast.File, at position, err error) {
	// The YAML library is not written for hostile input; an index out of range in
	// it is a wrong file, not a reason to stop serving the site.
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("its structure is too unusual (%.100v)", p)
		}
	}()
	tokens := lexer.Tokenize(text)
	if len(tokens) > maxTokens {
		return nil, at, fmt.Errorf("it has more than %d parts", maxTokens)
	}
	flow, line, entries := 0, 0, 0
	for _, t := range tokens {
		if t.Position == nil {
			continue
		}
		at = position{line: t.Position.Line, col: t.Position.Column}
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
			if t.Position.Column > maxIndent {
				return nil, at, fmt.Errorf("more than %d columns of indentation", maxIndent)
			}
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return nil, at, errors.New("anchors (&), aliases (*) and merges (<<) are not supported: name a list under lists, or import a file")
		case token.TagType:
			return nil, at, errors.New("tags (!) are not supported; a text that begins with ! needs quotes")
		case token.MappingKeyType:
			return nil, at, errors.New("complex keys (?) are not supported")
		case token.SequenceEntryType:
			if entries++; entries > 4 {
				return nil, at, errors.New("too many nested lists in one line")
			}
		case token.SequenceStartType, token.MappingStartType:
			if flow++; flow > maxFlow {
				return nil, at, fmt.Errorf("more than %d nested brackets", maxFlow)
			}
		case token.SequenceEndType, token.MappingEndType:
			flow--
		}
	}
	f, err = parser.Parse(tokens, 0)
	if err != nil {
		at, err = yamlError(err)
		return nil, at, err
	}
	return f, position{}, nil
}

// yamlError takes the message and the place out of the library's error, whose
// text is several lines with a picture of the source.
func yamlError(err error) (position, error) {
	var at position
	msg, _, _ := strings.Cut(err.Error(), "\n")
	if rest, ok := strings.CutPrefix(msg, "["); ok {
		if where, text, ok := strings.Cut(rest, "] "); ok {
			l, c, _ := strings.Cut(where, ":")
			at.line, _ = strconv.Atoi(l)
			at.col, _ = strconv.Atoi(c)
			msg = text
		}
	}
	return at, errors.New(msg)
}

// at returns where a node begins.
func (r *yamlReader) at(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key
	}
	if n != nil {
		if t := n.GetToken(); t != nil && t.Position != nil {
			return position{r.file, t.Position.Line, t.Position.Column}
		}
	}
	return position{file: r.file}
}

func (r *yamlReader) errorf(n ast.Node, format string, args ...any) {
	r.problems.errorf(r.at(n), format, args...)
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	keyAt position
	value ast.Node
}

// entries returns a mapping's keys and values in order. Duplicates are
// reported and left out. what names the mapping in messages: "a rule".
func (r *yamlReader) entries(n ast.Node, what string) []entry {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	case nil, *ast.NullNode:
		r.errorf(n, "%s is empty", what)
		return nil
	default:
		r.errorf(n, "%s is a mapping (key: value lines), not %s", what, kindOf(n))
		return nil
	}
	out := make([]entry, 0, len(values))
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		key, ok := scalar(v.Key)
		if !ok {
			r.errorf(v.Key, "a key of %s must be a plain word", what)
			continue
		}
		if seen[key] {
			r.errorf(v.Key, "key %q appears twice in %s", key, what)
			continue
		}
		seen[key] = true
		out = append(out, entry{key, r.at(v.Key), v.Value})
	}
	return out
}

// field says what to do with one key of a mapping.
type field struct {
	key  string
	read func(n ast.Node)
}

// fields reads a mapping with a fixed set of keys; unknown keys are reported.
func (r *yamlReader) fields(n ast.Node, what string, fields []field) {
next:
	for _, e := range r.entries(n, what) {
		for _, f := range fields {
			if f.key == e.key {
				f.read(e.value)
				continue next
			}
		}
		known := make([]string, len(fields))
		for i, f := range fields {
			known[i] = f.key
		}
		r.problems.errorf(e.keyAt, "%s has no key %q%s", what, e.key, hint(e.key, known))
	}
}

// list returns the elements of a sequence.
func (r *yamlReader) list(n ast.Node, what string) []ast.Node {
	switch n := n.(type) {
	case *ast.SequenceNode:
		return n.Values
	case *ast.NullNode:
		return nil
	}
	r.errorf(n, "%s is a list (lines that begin with -), not %s", what, kindOf(n))
	return nil
}

// text returns a scalar as text: numbers and booleans as they are written.
func (r *yamlReader) text(n ast.Node, what string) (string, bool) {
	s, ok := scalar(n)
	if !ok {
		r.errorf(n, "%s is a text, not %s", what, kindOf(n))
	}
	return s, ok
}

// strings returns a list of scalars.
func (r *yamlReader) strings(n ast.Node, what string) []located {
	var out []located
	for _, v := range r.list(n, what) {
		if s, ok := r.text(v, "an entry of "+what); ok {
			out = append(out, located{s, r.at(v)})
		}
	}
	return out
}

// located is a text and where it stands.
type located struct {
	text string
	at   position
}

// integer returns a whole number between lo and hi.
func (r *yamlReader) integer(n ast.Node, what string, lo, hi int) (int, bool) {
	s, ok := scalar(n)
	if !ok {
		r.errorf(n, "%s is a whole number, not %s", what, kindOf(n))
		return 0, false
	}
	i, err := strconv.Atoi(strings.TrimPrefix(s, "+"))
	if err != nil || i < lo || i > hi {
		r.errorf(n, "%s is a whole number from %d to %d, not %q", what, lo, hi, s)
		return 0, false
	}
	return i, true
}

// oneOf returns the index of a scalar among names.
func (r *yamlReader) oneOf(n ast.Node, what string, names []string) (int, bool) {
	s, ok := r.text(n, what)
	if !ok {
		return 0, false
	}
	for i, name := range names {
		if name == s {
			return i, true
		}
	}
	r.errorf(n, "unknown %s %q%s", what, s, hint(s, names))
	return 0, false
}

func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "empty"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	if s, ok := scalar(n); ok {
		return strconv.Quote(s)
	}
	return "something else"
}

// sourceMap translates a character offset in a scalar's value into a place in
// the file. It is exact for plain and quoted scalars without escapes and for
// block scalars; otherwise every offset maps to the scalar's beginning.
type sourceMap struct {
	start position
	spans []span
}

// span is a piece of the value that stands in one line.
type span struct {
	offset int // in characters, where the piece begins in the value
	at     position
}

// mapSource builds the map by finding the value again in the lines.
func (r *yamlReader) mapSource(n ast.Node, value string) sourceMap {
	m := sourceMap{start: r.at(n)}
	if m.start.line < 1 || m.start.line > len(r.lines) {
		return m
	}
	line, col := m.start.line, m.start.col
	if _, block := n.(*ast.LiteralNode); block {
		line, col = line+1, 1
	} else if first := []rune(r.lines[line-1]); col <= len(first) && (first[col-1] == '"' || first[col-1] == '\'') {
		col++
	}
	offset, rest := 0, strings.TrimRight(value, "\n ")
	for ; rest != "" && line <= len(r.lines); line, col = line+1, 1 {
		runes := []rune(r.lines[line-1])
		if col > len(runes)+1 {
			return sourceMap{start: m.start}
		}
		have := strings.TrimLeft(string(runes[col-1:]), " ")
		indent := len(runes) - (col - 1) - utf8.RuneCountInString(have)
		piece := commonPrefix(rest, have)
		if have != "" && piece == "" {
			return sourceMap{start: m.start}
		}
		m.spans = append(m.spans, span{offset, position{r.file, line, col + indent}})
		rest = rest[len(piece):]
		offset += utf8.RuneCountInString(piece)
		// A line break reads as itself or, folded, as a space.
		if rest != "" {
			trailing := strings.TrimLeft(strings.TrimPrefix(have, piece), " ")
			if trailing != "" || rest[0] != ' ' && rest[0] != '\n' {
				return sourceMap{start: m.start}
			}
			rest = rest[1:]
			offset++
		}
	}
	return m
}

// commonPrefix returns the longest common prefix of a and b that ends at a
// character's boundary and, in a, before a line break.
func commonPrefix(a, b string) string {
	n := 0
	for i, c := range a {
		size := utf8.RuneLen(c)
		if c == '\n' || size < 0 || i+size > len(b) || a[i:i+size] != b[i:i+size] {
			break
		}
		n = i + size
	}
	return a[:n]
}

// at returns the place of a character offset in the value.
func (m sourceMap) at(offset int) position {
	best := m.start
	for _, s := range m.spans {
		if s.offset <= offset {
			best = s.at
			best.col += offset - s.offset
		}
	}
	return best
}
