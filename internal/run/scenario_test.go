package run

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

var update = flag.Bool("update", false, "write the tables of docs/detection.md")

const detectionDoc = "../../docs/detection.md"

// rehearse plays a scenario at its full size.
func rehearse(t *testing.T, name string, seed uint64) *Rehearsed {
	t.Helper()
	s, err := simulate.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := (&Rehearsal{Config: config.Default(), Mode: defense.ModeEnforce, Scenario: s, Seed: seed, Scale: 1}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is promised: nine of ten requests of a campaign meet a check after its first minute, nobody who reads is
// refused, and a crowd that comes because of a link is let in.
func TestScenariosKeepTheirPromises(t *testing.T) {
	if testing.Short() || race.Enabled {
		t.Skip("plays every scenario at its full size, in one goroutine: ./test.sh runs it without the race detector")
	}
	var tables bytes.Buffer
	for _, s := range simulate.Scenarios() {
		seeds := []uint64{1}
		if s.Name == "campaign" || s.Name == "flash-crowd" {
			seeds = []uint64{1, 2, 3} // one seed may be luck
		}
		for _, seed := range seeds {
			r := rehearse(t, s.Name, seed)
			if seed == 1 {
				fmt.Fprintf(&tables, "### %s\n\n%s\n\n", s.Name, s.Doc)
				if err := simulate.WriteTable(&tables, simulate.Markdown, r.Result); err != nil {
					t.Fatal(err)
				}
				tables.WriteByte('\n')
			}
			sum := r.Result.Summary
			if sum.Harmed > 0 {
				t.Errorf("%s, seed %d: %d welcome clients were harmed", s.Name, seed, sum.Harmed)
			}
			for _, l := range []simulate.Label{simulate.Reader, simulate.Newcomer, simulate.FeedReader, simulate.GitClient, simulate.SearchCrawler, simulate.LinkPreview} {
				if g := r.Result.Group(l); g.Clients.Denied+g.Clients.Tarpitted > 0 {
					t.Errorf("%s, seed %d: %d of the clients that are %ss were refused", s.Name, seed, g.Clients.Denied+g.Clients.Tarpitted, l)
				}
			}
			switch s.Name {
			case "campaign", "campaign-rotating", "mixed":
				if g := r.Result.Group(simulate.Campaign); g.AfterMinute.StoppedShare() < 0.9 {
					t.Errorf("%s, seed %d: %.1f %% of the campaign's requests were stopped after the first minute, want 90", s.Name, seed, 100*g.AfterMinute.StoppedShare())
				}
			case "flash-crowd", "readers", "feeds", "git", "search-crawler", "polite-ai":
				if sum.Challenged > 0 {
					t.Errorf("%s, seed %d: %d welcome clients were asked to pass a check", s.Name, seed, sum.Challenged)
				}
			}
		}
	}
	t.Logf("\n%s", tables.String())
	doc, err := os.ReadFile(detectionDoc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- tables: go test ./internal/run -run Scenarios -update -->\n", "<!-- end of tables -->"
	before, rest, ok := strings.Cut(string(doc), begin)
	shown, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", detectionDoc)
	}
	if *update {
		if err := os.WriteFile(detectionDoc, []byte(before+begin+tables.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != tables.String() {
		t.Errorf("the tables in %s are not what the scenarios show now; if that is as meant: go test ./internal/run -run Scenarios -update", detectionDoc)
	}
}

func TestRehearsalIsTheSameEachTime(t *testing.T) {
	s, err := simulate.Find("campaign-copied")
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for range 2 {
		r, err := (&Rehearsal{Config: config.Default(), Mode: defense.ModeEnforce, Scenario: s, Seed: 7, Scale: 0.2}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = r.Result.Transcript
		} else if r.Result.Transcript != first {
			t.Error("the same seed gave another play")
		}
	}
}
