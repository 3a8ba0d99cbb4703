package explain

import (
	"fmt"
	"io"
	"strings"

	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/plain"
	"github.com/quickthorn/quickthorn/internal/policy"
)

// Report is the explanation of one verdict, as the private API sends it.
type Report struct {
	Request   string           `json:"request"` // "GET example.org/path"
	Client    string           `json:"client"`
	Verdict   Verdict          `json:"verdict"`
	Profile   Profile          `json:"profile"`
	Signals   []defense.Signal `json:"signals"`
	Decisions []Decision       `json:"decisions,omitempty"`
	Rules     []policy.Step    `json:"rules"` // in the order in which they were considered
	Notes     []string         `json:"notes,omitempty"`

	profile defense.Profile
	verdict defense.Verdict
}

// Verdict is the outcome.
type Verdict struct {
	defense.EventVerdict
	Answer     string  `json:"answer"`               // what the client would get: "forwarded", "403, a page", …
	RetryAfter float64 `json:"retryAfter,omitempty"` // seconds
}

// Profile is what the request was taken for.
type Profile struct {
	Agent    string       `json:"agent"` // as claimed
	Family   string       `json:"family"`
	Name     string       `json:"name,omitempty"`
	Crawler  string       `json:"crawler,omitempty"`
	Operator string       `json:"operator,omitempty"`
	Purpose  string       `json:"purpose,omitempty"`
	Identity string       `json:"identity"`
	Kind     defense.Kind `json:"kind"`
	Class    string       `json:"class,omitempty"`
	Path     string       `json:"path"` // normalised: what rules see
	Cleared  bool         `json:"cleared"`
}

// Decision is a decision about the client and what it did.
type Decision struct {
	ID     string         `json:"id"`
	Action defense.Action `json:"action"`
	Origin string         `json:"origin"`
	Reason string         `json:"reason,omitempty"`
	Note   string         `json:"note"`
}

func (r *Report) fill(x *engine.Explanation) {
	p, v := &r.profile, &r.verdict
	r.Request = p.Method + " " + p.Host + p.Target
	r.Client = p.Client.Address.String()
	r.Verdict = Verdict{
		EventVerdict: defense.EventVerdict{
			Action: v.Action, Intended: v.Intended, Score: v.Score, Rule: v.Rule, Reason: v.Reason, Basis: v.Basis,
			Mode: v.Mode, Posture: v.Posture, Decision: v.DecisionID, Shadow: v.Shadow,
		},
		Answer: answerText(p, v), RetryAfter: v.RetryAfter.Seconds(),
	}
	r.Profile = Profile{
		Agent: p.Agent.Text.Value, Family: p.Agent.Family.String(), Name: p.Agent.Name, Identity: p.Identity.Status.String(),
		Kind: p.Kind, Class: p.Class, Path: p.Path, Cleared: p.Clearance.Valid,
	}
	if c := p.Agent.Crawler; c != nil {
		r.Profile.Crawler, r.Profile.Operator, r.Profile.Purpose = c.Name, c.Operator, string(c.Purpose)
	}
	r.Signals = append([]defense.Signal{}, v.Signals...)
	for _, d := range x.Decisions {
		r.Decisions = append(r.Decisions, Decision{ID: d.Found.ID, Action: d.Found.Action, Origin: d.Found.Origin, Reason: d.Found.Reason, Note: d.Note})
	}
	r.Rules = append([]policy.Step{}, x.Steps...)
	r.Notes = x.Notes
}

func answerText(p *defense.Profile, v *defense.Verdict) string {
	form := [...]string{answer.FormPage: "a page", answer.FormProblem: "problem+json", answer.FormText: "plain text"}[answer.FormFor(p.Kind, p.Headers.Accept.Value)]
	switch v.Action {
	case defense.Allow, defense.Observe:
		return "forwarded to the site"
	case defense.Throttle:
		return "429 with Retry-After, " + form
	case defense.Challenge:
		return "429, a page that checks for cookies and goes on by itself"
	case defense.Tarpit:
		return "403 after a wait, " + form
	}
	return "403, " + form
}

// WriteText writes the report for a terminal. What the request contains is
// quoted where it could carry control characters.
func (r *Report) WriteText(w io.Writer, all bool) error {
	var b strings.Builder
	row := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", label, fmt.Sprintf(format, args...))
	}
	v := &r.Verdict
	row("request", "%s from %s", printable(r.Request), r.Client)
	verdict := v.Action.String()
	if v.Intended != v.Action {
		verdict += fmt.Sprintf(" (would be %s in mode enforce)", v.Intended)
	}
	row("verdict", "%s, score %d", verdict, v.Score)
	if v.Rule != "" {
		row("because", "%s: %s [%s]", printable(v.Rule), printable(v.Reason), v.Basis)
	} else {
		row("because", "nothing speaks against it")
	}
	row("answer", "%s", v.Answer)
	row("mode", "%s, posture %s", v.Mode, v.Posture)
	b.WriteByte('\n')
	agent := r.Profile.Family
	if r.Profile.Crawler != "" {
		agent = fmt.Sprintf("%s, %s", r.Profile.Crawler, r.Profile.Purpose)
		if r.Profile.Operator != "" {
			agent += " of " + printable(r.Profile.Operator)
		}
		agent += ", identity " + r.Profile.Identity
	} else if r.Profile.Name != "" {
		agent += " " + printable(r.Profile.Name)
	}
	row("agent", "%s", agent)
	kind := r.Profile.Kind.String()
	if r.Profile.Class != "" {
		kind += ", class " + r.Profile.Class
	}
	row("kind", "%s", kind)
	row("path", "%s", printable(r.Profile.Path))
	for i, s := range r.Signals {
		row(first(i, "signals"), "%+4d  %s: %s", s.Weight, printable(s.Name), printable(s.Sentence))
	}
	for i, d := range r.Decisions {
		row(first(i, "decisions"), "%s by %s (%s): %s", d.Action, printable(d.Origin), d.ID, printable(d.Note))
	}
	n := 0
	for _, s := range r.Rules {
		if !all && !s.Matched {
			continue
		}
		mark := " "
		if s.Matched {
			mark = "*"
		}
		line := fmt.Sprintf("%s %s  %s  %s:%d", mark, printable(s.Rule), s.Effect, printable(s.File), s.Line)
		for _, note := range []string{s.Skipped, s.Error} {
			if note != "" {
				line += "  (" + printable(note) + ")"
			}
		}
		row(first(n, "rules"), "%s", line)
		n++
	}
	if skipped := len(r.Rules) - n; skipped > 0 {
		row(first(n, "rules"), "  %d more did not match (--all shows them)", skipped)
	}
	for i, h := range v.Shadow {
		row(first(i, "shadow"), "%s would %s", printable(h.Rule), h.Action)
	}
	for i, note := range r.Notes {
		row(first(i, "notes"), "%s", printable(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func first(i int, label string) string {
	if i == 0 {
		return label
	}
	return ""
}

// printable quotes what a terminal could execute and leaves the rest alone.
func printable(s string) string {
	if strings.ContainsFunc(s, plain.Unsafe) {
		return fmt.Sprintf("%+q", s)
	}
	return s
}
