package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		serveUntilKilled(dir)
	}
	os.Exit(m.Run())
}

var silent = slog.New(slog.DiscardHandler)

// noon is when the events of storetest begin.
var noon = storetest.Noon()

// evening is a time at which they have all happened.
func evening() time.Time { return noon.Add(6 * time.Hour) }

func newIDs() func() string { return id.New(time.Now, rand.Uint64).Next }

// judge answers with what it was told to.
type judge struct {
	mu     sync.Mutex
	asked  []defense.Case
	answer func(c *defense.Case) (*defense.Judgement, error)
}

func (j *judge) Judge(_ context.Context, c *defense.Case) (*defense.Judgement, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = append(j.asked, *c)
	if j.answer == nil {
		return &defense.Judgement{CaseID: c.ID, Revision: c.Revision, Outcome: defense.OutcomeWatch, Score: 0.5}, nil
	}
	return j.answer(c)
}

func (j *judge) times() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.asked)
}

// alerts keeps what was raised.
type alerts struct {
	mu   sync.Mutex
	list []alert.Alert
}

func (a *alerts) Raise(x alert.Alert) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, x)
}

func (a *alerts) all() []alert.Alert {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

// memoryQueue is a queue.Queue in memory with faults.
type memoryQueue struct {
	mu       sync.Mutex
	next     int
	waiting  []queue.Batch
	out      map[string]bool
	dead     []queue.DeadLetter
	changed  chan struct{}
	full     bool  // refuses with ErrFull
	lost     bool  // keeps, but says that it has not
	broken   error // of every operation
	appended int
	acked    int
}

func newMemoryQueue() *memoryQueue {
	return &memoryQueue{out: map[string]bool{}, changed: make(chan struct{})}
}

func (q *memoryQueue) notify() { close(q.changed); q.changed = make(chan struct{}) }

func (q *memoryQueue) set(change func(q *memoryQueue)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(q)
	q.notify()
}

func (q *memoryQueue) Append(_ context.Context, b queue.Batch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch err := b.Check(); {
	case err != nil:
		return err
	case q.full:
		return fmt.Errorf("%w: 1 batch", queue.ErrFull)
	case q.broken != nil:
		return q.broken
	}
	q.next++
	q.appended++
	b.ID, b.Body = fmt.Sprint(q.next), bytes.Clone(b.Body)
	q.waiting = append(q.waiting, b)
	q.notify()
	if q.lost {
		return errors.New("no answer")
	}
	return nil
}

func (q *memoryQueue) Next(ctx context.Context, limit int) ([]queue.Batch, error) {
	for {
		q.mu.Lock()
		if err := q.broken; err != nil {
			q.mu.Unlock()
			return nil, err
		}
		var list []queue.Batch
		for i := range q.waiting {
			if b := &q.waiting[i]; !q.out[b.ID] && len(list) < limit {
				q.out[b.ID] = true
				list = append(list, *b)
			}
		}
		changed := q.changed
		q.mu.Unlock()
		if len(list) > 0 {
			return list, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *memoryQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *memoryQueue) handedOut() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.out)
}

func (q *memoryQueue) firstDead() queue.DeadLetter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dead[0]
}

func (q *memoryQueue) remove(id string) (queue.Batch, bool) {
	for i, b := range q.waiting {
		if b.ID == id {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			delete(q.out, id)
			return b, true
		}
	}
	return queue.Batch{}, false
}

func (q *memoryQueue) Ack(_ context.Context, ids ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken != nil {
		return q.broken
	}
	for _, id := range ids {
		if _, ok := q.remove(id); ok {
			q.acked++
		}
	}
	return nil
}

func (q *memoryQueue) Release(_ context.Context, ids ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		delete(q.out, id)
	}
	q.notify()
	return nil
}

func (q *memoryQueue) Bury(_ context.Context, id, reason string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, ok := q.remove(id)
	if !ok {
		return queue.ErrUnknown
	}
	b.ID = "d" + b.ID
	q.dead = append(q.dead, queue.DeadLetter{Batch: b, Reason: reason})
	return nil
}

func (q *memoryQueue) Dead(context.Context, string, int) ([]queue.DeadLetter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.dead), nil
}

func (q *memoryQueue) Replay(_ context.Context, _ ...string) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.dead)
	for _, d := range q.dead {
		q.waiting = append(q.waiting, d.Batch)
	}
	q.dead = nil
	q.notify()
	return n, nil
}

func (q *memoryQueue) Discard(context.Context, ...string) (int, error) { return 0, nil }

func (q *memoryQueue) Depth(context.Context) (queue.Depth, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return queue.Depth{Batches: len(q.waiting), Dead: len(q.dead)}, nil
}

// memoryArchive is an Archive in memory with faults. Like a real one it changes the events that it is given.
type memoryArchive struct {
	mu       sync.Mutex
	events   map[string]int
	counters map[string]uint64
	away     error
	poison   string // id of an event that it never takes
	calls    int
}

