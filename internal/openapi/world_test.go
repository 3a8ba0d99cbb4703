package openapi_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/backup"
	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/decoy"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/drip"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/intake"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/openapi"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/prose"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/redemption"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
	"github.com/quickthorn/quickthorn/internal/tarpit"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Keys of the callers.
const (
	operatorKey = "operator-0123456789"
	proxyKey    = "proxy-0123456789"
	intakeKey   = "ai-service-0123456789"
	shopKey     = "source-shop-0123456789"
	otherKey    = "source-other-0123456789"
)

// trustedProxy is an address that no decision may stop.
const trustedProxy = "198.51.100.250"

// maxDecisions is how many decisions there is room for.
const maxDecisions = 50

// goneCase is a case that the escalation engine does not answer about.
const goneCase = "01M8997DSPW8Y1V4S6R2T0GZNE"

// world is real parts of the services behind their documents, with something in every store.
type world struct {
	handlers map[string]http.Handler // by document

	state    *embedded.State
	archive  *sqlite.Archive
	caseID   string
	decision defense.Decision
	ready    atomic.Bool
	usurped  atomic.Bool // another process writes to the decision log
	stuck    atomic.Bool // the mode cannot be kept
	ended    atomic.Bool // requests to the escalation engine end before they are answered
}

// Commit is the state's, unless somebody else has taken over.
func (w *world) Commit(ctx context.Context, b *decision.Batch) error {
	if w.usurped.Load() {
		return fmt.Errorf("commit: %w", decision.ErrConflict)
	}
	return w.state.Commit(ctx, b)
}

// State and Changes are the state's.
func (w *world) State(ctx context.Context) (decision.State, error) { return w.state.State(ctx) }

func (w *world) Changes(ctx context.Context, after uint64, fn func(decision.Change) bool) error {
	return w.state.Changes(ctx, after, fn)
}

// Mode and SetMode are a switch that is always calm.
func (w *world) Mode() defense.Mode { return defense.ModeCertain }

func (w *world) SetMode(defense.Mode) error {
	if w.stuck.Load() {
		return errors.New("the disk is full")
	}
	return nil
}

// judge asks an engine, which is away for one case.
type judge struct{ *escalation.Engine }

func (j judge) Judge(ctx context.Context, c *defense.Case) (*defense.Judgement, error) {
	if c.ID == goneCase {
		return nil, errors.New("nobody is there")
	}
	return j.Engine.Judge(ctx, c)
}

// now is when everything happens: an hour after the events of the contract and the examples.
func now() time.Time { return time.Date(2026, 11, 25, 13, 0, 0, 0, time.UTC) }

func newID() string { return ulid.Make().String() }

// events are those of the contract.
func events(t *testing.T) []*defense.Event {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "defense", "testdata", "event.v1.json"))
	var list []*defense.Event
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		e.Transient = false
	}
	return list
}

