package escalation

import (
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

type values map[string]float64

// with returns the values with others put over them.
func (v values) with(others values) values {
	out := make(values, len(v)+len(others))
	for k, x := range v {
		out[k] = x
	}
	for k, x := range others {
		out[k] = x
	}
	return out
}

func at() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// client is a case of one client with a browser's name.
func client(key string, f values) *defense.Case {
	return &defense.Case{
		ID: "01JNABCDEFGHJKMNPQRSTVWXYZ", Revision: 1, Kind: defense.CaseClient, Key: key, Site: "wiki", FirstSeen: at(), LastSeen: at(),
		Members: defense.CaseMembers{Count: 1, Sample: []string{key}}, Family: defense.AgentBrowser,
		Features: defense.Features{Schema: behaviour.SchemaVersion, Values: f},
	}
}

// campaign is a case of many clients with browsers' names, on a site under pressure.
func campaign(key string, members uint64, f values) *defense.Case {
	c := client(key, f)
	c.Kind, c.Posture = defense.CaseCampaign, defense.Guarded
	c.Members = defense.CaseMembers{Count: members, Sample: []string{"198.51.100.1", "198.51.100.2", "2001:db8:1:2::/64", "198.51.100.1", "2001:db8:1:2::7"}}
	return c
}

func newEngine(t testing.TB, change ...func(*Options)) *Engine {
	t.Helper()
	o := Options{Settings: DefaultSettings(), Now: at, Purpose: func(crawler string) (defense.Purpose, bool) {
		p, ok := map[string]defense.Purpose{"googlebot": defense.PurposeSearch, "gptbot": defense.PurposeAITraining, "archive.org_bot": defense.PurposeArchiver}[crawler]
		return p, ok
	}}
	for _, f := range change {
		f(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func judge(t testing.TB, e *Engine, c *defense.Case) *defense.Judgement {
	t.Helper()
	j, err := e.Judge(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// action is what a judgement proposes, Allow for nothing. All proposals of one judgement have the same.
func action(j *defense.Judgement) defense.Action {
	if len(j.Proposals) == 0 {
		return defense.Allow
	}
	return j.Proposals[0].Action
}

// Behaviours that several tests speak of.

// scraper asks for everything, fast and evenly, and does nothing that a browser does.
func scraper() values {
	return values{
		"requests": 212, "navigations": 212, "rate": 21, "burst": 5, "regularity": 0.88, "breadth": 1, "depth": 3, "assets": 0, "referred": 0,
		"unlinked": 0.6, "notFound": 0.02, "errors": 0.03, "agents": 1, "shapes": 1, "queried": 0.8, "patternShare": 0.9, "sequential": 0.2, "score": 5,
		"languageless": 0, "challenged": 0, "traps": 0, "disallowed": 0.7,
	}
}

// reader reads.
func reader() values {
	return values{
		"requests": 90, "navigations": 12, "rate": 1.5, "burst": 2, "regularity": 0.42, "breadth": 0.9, "depth": 2.5, "assets": 4, "revalidated": 0.1, "referred": 0.8,
		"referrerOdd": 0, "unlinked": 0.05, "disallowed": 0.1, "traps": 0, "errors": 0.01, "notFound": 0.01, "agents": 1, "shapes": 1, "queried": 0.2,
		"patternShare": 0.6, "sequential": 0, "score": 0, "languageless": 0, "challenged": 0, "bytes": 20000,
	}
}

// quietCrowd is a distributed campaign: each member asks for five pages.
func quietCrowd() values {
	return values{
		"requests": 5, "navigations": 4, "rate": 2, "burst": 1, "depth": 4.5, "assets": 0, "referred": 0, "unlinked": 0.7, "queried": 0.5, "score": 0, "languageless": 0,
		"challenged": 0, "traps": 0, "disallowed": 0.6, "clients": 600, "fresh": 0.98, "quiet": 0.97, "spread": 0.9, "agentsPerShape": 6, "onset": 12, "readers": 0.03,
	}
}
