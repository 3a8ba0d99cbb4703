//go:build services

package services

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/simulate"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

func TestCampaignAgainstAnEdgeBecomesACaseADecisionAndAMail(t *testing.T) {
	t.Parallel()
	mail := testserver.Mailpit(t, testserver.MailpitOptions{})
	site := simulate.NewSite(1)
	upstream := httptest.NewServer(site)
	t.Cleanup(upstream.Close)
	s := newStack(t, embedded, upstream.URL)
	s.intake.set("policy.mode=enforce", "alerts.email.server="+mail.SMTP, "alerts.email.security=none", "alerts.email.from=quickthorn@example.org",
		"alerts.email.to=owner@example.org", "alerts.wait=1s", "alerts.interval=1s")
	edge := s.addEdge("posture.fixed=guarded", "events.sampleAllow=0.01")
	s.start()

	out := s.cli("alert", "test")
	t.Logf("quickthorn alert test: %s", strings.TrimSpace(out))

	// Most of the scenario's ten minutes in one, with a tenth of its clients.
	scenario, err := simulate.Find("campaign")
	if err != nil {
		t.Fatal(err)
	}
	actors, err := scenario.Build(simulate.Options{Seed: 1, Scale: 0.1, Site: site})
	if err != nil {
		t.Fatal(err)
	}
	result, err := simulate.Live(t.Context(), simulate.LiveOptions{Scenario: scenario.Name, Seed: 1, URL: edge.url, Speed: 10, Duration: 45 * time.Second, MaxRequests: 30_000}, actors)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := simulate.WriteTable(&table, simulate.Text, result); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if n := result.Summary.Harmed; n > 0 {
		t.Errorf("%d readers were harmed", n)
	}
	if g := result.Group(simulate.Campaign); g.All.Stopped() == 0 {
		t.Error("no request of the campaign was stopped")
	}
	if g := result.Group(simulate.Reader); g.Clients.Denied+g.Clients.Tarpitted > 0 {
		t.Errorf("%d readers were refused", g.Clients.Denied+g.Clients.Tarpitted)
	}

	var found *defense.Case
	var ids []string
	eventually(t, func() error {
		ids = nil
		var page casebook.Page
		if err := json.Unmarshal([]byte(s.cli("cases", "list", "--kind", "campaign", "--outcome", "decided", "--json")), &page); err != nil {
			return err
		}
		for i := range page.Cases {
			if c := &page.Cases[i]; len(c.DecisionIDs) > 0 {
				found, ids = c, append(ids, c.ID)
			}
		}
		if found == nil {
			return fmt.Errorf("%d cases are of a campaign and decided, none has its decision", len(page.Cases))
		}
		return nil
	})
	if list := s.cli("cases", "list", "--kind", "campaign"); !holds(list, found.ID, "campaign", "decided") {
		t.Errorf("cases list shows:\n%s", list)
	}
	shown := s.cli("cases", "show", found.ID)
	t.Logf("\n%s", shown)
	if !holds(shown, "campaign", "clients", "outcome", "decided", "behaviour:", found.DecisionIDs[0]) || len(found.Stages) == 0 {
		t.Errorf("cases show shows:\n%s", shown)
	}
	for i := range found.Stages {
		if st := &found.Stages[i]; st.Problem == "" && (st.Sentence == "" || st.Score < 0 || st.Score > 1) {
			t.Errorf("a stage has no reason: %+v", st)
		}
	}
	var decided *defense.Decision
	for _, d := range s.decisions() {
		if d.CaseID == found.ID && d.Scope == defense.ScopeFingerprint {
			decided = &d
		}
	}
	switch {
	case decided == nil:
		t.Fatalf("no decision on a fingerprint comes of the case; there are %+v", s.decisions())
	case decided.Action != defense.Challenge && decided.Action != defense.Throttle, decided.Origin != "engine", decided.Reason == "", time.Until(decided.Expires) > time.Hour:
		t.Errorf("the decision: %+v", decided)
	}

	eventually(t, func() error {
		var subjects []string
		for _, m := range mail.Messages(t) {
			if strings.Contains(m.Text, "campaign of") && slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(m.Text, id) }) {
				if len(m.To) != 1 || m.To[0].Address != "owner@example.org" || m.From.Address != "quickthorn@example.org" {
					t.Errorf("the mail goes from %v to %v", m.From, m.To)
				}
				t.Logf("%s\n%s", m.Subject, m.Text)
				return nil
			}
			subjects = append(subjects, m.Subject)
		}
		return fmt.Errorf("no mail tells of a case of %v; there are %q", ids, subjects)
	})
	if n := len(mail.Messages(t)); n > 20 {
		t.Errorf("one campaign led to %d mails, at most 20 in an hour", n)
	}
}

func TestSimulateCommandPlaysAgainstAnEdgeOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	site := simulate.NewSite(1)
	upstream := httptest.NewServer(site)
	t.Cleanup(upstream.Close)
	s := newStack(t, embedded, upstream.URL)
	edge := s.addEdge()
	s.start()
	out := must(t, nil, "simulate", "readers", "--edge", edge.url, "--scale", "1", "--duration", "4s", "--seed", "1", "--json")
	var results []simulate.Result
	if err := json.Unmarshal([]byte(out), &results); err != nil || len(results) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	n := results[0].Group(simulate.Reader).All.Requests
	if n == 0 {
		t.Errorf("nobody has read: %s", out)
	}
	eventually(t, func() error {
		got, err := s.requests()
		if err == nil && got < uint64(n) {
			err = fmt.Errorf("%d requests were played, the edge has counted %d", n, got)
		}
		return err
	})
	if out, err := command(t, nil, "simulate", "readers", "--edge", "http://"+net.JoinHostPort("192.0.2.1", "80"), "--duration", "1s"); err == nil || !holds(err.Error(), "192.0.2.1", "not this computer") {
		t.Errorf("an edge elsewhere is flooded: %v %s", err, out)
	}
}