func newMemoryArchive() *memoryArchive {
	return &memoryArchive{events: map[string]int{}, counters: map[string]uint64{}}
}

func (a *memoryArchive) set(change func(a *memoryArchive)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *memoryArchive) Append(_ context.Context, events []*defense.Event) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.away != nil {
		return 0, a.away
	}
	for _, e := range events {
		record.Bound(e)
		if e.ID == a.poison {
			return 0, errors.New("a value that no column holds")
		}
		if e.Transient {
			return 0, errors.New("a transient event")
		}
	}
	duplicates := 0
	for _, e := range events {
		if a.events[e.ID]++; a.events[e.ID] > 1 {
			duplicates++
			a.events[e.ID] = 1
		}
	}
	return duplicates, nil
}

func (a *memoryArchive) AddCountersOnce(_ context.Context, id string, counters []record.Counter) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away != nil {
		return a.away
	}
	if _, known := a.counters[id]; !known {
		for _, c := range counters {
			a.counters[id] += c.Count
		}
	}
	return nil
}

func (a *memoryArchive) attempts() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

func (a *memoryArchive) counted(id string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counters[id]
}

func (a *memoryArchive) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.events)
}

// decisionStore keeps decisions nowhere.
type decisionStore struct {
	mu      sync.Mutex
	state   decision.State
	commits int
	fail    error
}

func (m *decisionStore) Commit(_ context.Context, b *decision.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.commits++
	m.state = b.State
	return nil
}

func (m *decisionStore) State(context.Context) (decision.State, error) { return m.state, nil }

func (m *decisionStore) Changes(context.Context, uint64, func(decision.Change) bool) error {
	return nil
}

