package language

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/text/feature/plural"
)

const (
	minWords = 12
	maxWord  = 16 // characters
)

// message is one key's text, cut at its placeholders, in each plural form. A message
// that counts nothing has the form Other alone.
type message struct {
	forms  [plural.Many + 1][]part
	counts string // the placeholder whose number chooses the form; "" for none
}

// part is a piece of plain text, or a placeholder if it has a name.
type part struct{ text, name string }

// categories are CLDR's names of the plural forms.
var categories = [...]string{plural.Other: "other", plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many"}

// read fills l from a catalogue's source. measure is the English one, nil when l is it.
func (l *Language) read(file string, source []byte, measure *Language) error {
	at := func(n ast.Node, format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s", file, n.GetToken().Position.Line, fmt.Sprintf(format, args...))
	}
	if !utf8.Valid(source) {
		return fmt.Errorf("%s: not UTF-8", file)
	}
	parsed, err := parser.ParseBytes(source, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(parsed.Docs) != 1 {
		return fmt.Errorf("%s: %d documents instead of one", file, len(parsed.Docs))
	}
	entries, ok := mapping(parsed.Docs[0].Body)
	if !ok {
		return fmt.Errorf("%s: not a map of keys to texts", file)
	}
	for _, e := range entries { // none is there twice: the parser refuses it
		name := e.Key.String()
		if name == "words" {
			if l.words, err = readWords(e.Value, at); err != nil {
				return err
			}
			continue
		}
		key, ok := KeyOf(name)
		if !ok {
			return at(e.Key, "unknown key %q", name)
		}
		if err := l.readMessage(key, e, measure, at); err != nil {
			return err
		}
	}
	for _, k := range Keys() {
		if m := &l.messages[k]; m.forms[plural.Other] == nil && m.counts == "" {
			return fmt.Errorf("%s: %s is missing", file, k)
		}
	}
	if l.words == nil {
		return fmt.Errorf("%s: words is missing", file)
	}
	return nil
}

type atLine func(n ast.Node, format string, args ...any) error

func (l *Language) readMessage(key Key, entry *ast.MappingValueNode, measure *Language, at atLine) error {
	m, n := &l.messages[key], entry.Value
	forms, counted := mapping(n)
	if !counted {
		s, err := text(n, at)
		if err != nil {
			return err
		}
		m.forms[plural.Other] = cut(s)
		if measure == nil {
			return nil
		}
		want := &measure.messages[key]
		if want.counts != "" {
			return at(n, "%s needs plural forms: {%s} is a count", key, want.counts)
		}
		return samePlaceholders(key, n, m.forms[plural.Other], want.forms[plural.Other], "", at)
	}
	if measure != nil && measure.messages[key].counts == "" {
		return at(n, "%s has plural forms where English has none", key)
	}
	needed := l.needed()
	for _, f := range forms {
		form := slices.Index(categories[:], f.Key.String())
		switch {
		case form < 0:
			return at(f.Key, "%s: unknown plural form %q", key, f.Key.String())
		case needed[form] < 0:
			return at(f.Key, "%s: no number takes the plural form %q in this language", key, categories[form])
		}
		s, err := text(f.Value, at)
		if err != nil {
			return err
		}
		m.forms[form] = cut(s)
	}
	for form, largest := range needed {
		if largest >= 0 && m.forms[form] == nil {
			return at(entry.Key, "%s lacks the plural form %q", key, categories[form])
		}
	}
	want := m
	if measure != nil {
		want = &measure.messages[key]
		m.counts = want.counts
	} else if m.counts = placeholders(m.forms[plural.Other])[0]; m.counts == "" {
		return at(n, "%s has plural forms but counts nothing", key)
	}
	for form, parts := range m.forms {
		if parts == nil {
			continue
		}
		optional := ""
		if needed[form] <= 2 {
			optional = m.counts // "one second", a dual: the words say the number. Not in Russian, where 21 is "one" too
		}
		if err := samePlaceholders(key, n, parts, want.forms[plural.Other], optional, at); err != nil {
			return err
		}
	}
	return nil
}

// needed is the largest number, of those up to 200 and two great ones, that takes each plural form in
// this language; -1 where none does.
func (l *Language) needed() (largest [len(categories)]int) {
	for form := range largest {
		largest[form] = -1
	}
	for n := range 201 {
		largest[l.form(n)] = n
	}
	for _, n := range [...]int{1000, 1_000_000} {
		largest[l.form(n)] = n
	}
	return largest
}

func samePlaceholders(key Key, n ast.Node, got, want []part, optional string, at atLine) error {
	g, w := placeholders(got), placeholders(want)
	for _, name := range w {
		if name != "" && name != optional && !slices.Contains(g, name) {
			return at(n, "%s lacks the placeholder {%s}", key, name)
		}
	}
	for i, name := range g {
		if name != "" && !slices.Contains(w, name) {
			return at(n, "%s has the placeholder {%s}, which is not in English", key, name)
		}
		if name != "" && slices.Contains(g[:i], name) {
			return at(n, "%s has the placeholder {%s} twice", key, name)
		}
	}
	return nil
}

// placeholders are the names in a text, never none: [""] if there is no placeholder.
func placeholders(parts []part) []string {
	var names []string
	for _, p := range parts {
		if p.name != "" {
			names = append(names, p.name)
		}
	}
	if names == nil {
		return []string{""}
	}
	return names
}

// cut splits a text at its placeholders: {lower-case letters}. Any other brace is text.
func cut(s string) []part {
	var parts []part
	from := 0
	for i := 0; i < len(s); i++ {
		if s[i] != '{' {
			continue
		}
		end := i + 1
		for end < len(s) && 'a' <= s[end] && s[end] <= 'z' {
			end++
		}
		if end == len(s) || s[end] != '}' || end == i+1 {
			continue
		}
		if i > from {
			parts = append(parts, part{text: s[from:i]})
		}
		parts = append(parts, part{name: s[i+1 : end]})
		from, i = end+1, end
	}
	if from < len(s) || parts == nil {
		parts = append(parts, part{text: s[from:]})
	}
	return parts
}

func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode: // a map of one entry
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

func text(n ast.Node, at atLine) (string, error) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return "", at(n, "not a text; put it in quotes")
	}
	if s.Value == "" || strings.TrimSpace(s.Value) != s.Value || strings.ContainsAny(s.Value, "\n\t<>") {
		return "", at(n, "a text must be one line without space at its ends, and without markup")
	}
	return s.Value, nil
}

func readWords(n ast.Node, at atLine) ([]string, error) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return nil, at(n, "words is not a list")
	}
	var words []string
	for _, v := range list.Values {
		w, err := text(v, at)
		if err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(w) > maxWord {
			return nil, at(v, "word %q is longer than %d characters", w, maxWord)
		}
		for _, other := range words {
			if strings.EqualFold(w, other) {
				return nil, at(v, "word %q a second time", w)
			}
		}
		words = append(words, w)
	}
	if len(words) < minWords {
		return nil, at(n, "%d words; at least %d are needed", len(words), minWords)
	}
	return words, nil
}
