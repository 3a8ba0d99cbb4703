// Package likeness learns what a site's pages look like, so that made-up pages can look the same: the markup around the content, the
// classes within it, the shapes of addresses, and how long pages are and take.
//
// What is learnt is of the owner's own site, and is kept as a small profile in JSON. The profile has none of the site's content, scripts
// or forms that do something, and it is checked as if a stranger had written it when it is read.
package likeness

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Version is that of the profile's format.
const Version = 1

// Bounds of a profile.
const (
	MaxSize   = 256 << 10 // bytes of JSON
	maxShell  = 160 << 10 // bytes: JSON may need more for the same
	maxTitle  = 200       // bytes before or after a title
	maxClass  = 200       // bytes of an element's classes
	maxShapes = 16
	maxShape  = 160 // bytes
)

// Likeness is a profile of a site's pages.
type Likeness struct {
	Version  int       `json:"version"`
	Language string    `json:"language,omitempty"` // such as "en" or "pt-BR"; "": not known
	Title    Title     `json:"title"`
	Shell    string    `json:"shell"`   // a whole page in UTF-8 with slots instead of its content
	Classes  Classes   `json:"classes"` // of elements within the content
	Shapes   []Shape   `json:"shapes"`  // of addresses
	PageSize Quantiles `json:"page_size"`
	Links    Quantiles `json:"links"`   // of a page
	Words    Quantiles `json:"words"`   // of a paragraph
	Latency  Quantiles `json:"latency"` // microseconds
}

// Title is what stands around the changing part of pages' titles.
type Title struct {
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Classes are the class attributes of elements by their names. Only those of [Elements] are there.
type Classes map[string]string

// Elements returns the elements whose classes are learnt.
func Elements() []string {
	return []string{"h1", "h2", "h3", "p", "ul", "ol", "li", "table", "blockquote", "pre", "a"}
}

// Shape is a pattern of addresses such as "/{year}/{slug}.html" and how many of a thousand pages have it. The parts that change are
// {slug}, {id}, {year}, {month} and {day}; every pattern has a {slug} or an {id}.
type Shape struct {
	Pattern string `json:"pattern"`
	Share   int    `json:"share"`
}

// Slot is a place in a shell.
type Slot uint8

const (
	// SlotNone is the beginning of the shell.
	SlotNone Slot = iota
	// SlotTitle is where the page's title is, with what stands around it.
	SlotTitle
	// SlotHeading is where the title alone is; if the shell has none, the content brings the page's h1.
	SlotHeading
	// SlotMain is where the content is.
	SlotMain
	// SlotWayOut is where the way out for people is.
	SlotWayOut
)

// markers are the slots as they stand in a shell.
var markers = [...]string{SlotTitle: "{{title}}", SlotHeading: "{{heading}}", SlotMain: "{{main}}", SlotWayOut: "{{wayout}}"}

// robots is what every shell has in its head.
const robots = `<meta name="robots" content="noindex, nofollow"/>`

// Piece is a slot and the markup that follows it.
type Piece struct {
	Slot   Slot
	Markup string
}

// Pieces returns the shell cut at its slots. The first piece has SlotNone.
func (l *Likeness) Pieces() []Piece {
	pieces := []Piece{{}}
	last := &pieces[0].Markup
	for rest := l.Shell; ; {
		before, after, ok := strings.Cut(rest, "{{")
		*last = before
		if !ok {
			return pieces
		}
		name, tail, _ := strings.Cut(after, "}}")
		slot := SlotNone
		for s, m := range markers {
			if m == "{{"+name+"}}" {
				slot = Slot(s)
			}
		}
		pieces = append(pieces, Piece{Slot: slot})
		last, rest = &pieces[len(pieces)-1].Markup, tail
	}
}

// Parse reads a profile. The error says what is wrong with it; what it lets pass is safe to make pages of.
func Parse(b []byte) (*Likeness, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("likeness: %d bytes; a profile has at most %d", len(b), MaxSize)
	}
	var l Likeness
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("likeness: %w", err)
	}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("likeness: %w", err)
	}
	return &l, nil
}

// Check reports what is wrong with the profile.
func (l *Likeness) Check() error {
	if l.Version != Version {
		return fmt.Errorf("version %d; want %d", l.Version, Version)
	}
	if l.Language != "" && !ValidLanguage(l.Language) {
		return fmt.Errorf("language %q: want a code such as \"en\" or \"pt-BR\"", l.Language)
	}
	if len(l.Title.Before) > maxTitle || len(l.Title.After) > maxTitle {
		return fmt.Errorf("the title has more than %d bytes before or after its changing part", maxTitle)
	}
	if err := checkClasses(l.Classes); err != nil {
		return err
	}
	if err := checkShapes(l.Shapes); err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		*Quantiles
	}{{"page_size", &l.PageSize}, {"links", &l.Links}, {"words", &l.Words}, {"latency", &l.Latency}} {
		if err := q.Check(); err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
	}
	if top := l.PageSize[len(points)-1]; top > maxPage {
		return fmt.Errorf("page_size: %d bytes; a page has at most %d", top, maxPage)
	}
	if l.Links[len(points)-1] > maxLinks || l.Words[len(points)-1] > maxWords {
		return fmt.Errorf("a page has at most %d links, a paragraph at most %d words", maxLinks, maxWords)
	}
	return checkShell(l.Shell)
}

// Bounds of what pages are made of.
const (
	maxPage  = 256 << 10 // bytes
	maxLinks = 1000
	maxWords = 1000 // in a paragraph
)

func checkClasses(classes Classes) error {
	if len(classes) > len(Elements()) {
		return errors.New("classes: there are more than are learnt")
	}
	for element, class := range classes {
		known := false
		for _, e := range Elements() {
			known = known || e == element
		}
		if !known {
			return fmt.Errorf("classes: %q: want one of %v", element, Elements())
		}
		if !validClass(class) {
			return fmt.Errorf("classes: %q: want at most %d bytes of letters, digits, spaces and signs without quotes, angle brackets, ampersands and braces", class, maxClass)
		}
	}
	return nil
}

func validClass(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || strings.IndexByte("\"'<>&{}`", c) >= 0 {
			return false
		}
	}
	return len(s) <= maxClass
}

// ValidLanguage reports whether s looks like a language's code: letters and digits in parts of at most eight with hyphens between.
func ValidLanguage(s string) bool {
	if s == "" || len(s) > 35 {
		return false
	}
	for i, part := range strings.Split(s, "-") {
		if part == "" || len(part) > 8 {
			return false
		}
		for _, c := range part {
			if letter := 'a' <= c|0x20 && c|0x20 <= 'z'; !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}
