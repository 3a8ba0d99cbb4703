// Package language holds what the edge says to readers, in their language.
//
// The texts are in messages/<tag>.yaml, one catalogue per language; English is the
// measure: every other one must have its keys and its placeholders, and each
// plural form that its language needs ([Load] refuses it otherwise). To add a language,
// add its file; there is nothing to register.
//
// The rule that must never break: whatever a client sends as Accept-Language, it is
// answered in some language, quickly. Nothing in this package returns an error at run time.
package language

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

//go:embed messages/*.yaml
var messages embed.FS

const (
	fallback = "en"

	// maxHeader bounds how much of an Accept-Language header is looked at, in bytes, and
	// maxRanges how many of its languages. Browsers send fewer than a dozen.
	maxHeader = 1024
	maxRanges = 24
	// maxCached bounds the remembered headers, of at most maxCachedHeader bytes each.
	maxCached       = 1024
	maxCachedHeader = 160
)

// Catalogues are all languages. They are safe for concurrent use.
type Catalogues struct {
	languages []*Language // in the matcher's order: English first
	matcher   language.Matcher

	mu    sync.RWMutex
	known map[string]*Language // by header; bounded by maxCached
}

// Language is one catalogue. Once it has been handed out, it never changes.
type Language struct {
	once      sync.Once
	load      func() error // reads the messages; nil once it did
	err       error        // of load
	tag       language.Tag
	name      string
	direction string
	messages  [keyCount]message
	words     []string
}

// Load returns the catalogues that are built in. English is read now, another language when the first reader wants it: most
// sites meet a few, and all together take a site's start and some megabytes. That all are whole is what load tries in a test.
func Load() (*Catalogues, error) { return open(messages) }

