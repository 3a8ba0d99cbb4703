package advise_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/advise"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/record"
)

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"
	chrome  = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)

var end = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// archive is a source of a test.
type archive struct {
	events []defense.Event // in the order of time
	cases  []defense.Case
}

func (a *archive) Events(_ context.Context, f record.Filter) (record.Page, error) {
	at := 0
	if f.Before != "" {
		fmt.Sscan(f.Before, &at)
	}
	all := slices.Clone(a.events)
	slices.Reverse(all)
	to := min(at+f.Limit, len(all))
	p := record.Page{Events: all[at:to]}
	if to < len(all) {
		p.Next = fmt.Sprint(to)
	}
	return p, nil
}

func (a *archive) Cases(context.Context, casebook.Filter) (casebook.Page, error) {
	return casebook.Page{Cases: a.cases}, nil
}

// visit adds requests of a client, one every few seconds.
func (a *archive) visit(address, agent string, family defense.AgentFamily, n int, target func(i int) (path, query string, kind defense.Kind)) {
	for i := range n {
		path, query, kind := target(i)
		a.events = append(a.events, defense.Event{
			Kind: "request", Time: end.Add(-time.Hour + time.Duration(i)*5*time.Second), Site: "default", Client: defense.EventClient{Address: address},
			Request:  defense.EventRequest{Method: "GET", Host: "example.org", Path: path, Query: query, Kind: kind, Protocol: "HTTP/1.1", Agent: agent, Family: family},
			Response: defense.EventResponse{Status: 200, Bytes: 1000},
		})
	}
}

func (a *archive) condemn(addresses ...string) {
	a.cases = append(a.cases, defense.Case{Kind: defense.CaseCampaign, Outcome: defense.OutcomeDecided, Members: defense.CaseMembers{Sample: addresses}})
}

func page(prefix string) func(int) (string, string, defense.Kind) {
	return func(i int) (string, string, defense.Kind) {
		return fmt.Sprintf("%s/page-%d", prefix, i), "", defense.KindNavigation
	}
}

// reads is what a person does: a page, and what it is made of.
func reads(prefix string) func(int) (string, string, defense.Kind) {
	return func(i int) (string, string, defense.Kind) {
		if i%3 == 0 {
			return fmt.Sprintf("%s/page-%d", prefix, i), "", defense.KindNavigation
		}
		return fmt.Sprintf("/static/%d.css", i), "", defense.KindAsset
	}
}