func newLog(t testing.TB, store decision.Store, o decision.LogOptions) *decision.Log {
	t.Helper()
	l := decision.NewLog(decision.NewSet(prefixes("10.0.0.0/8")), store, o)
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// parts are a service on fakes.
type parts struct {
	o       Options
	s       *Service
	queue   *memoryQueue
	archive *memoryArchive
	judge   *judge
	alerts  *alerts
	log     *decision.Log
	kept    *decisionStore
}

func newParts(t testing.TB, now func() time.Time, change ...func(o *Options)) *parts {
	t.Helper()
	p := &parts{queue: newMemoryQueue(), archive: newMemoryArchive(), judge: &judge{}, alerts: &alerts{}, kept: &decisionStore{}}
	p.log = newLog(t, p.kept, decision.LogOptions{Now: now})
	p.o = Options{
		Queue: p.queue, Archive: p.archive, Judge: p.judge, Decisions: p.log, Alerts: p.alerts, Now: now, NewID: newIDs(), Log: silent,
		Book: casebook.New(casebook.Options{NewID: newIDs(), Now: now}),
	}
	for _, f := range change {
		f(&p.o)
	}
	var err error
	if p.s, err = New(p.o); err != nil {
		t.Fatal(err)
	}
	return p
}

// observed returns how many events the casebook has seen. Run must be running.
func (p *parts) observed(t testing.TB) uint64 {
	t.Helper()
	var n uint64
	if err := p.s.With(t.Context(), func(b *casebook.Book) { n = b.Stats().Events }); err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs the service until the returned function is called, which waits for its end.
func run(t testing.TB, s *Service) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func varied(from, to int) []*defense.Event {
	var list []*defense.Event
	for n := from; n < to; n++ {
		list = append(list, storetest.Varied(n))
	}
	return list
}

func ndjson(events ...*defense.Event) []byte {
	var b bytes.Buffer
	for _, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		b.Write(append(text, '\n'))
	}
	return b.Bytes()
}

func zstded(b []byte) []byte {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return enc.EncodeAll(b, nil)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// keys of the callers in tests.
const (
	operatorKey = "operator-key-0123456789"
	proxyKey    = "proxy-key-0123456789"
	nginxKey    = "source-nginx-key-0123456789"
	shopKey     = "source-shop-key-0123456789"
)

// rig is a service on the real embedded state and SQLite archive, behind HTTP as it is served.
type rig struct {
	s       *Service
	o       Options
	state   *embedded.State
	archive *sqlite.Archive
	log     *decision.Log
	handler http.Handler
}

// newRig opens the stores in dir.
func newRig(t testing.TB, dir string, change ...func(o *Options)) *rig {
	t.Helper()
	r, err := openRig(context.WithoutCancel(t.Context()), dir, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.state.Close(), r.archive.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func openRig(ctx context.Context, dir string, change ...func(o *Options)) (*rig, error) {
	r := &rig{}
	var err error
	if r.state, err = embedded.OpenState(ctx, dir, embedded.StateOptions{}); err != nil {
		return nil, err
	}
	if r.archive, err = sqlite.Open(ctx, filepath.Join(dir, sqlite.FileName), sqlite.Options{Now: time.Now, Log: silent}); err != nil {
		return nil, err
	}
	r.log = decision.NewLog(decision.NewSet(prefixes("10.0.0.0/8")), r.state, decision.LogOptions{})
	if _, err := r.log.Load(ctx); err != nil {
		return nil, err
	}
	ids := newIDs()
	r.o = Options{
		Queue: r.state.Queue(), Archive: r.archive, Cases: r.archive, History: r.archive, Judge: &judge{}, Decisions: r.log, Now: time.Now, NewID: ids, Log: silent,
		Book: casebook.New(casebook.Options{NewID: ids, Now: time.Now}),
	}
	for _, f := range change {
		f(&r.o)
	}
	if r.s, err = New(r.o); err != nil {
		return nil, err
	}
	r.handler, err = handlerOf(r.s)
	return r, err
}

// judging makes what judges reports, once for all tests: it is never changed, and takes long under the race detector.
var judging = onceValues(func() (*profile.Profiler, *policy.Policy, error) {
	catalogue, err := crawler.Default()
	if err != nil {
		return nil, nil, err
	}
	pol, err := policy.Load("readers-first", policy.Options{})
	return profile.New(agent.New(catalogue)), pol, err
})

func onceValues[A, B any](make func() (A, B, error)) func() (A, B, error) {
	type pair struct {
		a A
		b B
	}
	once := sync.OnceValues(func() (pair, error) {
		a, b, err := make()
		return pair{a, b}, err
	})
	return func() (A, B, error) {
		p, err := once()
		return p.a, p.b, err
	}
}

// handlerOf serves a service as it is served.
func handlerOf(s *Service) (http.Handler, error) {
	callers, err := auth.New(
		auth.Key{Caller: auth.Operator, Key: operatorKey}, auth.Key{Caller: auth.Proxy, Key: proxyKey},
		auth.Key{Caller: auth.SourcePrefix + "nginx", Key: nginxKey}, auth.Key{Caller: auth.SourcePrefix + "shop", Key: shopKey})
	if err != nil {
		return nil, err
	}
	combined, err := accesslog.Named("combined")
	if err != nil {
		return nil, err
	}
	profiler, pol, err := judging()
	if err != nil {
		return nil, err
	}
	hook := &WebhookAPI{Service: s, Profiler: profiler, Policy: func() *policy.Policy { return pol }, Sources: []Source{
		{Name: "nginx", Site: "wiki", Client: "client", Format: combined},
		{Name: "shop", Site: "shop", Client: "X-Forwarded-For", Trusted: prefixes("192.0.2.0/24")},
		{Name: "unknown", Site: "shop"},
	}}
	return callers.Handler(
		auth.Group{API: &EventsAPI{s}, Callers: []string{auth.Proxy}}, auth.Group{API: &QueueAPI{s}}, auth.Group{API: &CasesAPI{s}},
		auth.Group{API: hook, Callers: []string{auth.AnySource}}), nil
}

// request is one request to a handler.
type request struct {
	method, path, key string
	body              []byte
	header            []string // name, value, …
}

func (q request) send(t testing.TB, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), q.method, q.path, bytes.NewReader(q.body))
	if q.key != "" {
		r.Header.Set("Authorization", "Bearer "+q.key)
	}
	for i := 0; i+1 < len(q.header); i += 2 {
		r.Header.Set(q.header[i], q.header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// post sends events as an edge does.
func post(t testing.TB, h http.Handler, events ...*defense.Event) (Receipt, int) {
	t.Helper()
	w := request{http.MethodPost, "/v1/events", proxyKey, zstded(ndjson(events...)), []string{"Content-Type", "application/x-ndjson", "Content-Encoding", "zstd"}}.send(t, h)
	var r Receipt
	if w.Code == http.StatusAccepted {
		decode(t, w.Body, &r)
	}
	return r, w.Code
}

func decode(t testing.TB, body io.Reader, v any) {
	t.Helper()
	if err := json.NewDecoder(body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// problem returns the detail of a problem document.
func problem(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("an answer of %d with Content-Type %q", w.Code, got)
	}
	var p struct {
		Status int
		Detail string
	}
	decode(t, w.Body, &p)
	if p.Status != w.Code {
		t.Errorf("a problem of status %d with %d", p.Status, w.Code)
	}
	return p.Detail
}

// until waits for a condition that the service brings about by itself.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 3000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

// archived returns the ids in the archive of the events at nearly the time of storetest's.
func archived(t testing.TB, a *sqlite.Archive) []string {
	t.Helper()
	var ids []string
	for f := (record.Filter{Limit: record.MaxEvents}); ; {
		page, err := a.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Events {
			ids = append(ids, page.Events[i].ID)
		}
		if f.Before = page.Next; page.Next == "" {
			return ids
		}
	}
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not say %q", text, p)
		}
	}
}
