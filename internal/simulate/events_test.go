package simulate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func events(t testing.TB, name string, o EventsOptions) ([]LabelledEvent, *Result) {
	t.Helper()
	s, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	list, r, err := Events(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return list, r
}

func TestEveryRequestHasItsEventAndLabel(t *testing.T) {
	t.Parallel()
	list, r := events(t, "mixed", EventsOptions{Options: Options{Seed: 1, Scale: 0.01}})
	if len(list) != r.Requests {
		t.Errorf("%d events of %d requests", len(list), r.Requests)
	}
	byLabel := map[Label]int{}
	posture := map[defense.Posture]int{}
	ids := map[string]bool{}
	for i, e := range list {
		byLabel[e.Label]++
		posture[e.Event.Verdict.Posture]++
		if ids[e.Event.ID] || e.Event.Site != siteName || e.Event.Request.Headers.Shape == "" || e.Event.Verdict.Action.Stops() {
			t.Fatalf("event %d: %+v", i, e.Event)
		}
		ids[e.Event.ID] = true
		if i > 0 && e.Event.Time.Before(list[i-1].Event.Time) {
			t.Fatalf("event %d is older than the one before", i)
		}
		if e.Label == Campaign && (e.Event.Verdict.Score > 0 || e.Event.Request.Kind != defense.KindNavigation) {
			t.Fatalf("campaign's event %+v", e.Event)
		}
	}
	for _, g := range r.Groups {
		if byLabel[g.Label] != g.All.Requests+g.All.Checks || byLabel[g.Label] == 0 {
			t.Errorf("%d events of %s, %+v", byLabel[g.Label], g.Label, g.All)
		}
	}
	if posture[defense.Siege] == 0 || posture[defense.Calm] == 0 {
		t.Errorf("the campaign does not strain the site: %v", posture)
	}
	again, _ := events(t, "mixed", EventsOptions{Options: Options{Seed: 1, Scale: 0.01}})
	for i := range list {
		if diff := cmp.Diff(list[i], again[i]); diff != "" {
			t.Fatalf("event %d differs: %s", i, diff)
		}
	}
}

func TestReadersPassTheRealEdgesCheckUnderSiege(t *testing.T) {
	t.Parallel()
	enforce := defense.ModeEnforce
	list, r := events(t, "campaign", EventsOptions{Options: Options{Seed: 2, Scale: 0.03}, Policy: "imports: [siege]", Mode: &enforce})
	outcomes := map[string]int{}
	for _, e := range list {
		if e.Event.Challenge != nil {
			outcomes[string(e.Label)+" "+e.Event.Challenge.Outcome]++
		}
	}
	c := r.Group(Reader).Clients
	if c.Challenged != 60 || c.Passed < 57 || c.Denied != 0 || outcomes["reader passed"] < 57 || outcomes["campaign passed"] != 0 {
		t.Errorf("readers %+v, outcomes %v", c, outcomes)
	}
	if g := r.Group(Campaign); g.AfterMinute.StoppedShare() != 1 {
		t.Errorf("campaign %+v", g)
	}
}

// Without decisions and without a challenge for everybody, the policy alone neither harms anybody nor stops the campaign: that is the slow path's work.
func TestDefaultPolicyHarmsNobody(t *testing.T) {
	t.Parallel()
	enforce := defense.ModeEnforce
	_, r := events(t, "mixed", EventsOptions{Options: Options{Seed: 3, Scale: 0.02}, Mode: &enforce})
	if r.Summary.Harmed != 0 {
		t.Errorf("%s", r.Sentence())
	}
	if g := r.Group(PoliteCrawler); g.All.Denied == 0 {
		t.Errorf("an AI training crawler is let in: %+v", g)
	}
	if g := r.Group(SearchCrawler); g.All.Stopped() > g.All.Requests/4 {
		t.Errorf("the search crawler is stopped: %+v", g)
	}
}
