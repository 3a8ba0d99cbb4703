package alert

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/plain"
)

// Severity says how much an alert matters.
type Severity uint8

// The severities.
const (
	Info     Severity = iota // good to know
	Warning                  // wants a look today
	Critical                 // wants a look now

	severities // how many there are
)

// String returns "info", "warning" or "critical".
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// ParseSeverity is the inverse of [Severity.String].
func ParseSeverity(text string) (Severity, error) {
	for s := range severities {
		if text == s.String() {
			return s, nil
		}
	}
	return 0, fmt.Errorf("severity %q is not one of info, warning, critical", text)
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) {
	if s >= severities {
		return nil, fmt.Errorf("no such severity: %d", uint8(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	v, err := ParseSeverity(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// KindTest is the kind of alert that [Dispatcher.Test] sends.
const KindTest = "test"

// Bounds of an alert, in characters; what is longer is cut, with an ellipsis at the end.
const (
	maxName  = 64 // kind, id of a case, name and unit of a number
	maxSite  = 253
	maxTitle = 200
	maxText  = 2000
	maxLink  = 2000
	// maxNumbers is how many numbers an alert and an item of a message have at most.
	maxNumbers = 12
)

// Alert is one thing that happened.
type Alert struct {
	ID       string    `json:"id"`   // ULID; [Dispatcher.Raise] makes one where it is empty
	Kind     string    `json:"kind"` // what it is about, such as "campaign", "client", "posture", "intake", "store"
	Severity Severity  `json:"severity"`
	Site     string    `json:"site,omitempty"` // "" when it concerns all sites
	Title    string    `json:"title"`          // one line, at most 200 characters
	Text     string    `json:"text,omitempty"` // what a person ought to know and can do, at most 2,000 characters
	Numbers  []Number  `json:"numbers,omitempty"`
	CaseID   string    `json:"caseId,omitempty"`
	Link     string    `json:"link,omitempty"` // where to look, an http or https address
	At       time.Time `json:"at"`             // zero: when it is raised
	Count    int       `json:"count"`          // how many occurrences it stands for; below 1: 1
}

// Number is something measured. In a message about several alerts it is added up, and the largest is told.
type Number struct {
	Name  string  `json:"name"` // "requests"
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"` // "bytes", "seconds"; "" for a plain count
	// Level says that this is not an amount (a share, a score, a rate): the largest is told, never a sum.
	Level bool `json:"level,omitempty"`
}

// cleaned returns the alert within its bounds and without characters that act on what shows them.
func (a Alert) cleaned() Alert {
	a.ID = line(a.ID, maxName)
	a.Kind = line(a.Kind, maxName)
	if a.Kind == "" {
		a.Kind = "unnamed"
	}
	a.Severity = min(a.Severity, severities-1)
	a.Site = line(a.Site, maxSite)
	a.Title = line(a.Title, maxTitle)
	if a.Title == "" {
		a.Title = a.Kind
	}
	a.Text = paragraph(a.Text, maxText)
	a.CaseID = line(a.CaseID, maxName)
	a.Link = link(a.Link)
	a.Count = max(a.Count, 1)
	numbers := a.Numbers[:0:0]
	for _, n := range a.Numbers {
		if len(numbers) == maxNumbers || math.IsNaN(n.Value) || math.IsInf(n.Value, 0) { // JSON has neither
			continue
		}
		n.Name, n.Unit = line(n.Name, maxName), line(n.Unit, maxName)
		numbers = append(numbers, n)
	}
	a.Numbers = numbers
	return a
}

// line makes s a single line of at most limit characters that can be shown anywhere.
func line(s string, limit int) string {
	return strings.TrimSpace(clean(s, limit, false))
}

// paragraph is like line but keeps the line breaks.
func paragraph(s string, limit int) string {
	return strings.TrimSpace(clean(s, limit, true))
}

func clean(s string, limit int, lines bool) string {
	if s == "" {
		return ""
	}
	var b strings.Builder
	b.Grow(min(len(s), limit))
	for n := 0; s != ""; n++ {
		r, size := utf8.DecodeRuneInString(s)
		if n == limit-1 && size < len(s) {
			b.WriteRune('…')
			break
		}
		s = s[size:]
		switch {
		case r == '\n' && lines:
			b.WriteByte('\n')
		case r == '\n' || r == '\t' || r == '\r' || r == 0x2028 || r == 0x2029:
			b.WriteByte(' ')
		case plain.Unsafe(r): // U+FFFD among them, which is also what bytes that are no text read as
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// link returns s if it is an address to follow: what is not http is not worth a click, and half of one leads nowhere.
func link(s string) string {
	if len(s) > maxLink || line(s, maxLink) != s || strings.ContainsAny(s, " <>\"'`\\") {
		return ""
	}
	if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
		return ""
	}
	return s
}