func find(t *testing.T, a *archive, source string) *advise.Report {
	t.Helper()
	k, err := knowledge.Read()
	if err != nil {
		t.Fatal(err)
	}
	r, err := advise.Find(t.Context(), advise.Options{Source: a, Period: 24 * time.Hour, Now: end, Policy: source, Policies: k.Policy, Profiler: k.Profiler})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatUnwantedClientsHaveInCommonIsProposed(t *testing.T) {
	t.Parallel()
	a := &archive{}
	var campaign []string
	for i := range 12 {
		address := fmt.Sprintf("203.0.113.%d", i+1)
		campaign = append(campaign, address)
		a.visit(address, "HedgeHarvester/2.1", defense.AgentUnknown, 20, page("/wiki"))
	}
	for i := range 8 { // these wear a browser's name, and ask for versions of texts
		address := fmt.Sprintf("198.51.100.%d", i+1)
		campaign = append(campaign, address)
		a.visit(address, chrome, defense.AgentBrowser, 15, func(i int) (string, string, defense.Kind) {
			return "/index.php", fmt.Sprintf("title=Hedge&oldid=%d", i), defense.KindNavigation
		})
	}
	a.condemn(campaign...)
	for i := range 300 { // readers of the same pages with the same browser
		a.visit(fmt.Sprintf("192.0.2.%d", i%250), chrome, defense.AgentBrowser, 9, reads("/wiki"))
	}
	r := find(t, a, "readers-first")
	if r.Unwanted != 20 || r.Readers != 250 || r.Events != 12*20+8*15+300*9 {
		t.Errorf("%+v", r)
	}
	if len(r.Proposals) != 2 {
		t.Fatalf("%d proposals: %+v", len(r.Proposals), r.Proposals)
	}
	for i, want := range []struct{ when, action string }{
		{`when: 'agent.text == "HedgeHarvester/2.1" && !clearance.valid'`, "action: throttle"},
		{`when: 'request.query.contains("oldid=") && agent.family == "browser" && !clearance.valid'`, "action: challenge"},
	} {
		p := r.Proposals[i]
		if !strings.Contains(p.Rule, want.when) || !strings.Contains(p.Rule, want.action) || !strings.Contains(p.Rule, "mode: shadow") {
			t.Errorf("%d: %s", i, p.Rule)
		}
		e := p.Evidence
		if e.ReaderClients != 0 || e.ReadersStopped > 8*15 || e.Changed == 0 || e.Replayed == 0 || e.Missed == 0 {
			t.Errorf("%d: %+v", i, e)
		}
	}
}

func TestNothingIsProposedThatWouldMeetReaders(t *testing.T) {
	t.Parallel()
	a := &archive{}
	for i := range 10 { // just like readers, but that they were condemned
		address := fmt.Sprintf("203.0.113.%d", i+1)
		a.visit(address, firefox, defense.AgentBrowser, 20, page("/wiki"))
		a.condemn(address)
	}
	for i := range 100 {
		a.visit(fmt.Sprintf("192.0.2.%d", i), firefox, defense.AgentBrowser, 9, reads("/wiki"))
	}
	if r := find(t, a, "readers-first"); len(r.Proposals) != 0 {
		t.Errorf("%+v", r.Proposals)
	}
}

func TestWhatAPersonSaidCounts(t *testing.T) {
	t.Parallel()
	a := &archive{}
	for i := range 6 {
		address := fmt.Sprintf("203.0.113.%d", i+1)
		a.visit(address, "OwnTool/1", defense.AgentUnknown, 20, page("/data"))
		a.condemn(address)
	}
	a.cases = append(a.cases, defense.Case{Kind: defense.CaseClient, Key: "203.0.113.1", Label: defense.LabelHuman})
	if r := find(t, a, "readers-first"); len(r.Proposals) != 0 {
		t.Errorf("a tool of which one user was said to be welcome: %+v", r.Proposals)
	}
}

func TestTextsOfClientsMakeNoRule(t *testing.T) {
	t.Parallel()
	a := &archive{}
	evil := `x" || true || agent.text == "y`
	yaml := "'\n  - name: open\n    when: 'true'\n    action: allow\n"
	var all []string
	for i := range 6 {
		address := fmt.Sprintf("203.0.113.%d", i+1)
		all = append(all, address)
		a.visit(address, evil, defense.AgentUnknown, 30, func(i int) (string, string, defense.Kind) {
			return "/it's/" + yaml, "it's=1&" + yaml + "=2", defense.KindNavigation
		})
	}
	a.condemn(all...)
	a.visit("192.0.2.1", firefox, defense.AgentBrowser, 30, reads("/wiki"))
	k, err := knowledge.Read()
	if err != nil {
		t.Fatal(err)
	}
	r := find(t, a, "readers-first")
	if len(r.Proposals) == 0 {
		t.Fatal("nothing is proposed")
	}
	for _, p := range r.Proposals {
		compiled, err := policy.Compile("x.yaml", []byte("name: x\n"+p.Rule), k.Policy)
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Rule)
		}
		if rules := compiled.Rules(); len(rules) != 1 || p.Evidence.ReaderRequests != 0 {
			t.Errorf("%d rules of\n%s", len(rules), p.Rule)
		}
	}
}

func TestAPolicyOfOnesOwnIsTheOneThatCounts(t *testing.T) {
	t.Parallel()
	a := &archive{}
	var all []string
	for i := range 6 {
		address := fmt.Sprintf("203.0.113.%d", i+1)
		all = append(all, address)
		a.visit(address, "HedgeHarvester/2.1", defense.AgentUnknown, 30, page("/wiki"))
	}
	a.condemn(all...)
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("name: mine\nimports: [readers-first]\nrules:\n  - name: known\n    when: agent.text.startsWith(\"HedgeHarvester\")\n    action: deny\n    reason: known\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := find(t, a, file)
	for _, p := range r.Proposals { // it would change what is stopped already
		if p.Evidence.ReadersStopped > 0 {
			t.Errorf("%+v", p)
		}
	}
	if _, err := advise.Find(t.Context(), advise.Options{Source: a, Period: time.Hour, Now: end, Policy: "no-such-preset"}); err == nil {
		t.Error("a policy that is not there")
	}
}
