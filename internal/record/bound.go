package record

import (
	"strings"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// What is kept of one event, in bytes of text and in entries. What exceeds is cut.
const (
	maxSignals  = 32
	maxShadow   = 32
	maxAgent    = 512
	maxPath     = 2048
	maxQuery    = 2048
	maxReferrer = 1024
	maxReason   = 1024
	maxSentence = 512
	maxAccept   = 256
	maxName     = 128
	maxHost     = 253
	maxShort    = 64
)

// eventBytes is what an event takes in memory apart from its strings.
const eventBytes = 768

// Bound brings an event within the limits of what is kept: strings are cut
// at a rune, made valid UTF-8 and freed of NUL (shown as U+2400), lists are shortened. Other control
// bytes stay; whoever prints them must escape them, as JSON does. The strings are moved into memory of their own, so that
// a queued event does not hold the whole header block that they were cut from.
// It returns roughly how many bytes the event takes.
func Bound(e *defense.Event) int {
	r := &e.Request
	fields := [...]struct {
		s   *string
		max int
	}{
		{&e.Kind, maxShort}, {&e.ID, maxShort}, {&e.Site, maxName}, {&e.Edge, maxName}, {&e.RequestID, maxShort},
		{&e.Client.Address, maxShort}, {&e.Client.Prefix, maxShort}, {&e.Client.Country, maxShort}, {&e.Client.Token, maxShort},
		{&r.Method, maxShort}, {&r.Host, maxHost}, {&r.Path, maxPath}, {&r.Query, maxQuery}, {&r.Class, maxName},
		{&r.Protocol, maxShort}, {&r.Agent, maxAgent}, {&r.Referrer, maxReferrer},
		{&r.Headers.Shape, maxShort}, {&r.Headers.Accept, maxAccept}, {&r.Headers.AcceptLanguage, maxName},
		{&r.Headers.SecFetchSite, maxShort}, {&r.Headers.SecFetchMode, maxShort}, {&r.Headers.SecFetchDest, maxShort},
		{&e.Identity.Crawler, maxName}, {&e.Identity.How, maxShort},
		{&e.Verdict.Rule, maxName}, {&e.Verdict.Reason, maxReason}, {&e.Verdict.Decision, maxShort},
	}
	n := 0
	for _, f := range fields {
		*f.s = Clean(*f.s, f.max)
		n += len(*f.s)
	}
	var b strings.Builder
	b.Grow(n)
	for _, f := range fields {
		b.WriteString(*f.s)
	}
	rest := b.String()
	for _, f := range fields {
		*f.s, rest = rest[:len(*f.s)], rest[len(*f.s):]
	}

	// The rest comes from the edge itself and is mostly shared between events.
	if r.TLS != nil {
		r.TLS.Version, r.TLS.JA4 = Clean(r.TLS.Version, maxShort), Clean(r.TLS.JA4, maxShort)
	}
	if e.Challenge != nil {
		e.Challenge.ID, e.Challenge.Kind, e.Challenge.Outcome = Clean(e.Challenge.ID, maxShort), Clean(e.Challenge.Kind, maxShort), Clean(e.Challenge.Outcome, maxShort)
	}
	e.Signals = e.Signals[:min(len(e.Signals), maxSignals)]
	for i := range e.Signals {
		s := &e.Signals[i]
		s.Name, s.Sentence = Clean(s.Name, maxName), Clean(s.Sentence, maxSentence)
		n += len(s.Name) + len(s.Sentence) + 40
	}
	e.Verdict.Shadow = e.Verdict.Shadow[:min(len(e.Verdict.Shadow), maxShadow)]
	for i := range e.Verdict.Shadow {
		h := &e.Verdict.Shadow[i]
		h.Rule = Clean(h.Rule, maxName)
		n += len(h.Rule) + 32
	}
	return n + eventBytes
}

// Recorded returns what an event keeps of these texts of a request, as [Bound] does. Whoever compares a request
// with what was seen in events must compare these: a client chooses their length and bytes.
// Texts that are in order, and those of nearly every client are, come back as they are.
func Recorded(agent, path, query string) (string, string, string) {
	return Clean(agent, maxAgent), Clean(path, maxPath), Clean(query, maxQuery)
}

// Clean cuts a text to at most limit bytes at a rune, makes it valid UTF-8 and frees it of NUL, which is shown as U+2400.
func Clean(s string, limit int) string {
	s = cut(s, limit)
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return cut(strings.ReplaceAll(s, "\x00", "\u2400"), limit)
}

// cut shortens s to at most limit bytes without leaving a part of a rune behind.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > limit-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