func aCase(id string) defense.Case {
	now := now()
	return defense.Case{
		ID: id, Revision: 3, Kind: defense.CaseClient, Key: "192.0.2.66", Site: "wiki", FirstSeen: now.Add(-time.Hour), LastSeen: now, EventCount: 240,
		Members: defense.CaseMembers{Count: 1, Sample: []string{"192.0.2.66"}}, Family: defense.AgentBrowser, Agents: []string{"curl/8.14.1"}, Paths: []string{"/a?b=c"},
		Features: defense.Features{Schema: behaviour.SchemaVersion, Values: map[string]float64{"requests": 240, "navigations": 240, "rate": 40}},
		Stages: []defense.Stage{{
			Name: "behaviour", Score: 0.9, Weight: 1, Sentence: "asks fast", At: now,
			Contributions: []defense.Contribution{{Name: "rate", Value: 40, LogOdds: 1.2, Sentence: "forty pages a minute"}},
		}},
		Score: 0.9, Outcome: defense.OutcomeWatch, JudgedAt: now, Label: defense.LabelBot, DecisionIDs: []string{newID()}, Strikes: 1,
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, dir, log := t.Context(), t.TempDir(), slog.New(slog.DiscardHandler)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &world{caseID: newID()}
	var err error
	w.state, err = embedded.OpenState(ctx, dir, embedded.StateOptions{Now: now, Log: log})
	must(err)
	t.Cleanup(func() { w.state.Close() }) // a second time in some tests
	w.archive, err = sqlite.Open(ctx, filepath.Join(dir, sqlite.FileName), sqlite.Options{Now: now, Log: log})
	must(err)
	t.Cleanup(func() { w.archive.Close() })

	_, err = w.archive.Append(ctx, events(t))
	must(err)
	must(w.archive.PutCases(ctx, []defense.Case{aCase(w.caseID), aCase(goneCase)}))
	for range 3 {
		w.bury(t)
	}

	decisions := decision.NewLog(decision.NewSet([]netip.Prefix{netip.MustParsePrefix(trustedProxy + "/32")}), w, decision.LogOptions{Now: now, MaxEntries: maxDecisions})
	_, err = decisions.Load(ctx)
	must(err)
	made, err := decisions.Add(ctx, []defense.Decision{
		{Scope: defense.ScopeRange, Value: "203.0.113.0/24", Action: defense.Allow, Origin: "operator", Reason: "the office"},
		{Scope: defense.ScopeAddress, Value: "192.0.2.66", Action: defense.Deny, Origin: "operator", Reason: "asks fast", CaseID: w.caseID, Site: "wiki", Expires: now().Add(time.Hour)},
	}, decision.AddOptions{})
	must(err)
	w.decision = made[1]

	judges, err := escalation.New(escalation.Options{Settings: escalation.DefaultSettings(), Now: now})
	must(err)
	service, err := intake.New(intake.Options{
		Queue: w.state.Queue(), Cases: w.archive, Book: casebook.New(casebook.Options{NewID: newID, Now: now}), Judge: judge{judges},
		Decisions: decisions, Alerts: silent{}, Now: now, NewID: newID, Log: log,
	})
	must(err)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- service.Run(running) }()
	t.Cleanup(func() { stop(); <-done })

	catalogue, err := crawler.Default()
	must(err)
	profiler := profile.New(agent.New(catalogue))
	pol, err := policy.Load("readers-first", policy.Options{})
	must(err)
	current := func() *policy.Policy { return pol }
	combined, err := accesslog.Named("combined")
	must(err)
	alerts, err := alert.New(alert.Options{Channels: []alert.Channel{broken{}}, Now: now, Random: randv2.Uint64, Log: log})
	must(err)
	callers, err := auth.New(
		auth.Key{Caller: auth.Operator, Key: operatorKey}, auth.Key{Caller: auth.Proxy, Key: proxyKey}, auth.Key{Caller: auth.AIService, Key: intakeKey},
		auth.Key{Caller: auth.SourcePrefix + "shop", Key: shopKey}, auth.Key{Caller: auth.SourcePrefix + "other", Key: otherKey},
	)
	must(err)
	api := decision.NewAPI(decisions, now)
	api.Mode = w.Mode
	w.handlers = map[string]http.Handler{
		"ai-service": w.private(openapi.AIService(), callers.Handler(
			auth.Group{API: &private.ModeAPI{Switch: w}, Read: []string{auth.Proxy}},
			auth.Group{API: api, Read: []string{auth.Proxy}},
			auth.Group{API: &run.AlertsAPI{Dispatcher: alerts}},
			auth.Group{API: &tarpit.API{Tarpit: newTarpit(t), Keep: func(context.Context, bool) error { return w.SetMode(defense.ModeOff) }}},
			auth.Group{API: &artifact.API{Store: w.archive, Now: now, Log: log, Kinds: run.ArtifactKinds()}, Callers: []string{auth.Proxy}},
			auth.Group{API: &redemption.API{Store: w.state}, Callers: []string{auth.Proxy}},
			auth.Group{API: &record.API{Archive: w.archive, Now: now, Log: log}},
			auth.Group{API: &intake.EventsAPI{Service: service}, Callers: []string{auth.Proxy}},
			auth.Group{API: &intake.QueueAPI{Service: service}},
			auth.Group{API: &intake.CasesAPI{Service: service}},
			auth.Group{API: &intake.WebhookAPI{Service: service, Profiler: profiler, Policy: current, Sources: []intake.Source{
				{Name: "shop", Site: "shop", Client: "client", Format: combined}, {Name: "wrong", Client: "no header"},
			}}, Callers: []string{auth.AnySource}},
			auth.Group{API: &explain.API{Profiler: profiler, Now: now, Engine: engine.New(engine.Options{
				Decisions: decisions.Set(), Policy: current, Posture: func() defense.Posture { return defense.Calm }, Mode: w.Mode,
			})}},
			auth.Group{API: &backup.API{Stores: &backup.Stores{Dir: dir, State: w.state.DB(), Archive: w.archive}, Log: log}},
		)),
		"escalation-engine": w.private(openapi.EscalationEngine(), w.ending(callers.Handler(
			auth.Group{API: &escalation.API{Engine: judges}, Callers: []string{auth.AIService}},
		))),
	}
	return w
}