// load is open that reads every catalogue. An error names the file and the line that is wrong, or the key that a file lacks.
func load(files fs.FS) (*Catalogues, error) {
	c, err := open(files)
	if err != nil {
		return nil, err
	}
	for _, l := range c.languages {
		if err := l.ready(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ready reads the messages if that has not been done.
func (l *Language) ready() error {
	l.once.Do(func() { l.err, l.load = l.load(), nil })
	return l.err
}

func open(files fs.FS) (*Catalogues, error) {
	paths, err := fs.Glob(files, "messages/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list catalogues: %w", err)
	}
	english := slices.Index(paths, "messages/"+fallback+".yaml")
	if english < 0 {
		return nil, fmt.Errorf("messages/%s.yaml is missing", fallback)
	}
	paths[0], paths[english] = paths[english], paths[0]
	slices.Sort(paths[1:])

	c := &Catalogues{known: map[string]*Language{}}
	var tags []language.Tag
	for _, p := range paths {
		name := strings.TrimSuffix(path.Base(p), ".yaml")
		tag, err := language.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("%s: the file's name is no language tag: %w", p, err)
		}
		l := &Language{tag: tag, name: name, direction: directionOf(tag)}
		var measure *Language
		if len(c.languages) > 0 {
			measure = c.languages[0]
		}
		l.load = func() error {
			source, err := fs.ReadFile(files, p)
			if err != nil {
				return fmt.Errorf("read catalogue: %w", err)
			}
			return l.read(p, source, measure)
		}
		if measure == nil {
			if err := l.ready(); err != nil {
				return nil, err
			}
		}
		c.languages = append(c.languages, l)
		tags = append(tags, tag)
	}
	c.matcher = language.NewMatcher(tags)
	return c, nil
}

func directionOf(tag language.Tag) string {
	script, _ := tag.Script()
	switch script.String() {
	case "Arab", "Hebr":
		return "rtl"
	}
	return "ltr"
}

// All returns every language, English first.
func (c *Catalogues) All() []*Language {
	var out []*Language
	for _, l := range c.languages {
		if l.ready() == nil {
			out = append(out, l)
		}
	}
	return out
}

// Match returns the language that suits the Accept-Language header best (RFC 9110
// section 12.5.4), English if none does. It is never nil. Only the first KiB of the
// header and its first two dozen languages count.
func (c *Catalogues) Match(acceptLanguage string) *Language {
	if acceptLanguage == "" {
		return c.languages[0]
	}
	c.mu.RLock()
	l := c.known[acceptLanguage]
	c.mu.RUnlock()
	if l != nil {
		return l
	}
	l = c.match(acceptLanguage)
	if len(acceptLanguage) > maxCachedHeader {
		return l
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxCached {
		// A client that invents headers empties it; what people send is back after one miss each.
		clear(c.known)
	}
	c.known[strings.Clone(acceptLanguage)] = l
	return l
}

func (c *Catalogues) match(header string) *Language {
	if len(header) > maxHeader {
		header = header[:maxHeader]
		header = header[:strings.LastIndexByte(header, ',')+1] // the last one may be cut in two
	}
	var ranges []language.Tag
	var weights []float64
	for range maxRanges {
		if header == "" {
			break
		}
		var one string
		one, header, _ = strings.Cut(header, ",")
		// One by one, so that one piece of junk does not cost the reader the rest.
		tags, q, err := language.ParseAcceptLanguage(one)
		if err != nil || len(tags) != 1 || q[0] <= 0 {
			continue
		}
		at := len(weights)
		for at > 0 && weights[at-1] < float64(q[0]) {
			at--
		}
		ranges, weights = slices.Insert(ranges, at, tags[0]), slices.Insert(weights, at, float64(q[0]))
	}
	if len(ranges) == 0 {
		return c.languages[0]
	}
	_, i, confidence := c.matcher.Match(ranges...)
	if confidence == language.No {
		return c.languages[0]
	}
	if l := c.languages[i]; l.ready() == nil {
		return l
	}
	return c.languages[0]
}

// Tag is the language's BCP 47 tag, as the lang attribute takes it.
func (l *Language) Tag() string { return l.name }

// Direction is "ltr" or "rtl", as the dir attribute takes it.
func (l *Language) Direction() string { return l.direction }

// Words are short everyday nouns that a reader tells apart at a glance: at least
// twelve. The caller must not change them.
func (l *Language) Words() []string { return l.words }

// Arg is the value of a placeholder.
type Arg struct {
	name  string
	text  string
	count int
	plain bool
}

// Text is the value of the placeholder {name}.
func Text(name, value string) Arg { return Arg{name: name, text: value, plain: true} }

// Count is the number for the placeholder {name}; it chooses the plural form. A
// negative number counts as 0.
func Count(name string, n int) Arg { return Arg{name: name, count: max(n, 0)} }

// Text returns the message with its placeholders filled. Values that it has no
// placeholder for are ignored; a placeholder without a value stays as it is written. The text of
// None is empty.
func (l *Language) Text(key Key, args ...Arg) string {
	if key == None || key >= keyCount {
		return ""
	}
	m := &l.messages[key]
	form := plural.Other
	if m.counts != "" {
		for i := range args {
			if args[i].name == m.counts && !args[i].plain {
				form = l.form(args[i].count)
			}
		}
	}
	parts := m.forms[form]
	if parts == nil {
		parts = m.forms[plural.Other]
	}
	if len(parts) == 1 && parts[0].name == "" {
		return parts[0].text
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.value(args))
	}
	return b.String()
}

// Split returns what comes before and after the placeholder {name} of a message
// that has it once, so that the value can be put in as a link.
func (l *Language) Split(key Key, name string) (before, after string) {
	if key >= keyCount {
		return "", ""
	}
	out := &before
	for _, p := range l.messages[key].forms[plural.Other] {
		if p.name == name {
			out = &after
			continue
		}
		*out += p.value(nil)
	}
	return before, after
}

// form is the plural form of an integer in this language.
func (l *Language) form(n int) plural.Form {
	return plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0)
}

func (p *part) value(args []Arg) string {
	if p.name == "" {
		return p.text
	}
	for i := range args {
		if args[i].name != p.name {
			continue
		}
		if args[i].plain {
			return args[i].text
		}
		return strconv.Itoa(args[i].count)
	}
	return "{" + p.name + "}"
}
