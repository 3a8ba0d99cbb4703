package challenge

import (
	"net/http"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

func TestAllocClearance(t *testing.T) {
	race.SkipAllocations(t)
	g, b := newGate(t, refresh), newBrowser(t)
	b.solve(g, b.challenged(g, "/"))
	v := b.visit("/")
	if n := testing.AllocsPerRun(100, func() { g.Clearance(v.Header, &v.Client, v.Family, v.Now) }); n > 0 {
		t.Errorf("reading a clearance: %v allocations", n)
	}
}

func BenchmarkClearance(b *testing.B) {
	g, r := newGate(b, refresh), newBrowser(b)
	r.solve(g, r.challenged(g, "/"))
	v := r.visit("/")
	v.Header = http.Header{"Cookie": {"session=0123456789abcdef; theme=dark; " + clearanceCookie + "=" + r.jar[clearanceCookie]}}
	b.ReportAllocs()
	for b.Loop() {
		if c := g.Clearance(v.Header, &v.Client, v.Family, v.Now); !c.Valid {
			b.Fatal("no clearance")
		}
	}
}

// BenchmarkRedeem is what visits to the pass address cost, from every processor at once: as many of them a second as there may be.
func BenchmarkRedeem(b *testing.B) {
	g := newGate(b, working)
	r := newBrowser(b)
	p := r.challenged(g, "/")
	answer, err := p.Puzzle.Solve(b.Context(), p.Ticket)
	if err != nil {
		b.Fatal(err)
	}
	r.now = r.now.Add(time.Second)
	for name, f := range map[string]Form{
		"a right answer again": {Ticket: p.Ticket, To: p.Return, Answer: answer}, "a wrong answer": {Ticket: p.Ticket, To: p.Return, Answer: answer[4:] + answer[:4]},
		"a forged ticket": {Ticket: p.Ticket[1:] + "A", To: p.Return, Answer: answer},
	} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				v := r.visit(PassPath)
				for pb.Next() {
					g.Redeem(v, &f)
				}
			})
		})
	}
	b.Run("a first redemption", func(b *testing.B) {
		l := defense.Ladder{refresh}
		v := r.visit("/")
		for b.Loop() {
			b.StopTimer()
			page, _ := g.Issue(v, l)
			f := Form{Ticket: page.Ticket, To: page.Return}
			late := *v
			late.Now = v.Now.Add(6 * time.Second)
			b.StartTimer()
			if res := g.Redeem(&late, &f); res.Outcome != Passed {
				b.Fatalf("%+v", res)
			}
		}
	})
	b.Run("issue", func(b *testing.B) {
		v := r.visit("/wiki/A?x=1")
		for b.Loop() {
			g.Issue(v, defense.Ladder{})
		}
	})
}
