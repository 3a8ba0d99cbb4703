package escalation

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func exempt(ranges ...string) func(*Options) {
	return func(o *Options) {
		for _, r := range ranges {
			o.Exempt = append(o.Exempt, netip.MustParsePrefix(r))
		}
	}
}

// explain writes a judgement for people.
func explain(j *defense.Judgement) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %.3f\n", j.Outcome, j.Score)
	for _, s := range j.Stages {
		fmt.Fprintf(&b, "  %s %.3f × %g: %s\n", s.Name, s.Score, s.Weight, s.Sentence)
		if s.Problem != "" {
			fmt.Fprintf(&b, "    problem: %s\n", s.Problem)
		}
		for _, c := range s.Contributions {
			fmt.Fprintf(&b, "    %+.2f %s (%s = %g)\n", c.LogOdds, c.Sentence, c.Name, c.Value)
		}
	}
	for _, p := range j.Proposals {
		fmt.Fprintf(&b, "  → %s %s %s for %d s: %s\n", p.Action, p.Scope, p.Value, p.Seconds, p.Reason)
	}
	return b.String()
}

// update writes the golden file anew: go test ./internal/escalation -run Explanations -update
func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew")
	flag.Parse()
	os.Exit(m.Run())
}

func TestExplanationsAreWhatAnOwnerUnderstands(t *testing.T) {
	cases := []struct {
		name string
		c    *defense.Case
	}{
		{"a reader", client("192.0.2.1", reader())},
		{"a reader's prefetcher", client("192.0.2.1", reader().with(values{"traps": 1}))},
		{"a scraper with a browser's name", client("192.0.2.1", scraper())},
		{"a scraper that goes on through all challenges", client("2001:db8:1:2::/64", scraper().with(values{"challenged": 1503, "solved": 0, "traps": 2, "score": 40, "hours": 1}))},
		{"an office behind one address", client("192.0.2.1", reader().with(values{"navigations": 900, "rate": 30, "agents": 25, "shapes": 12}))},
		{"a crawler that ignores robots.txt", client("192.0.2.1", scraper().with(values{"rate": 90, "burst": 30, "sequential": 0.6}))},
		{"a distributed campaign", campaign("pattern:9f2c41d07b3ea865", 1812, quietCrowd())},
		{"a flash crowd", campaign("pattern:9f2c41d07b3ea865", 3000, values{"assets": 4, "clients": 3000, "fresh": 0.99, "quiet": 0.1, "spread": 0.9, "onset": 40, "readers": 0.9})},
		{"nothing observed", client("192.0.2.1", nil)},
	}
	cases[4].c.Readers = 20
	crawler("gptbot")(cases[5].c)
	e := newEngine(t)
	var b strings.Builder
	for i, tt := range cases {
		tt.c.Revision = uint64(i)
		fmt.Fprintf(&b, "# %s\n%s\n", tt.name, explain(judge(t, e, tt.c)))
	}
	path := filepath.Join("testdata", "explanations.txt")
	if update() {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("the explanations changed (-want +got):\n%s", d)
	}
}
