package edge

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

func TestPlainlyAllowedRequestsAreLookedAtAndTheRestIsKept(t *testing.T) {
	f := start(t, setup{observe: true, mode: defense.ModeEnforce})
	f.get(t, "/wiki/Hedge")
	if e := f.event(t); !e.Transient || e.Kind != "request" || e.Verdict.Action != defense.Allow || e.Request.Path != "/wiki/Hedge" || e.Request.Headers.Shape == "" {
		t.Errorf("a page: %+v", e)
	}
	f.get(t, "/", "User-Agent: "+gptbot)
	if e := f.event(t); e.Transient || e.Verdict.Action == defense.Allow {
		t.Errorf("a refusal: %+v", e)
	}
	// What came of a check is kept, though nothing stops it.
	f.get(t, challenge.PassPath+"?x")
	if e := f.event(t); e.Transient || e.Kind != "challenge" {
		t.Errorf("a check: %+v", e)
	}
}

func TestTheEdgeJudgesByItsClock(t *testing.T) {
	var clock atomic.Pointer[time.Time]
	noon := time.Date(2031, 3, 1, 12, 0, 0, 0, time.UTC)
	clock.Store(&noon)
	soon := deny("127.0.0.1")
	soon.Created, soon.Expires = noon.Add(-time.Hour), noon.Add(time.Minute)
	var f *front
	f = start(t, setup{
		recordPass: true, decisions: []defense.Decision{soon}, now: func() time.Time { return *clock.Load() },
		origin: func(w http.ResponseWriter, _ *http.Request) {
			later := f.Now().Add(3 * time.Second) // the page takes three seconds of that time
			clock.Store(&later)
			w.WriteHeader(http.StatusOK)
		},
	})
	if res, _ := f.get(t, "/"); res.StatusCode != http.StatusForbidden {
		t.Errorf("while the ban lasts: %d", res.StatusCode)
	}
	if e := f.event(t); !e.Time.Equal(noon) || e.Response.Duration != 0 {
		t.Errorf("at %s, %v s", e.Time, e.Response.Duration)
	}
	after := noon.Add(time.Minute)
	clock.Store(&after)
	if res, _ := f.get(t, "/"); res.StatusCode != http.StatusOK {
		t.Errorf("when it has ended: %d", res.StatusCode)
	}
	if e := f.event(t); !e.Time.Equal(after) || e.Response.Duration != 3 {
		t.Errorf("at %s, %v s", e.Time, e.Response.Duration)
	}
}

// discard is an answer that nobody reads.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// take is a recorder without a queue.
type take struct{ want record.Want }

func (t take) Count(*defense.Verdict, string)     {}
func (t take) Wants(*defense.Verdict) record.Want { return t.want }
func (t take) Record(e *defense.Event)            { record.Bound(e) }

// BenchmarkRequest is the way of an allowed page through the edge without network and upstream: unrecorded, and made
// into an event as every request is when all are looked at.
func BenchmarkRequest(b *testing.B) {
	pol, err := policy.Compile("test.yaml", []byte("imports: [readers-first]"), policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	resolver, err := clientaddr.New(clientaddr.Config{})
	if err != nil {
		b.Fatal(err)
	}
	gauge := posture.New(posture.Config{}, time.Now())
	for _, want := range []record.Want{record.None, record.Transient} {
		b.Run([...]string{"unrecorded", "kept", "looked at"}[want], func(b *testing.B) {
			clock := time.Now()
			e, err := New(Options{
				Name: "test", Clients: resolver, Profiler: profiler(), Gate: newGate(b, defense.Ladder{defense.ChallengeRefresh}), Answers: pages(), Posture: gauge, Recorder: take{want},
				Sites: []Site{{Name: "wiki", Upstream: forward(func(w http.ResponseWriter, _ *http.Request, o *upstream.Options) (upstream.Result, error) {
					o.OnHeader(200, http.Header{})
					return upstream.Result{Status: 200, Started: true}, nil
				})}},
				Engine: engine.New(engine.Options{
					Decisions: decision.NewSet(nil), Policy: func() *policy.Policy { return pol }, Budgets: budget.New(1000), Posture: gauge.Current,
					Mode: func() defense.Mode { return defense.ModeEnforce },
				}),
				NewID: id.New(time.Now, rand.Uint64).Next, BodyIdle: time.Second, Log: slog.New(slog.DiscardHandler),
				Now: func() time.Time { clock = clock.Add(time.Second); return clock }, // or the budget is spent
			})
			if err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequest("GET", "https://wiki.example.org/wiki/Hedge?oldid=7", nil)
			r.RequestURI = "/wiki/Hedge?oldid=7"
			r.RemoteAddr = "203.0.113.7:50000"
			r.Header.Set("User-Agent", firefox)
			r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
			r.Header.Set("Accept-Language", "en-US,en;q=0.5")
			r.Header.Set("Referer", "https://wiki.example.org/")
			w := &discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				e.ServeHTTP(w, r)
			}
		})
	}
}
