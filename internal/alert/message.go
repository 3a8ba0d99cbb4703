package alert

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MessageSchema is the version of Message's JSON form, which webhooks and commands receive.
const MessageSchema = 1

// Reason says why a message was made.
type Reason string

// The reasons.
const (
	ReasonAlert  Reason = "alert"  // alerts of one kind and site
	ReasonDigest Reason = "digest" // what was held back in quiet hours
	ReasonMore   Reason = "more"   // what did not fit into the hour's messages
	ReasonStop   Reason = "stop"   // what had been gathered when the program stopped
	ReasonTest   Reason = "test"
)

// Bounds of a message.
const (
	maxItems    = 20 // items of one message, the most severe ones
	maxExamples = 5  // further titles of an item
	maxCases    = 8  // ids of cases of an item
)

// Message is what is sent: one or more alerts.
type Message struct {
	Schema   int       `json:"schema"`
	ID       string    `json:"id"` // ULID; the same at each attempt to send it, to tell a repetition by
	Reason   Reason    `json:"reason"`
	Severity Severity  `json:"severity"`       // the highest
	Kind     string    `json:"kind,omitempty"` // "" when it is about several
	Site     string    `json:"site,omitempty"` // likewise
	Title    string    `json:"title"`
	Count    int       `json:"count"` // occurrences that it stands for
	At       time.Time `json:"at"`    // when it was made
	Items    []Item    `json:"items"` // the most severe first, at most 20
	// Omitted is how many items beyond those there were.
	Omitted int    `json:"omitted,omitempty"`
	Note    string `json:"note,omitempty"` // about the sending itself

	reached []string // recipients that have it already, where a channel has several; its worker owns it
}

// Item is what alerts of one kind and site have in common.
type Item struct {
	Kind     string    `json:"kind"`
	Site     string    `json:"site,omitempty"`
	Severity Severity  `json:"severity"` // the highest
	Title    string    `json:"title"`    // of the first of the most severe alerts, as Text and Link
	Text     string    `json:"text,omitempty"`
	Link     string    `json:"link,omitempty"`
	Count    int       `json:"count"`              // occurrences
	Examples []string  `json:"examples,omitempty"` // other titles, at most 5
	CaseIDs  []string  `json:"caseIds,omitempty"`  // at most 8
	Numbers  []Total   `json:"numbers,omitempty"`  // at most 12
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// Total is a number over all alerts of an item.
type Total struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit,omitempty"`
	Sum   float64 `json:"sum"` // 0 for a level
	Max   float64 `json:"max"`
	Level bool    `json:"level,omitempty"`
}

// newItem begins an item with one alert, which has been cleaned.
func newItem(a *Alert) *Item {
	i := &Item{Kind: a.Kind, Site: a.Site, Severity: a.Severity, Title: a.Title, Text: a.Text, Link: a.Link, Count: a.Count, First: a.At, Last: a.At}
	for _, n := range a.Numbers {
		i.number(total(n))
	}
	if a.CaseID != "" {
		i.CaseIDs = []string{a.CaseID}
	}
	return i
}

// total turns a number of one alert into one of an item.
func total(n Number) Total {
	t := Total{Name: n.Name, Unit: n.Unit, Sum: n.Value, Max: n.Value, Level: n.Level}
	if t.Level {
		t.Sum = 0
	}
	return t
}

// add adds what o holds. Where o is more severe, it speaks for both.
func (i *Item) add(o *Item) {
	if o.Severity > i.Severity {
		i.example(i.Title, o.Title)
		i.Severity, i.Title, i.Text, i.Link = o.Severity, o.Title, o.Text, o.Link
	} else {
		i.example(o.Title, i.Title)
	}
	for _, e := range o.Examples {
		i.example(e, i.Title)
	}
	for _, id := range o.CaseIDs {
		if len(i.CaseIDs) < maxCases && !slices.Contains(i.CaseIDs, id) {
			i.CaseIDs = append(i.CaseIDs, id)
		}
	}
	for _, n := range o.Numbers {
		i.number(n)
	}
	i.Count = plus(i.Count, o.Count)
	if o.First.Before(i.First) {
		i.First = o.First
	}
	if o.Last.After(i.Last) {
		i.Last = o.Last
	}
}

// example keeps a further title, unless it is the one that is told anyway.
func (i *Item) example(title, told string) {
	if title != told && len(i.Examples) < maxExamples && !slices.Contains(i.Examples, title) {
		i.Examples = append(i.Examples, title)
	}
}

func (i *Item) number(n Total) {
	for k := range i.Numbers {
		if t := &i.Numbers[k]; t.Name == n.Name && t.Unit == n.Unit && t.Level == n.Level {
			if sum := t.Sum + n.Sum; !math.IsInf(sum, 0) {
				t.Sum = sum
			}
			t.Max = max(t.Max, n.Max)
			return
		}
	}
	if len(i.Numbers) < maxNumbers {
		i.Numbers = append(i.Numbers, n)
	}
}

