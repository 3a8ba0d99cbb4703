package rows

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
)

// Event is an event as it is stored: a column for each part that something selects or groups by, and one for all the rest.
type Event struct {
	Time           int64 // Unix milliseconds
	ID, RequestID  string
	Kind           string // of event
	Site           string
	Client, Prefix []byte // see privacy.Masker.Client
	Action         string
	Intended       string
	Score          int
	Rule           string
	Request        string // kind of request
	Family         string // of the agent
	Harm           string // see Harm
	Crawler        string
	Identity       string
	Status         int
	Bytes          int64
	Duration       int64 // microseconds
	Agent          string
	Method         string
	Host           string
	Path           string
	Query          string
	Details        string // JSON of all the rest
}

// details are the parts of an event that nothing selects or groups by.
type details struct {
	Schema    int                   `json:"schema"`
	Edge      string                `json:"edge,omitempty"`
	ASN       uint32                `json:"asn,omitempty"`
	Country   string                `json:"country,omitempty"`
	Token     string                `json:"token,omitempty"`
	Class     string                `json:"class,omitempty"`
	Protocol  string                `json:"protocol,omitempty"`
	Referrer  string                `json:"referrer,omitempty"`
	Headers   defense.EventHeaders  `json:"headers"`
	TLS       *defense.EventTLS     `json:"tls,omitempty"`
	How       string                `json:"how,omitempty"`
	Signals   []defense.Signal      `json:"signals,omitempty"`
	Reason    string                `json:"reason,omitempty"`
	Basis     defense.Basis         `json:"basis"`
	Mode      defense.Mode          `json:"mode"`
	Posture   defense.Posture       `json:"posture"`
	Decision  string                `json:"decision,omitempty"`
	Shadow    []defense.ShadowHit   `json:"shadow,omitempty"`
	Upstream  float64               `json:"upstream,omitempty"`
	Challenge *defense.EventOutcome `json:"challenge,omitempty"`
	Tarpit    *defense.EventTarpit  `json:"tarpit,omitempty"`
}

// EncodeEvent returns the event as it is stored. The event is brought within the limits of
// [record.Bound] first, which also makes its text valid UTF-8 without NUL.
func EncodeEvent(e *defense.Event, m *privacy.Masker) (Event, error) {
	record.Bound(e)
	r, v := &e.Request, &e.Verdict
	d := details{
		Schema: e.Schema, Edge: e.Edge, ASN: e.Client.ASN, Country: e.Client.Country, Token: e.Client.Token,
		Class: r.Class, Protocol: r.Protocol, Referrer: m.Referrer(r.Referrer), Headers: r.Headers, TLS: r.TLS,
		How: e.Identity.How, Signals: e.Signals, Reason: v.Reason, Basis: v.Basis, Mode: v.Mode, Posture: v.Posture,
		Decision: v.Decision, Shadow: v.Shadow, Upstream: finite(e.Response.UpstreamDuration), Challenge: e.Challenge, Tarpit: e.Tarpit,
	}
	if d.Tarpit != nil {
		t := *d.Tarpit
		t.Held = finite(t.Held)
		d.Tarpit = &t
	}
	text, err := json.Marshal(&d)
	if err != nil {
		return Event{}, fmt.Errorf("encoding event %q: %w", e.ID, err)
	}
	client, prefix := m.Client(e.Client.Address)
	return Event{
		Time: e.Time.UnixMilli(), ID: e.ID, RequestID: e.RequestID, Kind: e.Kind, Site: e.Site, Client: client, Prefix: prefix,
		Action: v.Action.String(), Intended: v.Intended.String(), Score: v.Score, Rule: v.Rule,
		Request: r.Kind.String(), Family: r.Family.String(), Harm: Harm(e),
		Crawler: e.Identity.Crawler, Identity: e.Identity.Status.String(),
		Status: e.Response.Status, Bytes: e.Response.Bytes, Duration: int64(math.Round(finite(e.Response.Duration) * 1e6)),
		Agent: r.Agent, Method: r.Method, Host: r.Host, Path: r.Path, Query: m.Query(r.Query), Details: string(text),
	}, nil
}

// Decode fills in the event that was stored.
func (row *Event) Decode(e *defense.Event) error {
	e.ID, e.RequestID, e.Kind, e.Site = row.ID, row.RequestID, row.Kind, row.Site
	for _, p := range []struct {
		to interface{ UnmarshalText([]byte) error }
		s  string
	}{{&e.Verdict.Action, row.Action}, {&e.Verdict.Intended, row.Intended}, {&e.Request.Kind, row.Request}, {&e.Request.Family, row.Family}, {&e.Identity.Status, row.Identity}} {
		if err := p.to.UnmarshalText([]byte(p.s)); err != nil {
			return fmt.Errorf("event %s: %w", e.ID, err)
		}
	}
	var d details
	if err := json.Unmarshal([]byte(row.Details), &d); err != nil {
		return fmt.Errorf("event %s: details: %w", e.ID, err)
	}
	e.Schema, e.Edge = d.Schema, d.Edge
	e.Time = time.UnixMilli(row.Time).UTC()
	e.Client.Address, e.Client.Prefix = privacy.ReadClient(row.Client, row.Prefix)
	e.Client.ASN, e.Client.Country, e.Client.Token = d.ASN, d.Country, d.Token
	r, v := &e.Request, &e.Verdict
	r.Method, r.Host, r.Path, r.Query, r.Agent = row.Method, row.Host, row.Path, row.Query, row.Agent
	r.Class, r.Protocol, r.Referrer, r.Headers, r.TLS = d.Class, d.Protocol, d.Referrer, d.Headers, d.TLS
	e.Identity.Crawler, e.Identity.How = row.Crawler, d.How
	e.Signals = d.Signals
	v.Score, v.Rule = row.Score, row.Rule
	v.Reason, v.Basis, v.Mode, v.Posture, v.Decision, v.Shadow = d.Reason, d.Basis, d.Mode, d.Posture, d.Decision, d.Shadow
	e.Response.Status, e.Response.Bytes = row.Status, row.Bytes
	e.Response.Duration, e.Response.UpstreamDuration = float64(row.Duration)/1e6, d.Upstream
	e.Challenge, e.Tarpit = d.Challenge, d.Tarpit
	return nil
}

// finite makes a number of seconds one that JSON and an integer of microseconds can hold.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return max(-1e9, min(1e9, f))
}

// Harm says what reader the client looks like if the verdict stopped it or would have;
// "" if it does not look like one or passed. A crawler that proved who it is counts as one where the
// verdict is a matter of judgement: the site's owner may have decided against it, a score has not.
func Harm(e *defense.Event) string {
	crawler, judged := e.Identity.Crawler, e.Verdict.Basis == defense.BasisJudged
	switch family, kind := e.Request.Family, e.Request.Kind; {
	case !e.Verdict.Action.Stops() && !e.Verdict.Intended.Stops(), e.Identity.Status == defense.IdentityImpostor:
		return ""
	case e.Identity.Status == defense.IdentityVerified:
		if judged {
			return "crawler"
		}
		return ""
	case family == defense.AgentFeed, kind == defense.KindFeed && crawler == "":
		return "feed"
	case family == defense.AgentGit, kind == defense.KindGit && crawler == "":
		return "git"
	case kind == defense.KindPreview && judged:
		return "preview"
	case crawler != "":
		return ""
	case family == defense.AgentBrowser:
		return "browser"
	case family == defense.AgentApp:
		return "app"
	}
	return ""
}
