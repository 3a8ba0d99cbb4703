package ship

import (
	"bufio"
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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/record"
)

// intake takes what a real one takes, and fails when it is told to.
type intake struct {
	mu       sync.Mutex
	events   map[string]defense.Event
	sets     map[string]counterBatch // by id
	requests []http.Header
	sizes    []int  // events of each request that was taken
	most     int    // events beyond which 413 is the answer; 0: any number
	bad      string // a part of the path of events that are rejected
	fail     func(w http.ResponseWriter, r *http.Request) bool
	loseIt   int // so many answers are lost after the work was done
}

func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.requests = append(in.requests, r.Header.Clone())
	if in.fail != nil && in.fail(w, r) {
		return
	}
	switch r.URL.Path {
	case "/v1/events":
		z, err := zstd.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer z.Close()
		var batch []defense.Event
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e defense.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			batch = append(batch, e)
		}
		if err := lines.Err(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if in.most > 0 && len(batch) > in.most {
			http.Error(w, "too many", http.StatusRequestEntityTooLarge)
			return
		}
		in.sizes = append(in.sizes, len(batch))
		answer := map[string]any{}
		accepted, duplicate, rejected := 0, 0, []map[string]any{}
		for i, e := range batch {
			switch _, known := in.events[e.ID]; {
			case known:
				duplicate++
			case in.bad != "" && strings.Contains(e.Request.Path, in.bad):
				rejected = append(rejected, map[string]any{"index": i, "problem": "schema 9: this intake understands 1"})
			default:
				in.events[e.ID] = e
				accepted++
			}
		}
		answer["accepted"], answer["duplicate"], answer["rejected"] = accepted, duplicate, rejected[:min(len(rejected), 100)]
		if in.lose() {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(answer)
	case "/v1/counters":
		var b counterBatch
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in.sets[b.ID] = b
		if in.lose() {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		http.NotFound(w, r)
	}
}

func (in *intake) lose() bool {
	in.loseIt--
	return in.loseIt >= 0
}

func (in *intake) set(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	change()
}

func serve(t testing.TB) (*intake, *Client, *bytes.Buffer) {
	t.Helper()
	in := &intake{events: map[string]defense.Event{}, sets: map[string]counterBatch{}}
	srv := httptest.NewUnstartedServer(in)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Start()
	t.Cleanup(srv.Close)
	log := new(bytes.Buffer)
	c, err := New(Options{Base: srv.URL + "/", HTTP: srv.Client(), Key: "k3y", Edge: "edge-1", Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return in, c, log
}

var newID = id.New(time.Now, rand.Uint64).Next

// event is as a browser's page is recorded.
func event(i int) *defense.Event {
	return &defense.Event{
		Schema: defense.EventSchema, Kind: "request", ID: newID(), Time: time.Date(2026, 3, 1, 12, 0, i%60, 123456789, time.UTC), Site: "wiki", Edge: "edge-1", RequestID: newID(),
		Client: defense.EventClient{Address: fmt.Sprintf("192.0.2.%d", i%250), Prefix: "192.0.2.0/24"},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example.org", Path: fmt.Sprintf("/wiki/Page_%d", i), Query: "oldid=7&<a>", Kind: defense.KindNavigation, Protocol: "HTTP/2.0",
			Agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36", Family: defense.AgentBrowser,
			Referrer: "https://wiki.example.org/wiki/Main_Page",
			Headers: defense.EventHeaders{Shape: "9f2c41d07b3ea865", Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
				AcceptLanguage: "de-DE,de;q=0.9,en-US;q=0.8", SecFetchSite: "same-origin", SecFetchMode: "navigate", SecFetchDest: "document"},
			TLS: &defense.EventTLS{Version: "1.3"},
		},
		Verdict:  defense.EventVerdict{Mode: defense.ModeEnforce},
		Response: defense.EventResponse{Status: 200, Bytes: 18234, Duration: 0.0312, UpstreamDuration: 0.0291}, Transient: i%2 == 0,
	}
}

func events(n int) []*defense.Event {
	out := make([]*defense.Event, n)
	for i := range out {
		out[i] = event(i)
	}
	return out
}

func TestEventsArriveAsTheyAre(t *testing.T) {
	in, c, _ := serve(t)
	es := events(3)
	if d, err := c.Append(t.Context(), es); d != 0 || err != nil {
		t.Fatal(d, err)
	}
	for _, e := range es {
		if diff := cmp.Diff(*e, in.events[e.ID]); diff != "" {
			t.Error(diff)
		}
	}
	h := in.requests[0]
	if h.Get("Authorization") != "Bearer k3y" || h.Get("Content-Type") != "application/x-ndjson" || h.Get("Content-Encoding") != "zstd" || h["Idempotency-Key"] != nil {
		t.Errorf("%v", h)
	}
	if d, err := c.Append(t.Context(), append(es, event(9))); d != 3 || err != nil {
		t.Errorf("again: %d duplicates, %v", d, err)
	}
	if s := c.Stats(); s.Sent != 7 || s.Accepted != 4 || s.Duplicates != 3 || s.Rejected != 0 || s.Failed != 0 || s.Err != nil {
		t.Errorf("%+v", s)
	}
	if d, err := c.Append(t.Context(), nil); d != 0 || err != nil || len(in.requests) != 2 {
		t.Errorf("nothing to send: %d, %v, %d requests", d, err, len(in.requests))
	}
}

func TestManyEventsGoInSeveralRequests(t *testing.T) {
	in, c, _ := serve(t)
	if _, err := c.Append(t.Context(), events(maxEvents+10)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{maxEvents, 10}, in.sizes); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsTooLargeForTheIntakeGoesInHalves(t *testing.T) {
	in, c, _ := serve(t)
	in.most = 30
	es := events(100)
	if _, err := c.Append(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	if len(in.events) != 100 || c.Stats().Accepted != 100 {
		t.Errorf("%d arrived, %+v", len(in.events), c.Stats())
	}
	in.set(func() {
		in.fail = func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "", http.StatusRequestEntityTooLarge)
			return true
		}
	})
	if _, err := c.Append(t.Context(), events(3)); err != nil || c.Stats().Rejected != 3 {
		t.Errorf("events that are too large each: %v, %+v", err, c.Stats())
	}
}

func TestRejectedEventsAreCountedAndSaidOnceAndNotSentAgain(t *testing.T) {
	in, c, log := serve(t)
	in.bad = "/wiki/Page_"
	for range 3 {
		if _, err := c.Append(t.Context(), append(events(200), &defense.Event{ID: newID()})); err != nil {
			t.Fatal(err)
		}
	}
	if s := c.Stats(); s.Rejected != 600 || s.Accepted != 3 || s.Err == nil || len(in.requests) != 3 {
		t.Errorf("%+v, %d requests", s, len(in.requests))
	}
	in.set(func() { in.bad = "" })
	if _, err := c.Append(t.Context(), events(1)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "200 of 201 events") || !strings.Contains(log.String(), "schema 9") || strings.Count(log.String(), "level=INFO") != 1 {
		t.Errorf("said:\n%s", log.String())
	}
}

func TestABatchThatTheIntakeCannotReadKeepsNothingBack(t *testing.T) {
	in, c, _ := serve(t)
	in.fail = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"title":"Bad Request","status":400,"detail":"content encoding \"zstd\" is not known"}`)
		return true
	}
	es, set := events(5), newID()
	for i := range maxTries {
		_, err := c.Append(t.Context(), es)
		countErr := c.AddCounters(t.Context(), set, []record.Counter{{Count: 1}})
		if last := i == maxTries-1; last != (err == nil) || last != (countErr == nil) {
			t.Errorf("attempt %d: %v, %v", i, err, countErr)
		}
	}
	if s := c.Stats(); s.Rejected != 5 || s.RejectedSets != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "is not known") {
		t.Errorf("%+v", s)
	}
	// A batch that was only garbled on the way is not given up.
	if _, err := c.Append(t.Context(), events(5)); err == nil {
		t.Error("another batch was given up at once")
	}
	in.set(func() { in.fail = nil })
	if _, err := c.Append(t.Context(), es); err != nil || c.Stats().Accepted != 5 {
		t.Errorf("%v, %+v", err, c.Stats())
	}
}

func TestFailuresAreErrorsThatSayWhatAndHowLong(t *testing.T) {
	in, c, _ := serve(t)
	for _, tt := range []struct {
		name   string
		status int
		header string // Retry-After
		body   string
		after  time.Duration
		want   string
	}{
		{"busy", 429, "7", "", 7 * time.Second, "429 Too Many Requests"},
		{"starting", 503, "120", `{"detail":"the queue is full"}`, 2 * time.Minute, "503 Service Unavailable: the queue is full"},
		{"busy for ever", 503, "99999999", "", 5 * time.Minute, "503"},
		{"busy until yesterday", 503, "Sun, 01 Mar 2026 12:00:00 GMT", "", 0, "503"},
		{"busy, in words", 503, "soon", "", 0, "503"},
		{"broken", 500, "7", "<html>", 0, "500 Internal Server Error"},
		{"the wrong key", 401, "", `{"detail":"` + strings.Repeat("ü", 500) + `"}`, 0, "401 Unauthorized: üüü"},
		{"the wrong address", 404, "", "", 0, "404"},
		{"a redirect", 307, "", "", 0, "307"},
		{"not an intake", 200, "", "<html>hello</html>", 0, "not that of an intake"},
		{"an impossible answer", 202, "", `{"accepted":9}`, 0, "not that of an intake"},
	} {
		in.set(func() {
			in.fail = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", "/elsewhere")
				if tt.header != "" {
					w.Header().Set("Retry-After", tt.header)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
				return true
			}
		})
		_, err := c.Append(t.Context(), events(2))
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 600 {
			t.Errorf("%s: %v", tt.name, err)
		}
		var problem *Error
		if errors.As(err, &problem) && problem.RetryAfter() != tt.after {
			t.Errorf("%s: retry after %s, want %s", tt.name, problem.RetryAfter(), tt.after)
		}
		if tt.status != 200 && tt.status != 202 {
			if err := c.AddCounters(t.Context(), newID(), []record.Counter{{Count: 1}}); err == nil {
				t.Errorf("%s: counters went", tt.name)
			}
		}
	}
	if len(in.events)+len(in.sets) != 0 || c.Stats().Rejected != 0 {
		t.Errorf("%d events, %d sets, %+v", len(in.events), len(in.sets), c.Stats())
	}
}

func TestSilenceEndsWithTheTimeLimitOrTheContext(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	}))
	defer srv.Close()
	defer close(release)
	c, err := New(Options{Base: srv.URL, Timeout: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Append(t.Context(), events(1)); err == nil || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Append(ctx, events(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	for _, base := range []string{"", "ai-service:8000", "ftp://x", "http://", "http://x?y", "http://x#y", "http://\x7f"} {
		if _, err := New(Options{Base: base, Log: slog.New(slog.DiscardHandler), Now: time.Now}); err == nil {
			t.Errorf("%q was taken", base)
		}
	}
}

// TestNothingIsLostNorCountedTwiceThoughAnswersAreLost runs a recorder against an intake that does its work and
// then breaks the connection.
func TestNothingIsLostNorCountedTwiceThoughAnswersAreLost(t *testing.T) {
	in, c, _ := serve(t)
	r := record.New(record.Options{Sites: []string{"wiki"}, Observe: true, Batch: 20, Every: 5 * time.Millisecond, Drain: 20 * time.Second, Now: time.Now, Random: rand.Uint64}, c, slog.New(slog.DiscardHandler))
	in.loseIt = 2
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	const n = 100
	deny := &defense.Verdict{Action: defense.Deny, Intended: defense.Deny}
	for _, e := range events(n) {
		r.Count(deny, "wiki")
		r.Record(e)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		in.mu.Lock()
		all := len(in.events) == n && in.loseIt < 0
		in.mu.Unlock()
		if all {
			break
		}
	}
	r.Count(deny, "wiki")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var total uint64
	for _, s := range in.sets {
		if s.Edge != "edge-1" {
			t.Errorf("%+v", s)
		}
		for _, k := range s.Counters {
			total += k.Count
		}
	}
	if total != n+1 || len(in.events) != n {
		t.Errorf("%d counted of %d, %d events of %d", total, n+1, len(in.events), n)
	}
	if s := r.Stats(); s.Recorded+s.Observed < n-20 || s.Dropped != 0 || s.Unobserved != 0 || s.Failed == 0 {
		t.Errorf("%+v", s)
	}
}

// BenchmarkAppend measures packing and sending, to a server that throws away what it gets.
func BenchmarkAppend(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"accepted":500}`)
	}))
	defer srv.Close()
	c, err := New(Options{Base: srv.URL, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	es := events(500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Append(b.Context(), es); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(es))/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(len(c.packed))/float64(len(es)), "B/event")
}
