package intake

import (
	"fmt"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
)

func (s *Service) raise(a alert.Alert) {
	if s.o.Alerts == nil {
		return
	}
	a.ID = s.o.NewID()
	s.o.Alerts.Raise(a)
}

// posture is how tense an edge was, and when.
type posture struct {
	defense.Posture
	at time.Time
}

const (
	maxEdges = 10_000          // whose postures are remembered
	oldNews  = 5 * time.Minute // what happened earlier is not told: it comes from a backlog
)

// notice tells the owner when an edge's posture rises. It is called by the casebook's goroutine.
func (s *Service) notice(e *defense.Event) {
	before, known := s.postures[e.Edge]
	if e.Time.Before(before.at) || !known && len(s.postures) >= maxEdges || strings.HasPrefix(e.Edge, WebhookPrefix) {
		return // events of requests that lasted long come late
	}
	now, at, name := e.Verdict.Posture, s.o.Now(), e.Edge
	if !known {
		name = strings.Clone(name) // it shares memory with the rest of the event
	}
	if e.Time.Before(at) {
		at = e.Time
	}
	s.postures[name] = posture{now, at}
	if now <= before.Posture || at.Before(s.o.Now().Add(-oldNews)) {
		return
	}
	a := alert.Alert{Kind: "posture", Severity: alert.Warning, Site: e.Site, Title: "The edge " + e.Edge + " is guarded", At: e.Time,
		Text: "The site answers slowly, fails, or has many requests waiting. Doubtful visitors are asked to pass a check."}
	if now == defense.Siege {
		a.Severity, a.Title = alert.Critical, "The edge "+e.Edge+" is under siege"
		a.Text = "The site is close to what it can serve. Every visitor who has not passed a check is asked to."
	}
	s.raise(a)
}

func decidedAlert(c *defense.Case, made []defense.Decision, now time.Time) alert.Alert {
	a := alert.Alert{
		Kind: string(c.Kind), Severity: alert.Info, Site: c.Site, CaseID: c.ID, At: now,
		Title: fmt.Sprintf("%s %s: %s", c.Kind, c.Key, made[0].Action), Text: made[0].Reason,
		Numbers: []alert.Number{
			{Name: "requests", Value: float64(c.EventCount)}, {Name: "clients", Value: float64(max(1, c.Members.Count))},
			{Name: "decisions", Value: float64(len(made))},
		},
	}
	if c.Kind == defense.CaseCampaign {
		a.Severity = alert.Warning
		a.Title = fmt.Sprintf("A campaign of %d clients: %s", c.Members.Count, made[0].Action)
	}
	return a
}

func deadLetter(b *queue.Batch, reason error, now time.Time) alert.Alert {
	return alert.Alert{
		Kind: "intake", Severity: alert.Warning, At: now, Title: "Events were put aside",
		Text:    fmt.Sprintf("A batch from %s was put aside: %v. See quickthorn dead-letters.", b.Source, reason),
		Numbers: []alert.Number{{Name: "events", Value: float64(b.Events)}},
	}
}