// newTarpit makes a tarpit with somebody in it.
func newTarpit(t *testing.T) *tarpit.Tarpit {
	t.Helper()
	seed := []byte("a secret of a test")
	m, err := maze.New(maze.Options{Seed: seed, Prefix: "/p/", Text: prose.Facts{}, Skin: maze.SkinDocs, WayOut: "/"})
	if err != nil {
		t.Fatal(err)
	}
	archives, err := decoy.New(seed, prose.Facts{}, decoy.Options{MaxBytes: 1 << 20, MaxRatio: 10, Epoch: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := drip.New(drip.Options{Connections: 10, MinRate: 16, MaxRate: 64})
	if err != nil {
		t.Fatal(err)
	}
	pit, err := tarpit.New(tarpit.Options{
		Maze: m, Archives: archives, Streams: streams, Epoch: time.Hour, Now: time.Now,
		Limits: tarpit.Limits{Connections: 10, CPU: 1, StreamMax: time.Minute, Clients: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	guest := &entry.Guest{Client: netip.MustParsePrefix("192.0.2.7/32"), Site: "wiki"}
	pit.Enter(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/a", nil), guest, func(entry.Stay) {})
	return pit
}

// private serves an API beside health and metrics.
func (w *world) private(document openapi.Document, api http.Handler) http.Handler {
	return private.Handler(private.Options{
		API: api, OpenAPI: document, Metrics: telemetry.NewMetrics("1", "abc").Handler(slog.New(slog.DiscardHandler)),
		Ready: func() error {
			if !w.ready.Load() {
				return errors.New("archive: cannot be reached")
			}
			return nil
		},
	})
}

// ending has requests end, as at the shutdown of a service.
func (w *world) ending(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if w.ended.Load() {
			cancel()
		}
		next.ServeHTTP(rw, r.WithContext(ctx))
	})
}

// bury makes a dead letter.
func (w *world) bury(t *testing.T) {
	t.Helper()
	q := w.state.Queue()
	err := q.Append(t.Context(), queue.Batch{Source: "edge-1", At: now(), Events: 2, Body: []byte("e" + rand.Text())})
	var batches []queue.Batch
	if err == nil {
		batches, err = q.Next(t.Context(), 1)
	}
	if err == nil {
		err = q.Bury(t.Context(), batches[0].ID, "unpack events: invalid magic")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// close takes the stores away.
func (w *world) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(w.state.Close(), w.archive.Close()); err != nil {
		t.Fatal(err)
	}
}

// silent tells nobody.
type silent struct{}

func (silent) Raise(alert.Alert) {}

// broken is a channel by which nothing can be sent.
type broken struct{}

func (broken) Name() string                               { return "slack" }
func (broken) Send(context.Context, *alert.Message) error { return errors.New("refused") }