// plus adds two counts, both at least 0, without going round.
func plus(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

// newMessage makes a message of at least one item; the caller lets go of them.
func newMessage(id string, reason Reason, at time.Time, items []*Item) *Message {
	slices.SortStableFunc(items, func(a, b *Item) int {
		if a.Severity != b.Severity {
			return int(b.Severity) - int(a.Severity)
		}
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Kind+"\x00"+a.Site, b.Kind+"\x00"+b.Site)
	})
	m := &Message{Schema: MessageSchema, ID: id, Reason: reason, Severity: items[0].Severity, Kind: items[0].Kind, Site: items[0].Site, At: at}
	for _, i := range items {
		m.Count = plus(m.Count, i.Count)
		if i.Kind != m.Kind {
			m.Kind = ""
		}
		if i.Site != m.Site {
			m.Site = ""
		}
	}
	for _, i := range items[:min(len(items), maxItems)] {
		m.Items = append(m.Items, *i)
	}
	m.Omitted = len(items) - len(m.Items)
	m.Title = m.title()
	return m
}

func (m *Message) title() string {
	alerts := number(float64(m.Count)) + " alerts"
	if m.Count == 1 {
		alerts = "1 alert"
	}
	switch {
	case m.Reason == ReasonDigest:
		return alerts + " in quiet hours: " + m.Items[0].Title
	case m.Reason == ReasonMore:
		return number(float64(m.Count)) + " more: " + m.Items[0].Title
	case m.Reason == ReasonStop && len(m.Items) > 1:
		return alerts + " before the stop: " + m.Items[0].Title
	case m.Count > 1:
		return m.Items[0].Title + " (" + alerts + ")"
	}
	return m.Items[0].Title
}

// Subject is one line that says what the message is about.
func (m *Message) Subject() string {
	s := m.Severity.String() + ": "
	if m.Site != "" {
		s += m.Site + ": "
	}
	return line(s+m.Title, maxTitle+64)
}

// PlainText is the message for people, without its subject.
func (m *Message) PlainText() string {
	var b strings.Builder
	for k := range m.Items {
		if k > 0 {
			b.WriteString("\n\n")
		}
		m.Items[k].write(&b, len(m.Items) > 1)
	}
	if m.Omitted > 0 {
		fmt.Fprintf(&b, "\n\nLeft out: %s more kinds or sites.", number(float64(m.Omitted)))
	}
	if m.Note != "" {
		b.WriteString("\n\n" + m.Note)
	}
	return b.String()
}

func (i *Item) write(b *strings.Builder, several bool) {
	if several {
		fmt.Fprintf(b, "%s: %s\n", i.Severity, i.where())
	}
	b.WriteString(i.Title)
	if i.Text != "" {
		b.WriteString("\n" + i.Text)
	}
	for _, n := range i.Numbers {
		fmt.Fprintf(b, "\n  %s", n)
	}
	b.WriteString("\n" + i.where() + ": " + i.When())
	for k, e := range i.Examples {
		if k == 0 {
			b.WriteString("\nAmong them:")
		}
		b.WriteString("\n  " + e)
	}
	if len(i.CaseIDs) > 0 {
		b.WriteString("\nCases: " + strings.Join(i.CaseIDs, ", "))
	}
	if i.Link != "" {
		b.WriteString("\n" + i.Link)
	}
}

// When says how often it happened and when.
func (i Item) When() string {
	if i.Count > 1 {
		return number(float64(i.Count)) + " alerts from " + stamp(i.First) + " to " + stamp(i.Last)
	}
	return stamp(i.First)
}

func (i *Item) where() string {
	if i.Site == "" {
		return i.Kind
	}
	return i.Kind + ", " + i.Site
}

// String says the number in words: "requests: 52,000 in all, 610 at most".
func (t Total) String() string {
	unit := t.Unit
	if unit != "" {
		unit = " " + unit
	}
	switch {
	case t.Level:
		return t.Name + ": " + number(t.Max) + unit
	case t.Sum == t.Max:
		return t.Name + ": " + number(t.Sum) + unit
	}
	return t.Name + ": " + number(t.Sum) + unit + " in all, " + number(t.Max) + unit + " at most"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// number writes v for people: at most three decimals, thousands apart, very large ones by exponent.
func number(v float64) string {
	if math.Abs(v) >= 1e15 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	s := strconv.FormatFloat(v, 'f', 3, 64)
	s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	whole, fraction, found := strings.Cut(s, ".")
	for k := len(whole) - 3; k > 0; k -= 3 {
		whole = whole[:k] + "," + whole[k:]
	}
	if found {
		whole += "." + fraction
	}
	if whole == "0" {
		return whole
	}
	return sign + whole
}
