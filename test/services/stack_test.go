//go:build services

package services

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// The pairs of stores.
const (
	embedded = "embedded and SQLite"
	remote   = "Redis and PostgreSQL"
)

// onBoth runs a test on both pairs of stores, one after the other.
func onBoth(t *testing.T, test func(t *testing.T, pair string)) {
	t.Helper()
	for _, pair := range []string{embedded, remote} {
		t.Run(pair, func(t *testing.T) { test(t, pair) })
	}
}

// site is the server that edges protect.
type site struct {
	URL    string
	served atomic.Int64
}

// newSite serves a page everywhere; at /slow it takes a second for it.
func newSite(t *testing.T) *site {
	s := &site{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.served.Add(1)
		if r.URL.Path == "/slow" {
			time.Sleep(time.Second)
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<title>%s</title><p>the page", r.URL.Path)
	}))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// stack is the services apart: any number of edges, ai-service, escalation-engine and their stores.
type stack struct {
	t        *testing.T
	redis    *testserver.RedisServer    // nil with the embedded stores
	postgres *testserver.PostgresServer // likewise
	upstream string

	stores []string // settings of what uses them
	bell   []string // settings of edges that hear Redis
	engine *process
	intake *process
	edges  []*process

	read uint64 // answers that mustRead has got
}

// newStack prepares ai-service and escalation-engine on new stores, in front of a site, and starts nothing.
func newStack(t *testing.T, pair, upstream string) *stack {
	t.Helper()
	s := &stack{t: t, upstream: upstream}
	if pair == remote {
		s.redis, s.postgres = testserver.Redis(t), testserver.Postgres(t)
		s.bell = []string{"state.store=redis", "state.redis.addresses=unix:" + s.redis.Socket}
		s.stores = append([]string{"archive.store=postgres", "archive.postgres.url=" + s.postgres.URL()}, s.bell...)
	}
	s.engine = newEngine(t)
	s.intake = s.newIntake("ai-service")
	return s
}

// newEngine returns an escalation-engine.
func newEngine(t *testing.T) *process {
	address := testserver.FreeAddress(t)
	p := newProcess(t, "escalation-engine", "escalation-engine").listen().set("escalationEngine.listen=" + address)
	p.url = "http://" + address
	p.env = append(p.env, "QUICKTHORN_PRIVATE_KEY="+operatorKey, "QUICKTHORN_AUTH_AI_SERVICE_KEY="+judgeKey)
	return p
}

// newIntake returns an ai-service on the stack's stores.
func (s *stack) newIntake(name string) *process {
	address := testserver.FreeAddress(s.t)
	p := newProcess(s.t, name, "ai-service").listen().set("aiService.listen="+address, "escalationEngine.url="+s.engine.url, "upstream.url="+s.upstream, "edge.drain=20s").set(s.stores...)
	p.url = "http://" + address
	p.env = append(p.env, "QUICKTHORN_PRIVATE_KEY="+operatorKey, "QUICKTHORN_AUTH_PROXY_KEY="+proxyKey, "QUICKTHORN_AUTH_AI_SERVICE_KEY="+judgeKey)
	return p
}

// addEdge adds an edge, which believes this machine about its clients' addresses and keeps every event.
func (s *stack) addEdge(sets ...string) *process {
	return s.addEdgeOf(s.intake, sets...)
}

// addEdgeOf adds an edge of that ai-service.
func (s *stack) addEdgeOf(intake *process, sets ...string) *process {
	s.t.Helper()
	name, address := "edge-"+strconv.Itoa(len(s.edges)+1), testserver.FreeAddress(s.t)
	p := newProcess(s.t, name, "proxy", "--upstream", s.upstream).listen().set("edge.listen="+address, "edge.name="+name, "aiService.url="+intake.url,
		"edge.trustedProxies=127.0.0.1/32", "events.sampleAllow=1", "edge.drain=20s").set(s.bell...).set(sets...)
	p.url = "http://" + address
	p.env = append(p.env, "QUICKTHORN_AUTH_PROXY_KEY="+proxyKey)
	s.edges = append(s.edges, p)
	return p
}

// start starts all that does not run and waits until it is ready.
func (s *stack) start() *stack {
	s.t.Helper()
	all := append([]*process{s.engine, s.intake}, s.edges...)
	for _, p := range all {
		if !p.running() {
			p.start()
		}
	}
	for _, p := range all {
		p.await()
	}
	return s
}

// cli runs a command against ai-service, as from another machine.
func (s *stack) cli(args ...string) string {
	s.t.Helper()
	return must(s.t, []string{"QUICKTHORN_PRIVATE_KEY=" + operatorKey}, append(args, "--server", s.intake.url)...)
}

// get reads what the operator sees at ai-service into v.
func (s *stack) get(path string, v any) error {
	status, body, err := call(http.MethodGet, s.intake.url+path, operatorKey, "", nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", path, status, body)
	}
	return json.Unmarshal(body, v)
}

// requests returns the exact count of requests, of all sites and verdicts.
func (s *stack) requests() (uint64, error) {
	var report struct{ Summary record.Summary }
	if err := s.get("/v1/report?since=6h", &report); err != nil {
		return 0, err
	}
	var sum uint64
	for _, c := range report.Summary.Totals {
		sum += c.Count
	}
	if sum != report.Summary.Requests {
		return 0, fmt.Errorf("the report says %d requests, and %d in its totals", report.Summary.Requests, sum)
	}
	return sum, nil
}

// awaitRequests waits until the exact count is n and everything has come to rest, when it must still be.
func (s *stack) awaitRequests(n uint64) {
	s.t.Helper()
	eventually(s.t, func() error {
		got, err := s.requests()
		if err == nil && got != n {
			err = fmt.Errorf("the report counts %d requests, want %d", got, n)
		}
		return err
	})
	s.awaitEmptyQueue()
	time.Sleep(1500 * time.Millisecond) // an edge that has something left sends it each second
	s.awaitEmptyQueue()
	if got, err := s.requests(); err != nil || got != n {
		s.t.Errorf("the report counts %d requests, then %d (%v)", n, got, err)
	}
}

// awaitEmptyQueue waits until all that was accepted is archived.
func (s *stack) awaitEmptyQueue() {
	s.t.Helper()
	eventually(s.t, func() error {
		var q struct{ Batches, Events, DeadLetters int }
		if err := s.get("/v1/queue", &q); err != nil {
			return err
		}
		if q.DeadLetters > 0 {
			s.t.Fatalf("there are %d dead letters", q.DeadLetters)
		}
		if q.Batches > 0 {
			return fmt.Errorf("%d batches with %d events wait", q.Batches, q.Events)
		}
		return nil
	})
}

// archived returns the events in the archive that fit a filter, as a query.
func (s *stack) archived(filter string) ([]defense.Event, error) {
	r, err := http.NewRequest(http.MethodGet, s.intake.url+"/v1/events?"+filter, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+operatorKey)
	r.Header.Set("Accept", "application/x-ndjson")
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // it is only shown
		return nil, fmt.Errorf("events: %d %s", res.StatusCode, text)
	}
	var events []defense.Event
	for lines := bufio.NewReaderSize(res.Body, 64<<10); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e defense.Event
			if err := json.Unmarshal(line, &e); err != nil {
				return nil, fmt.Errorf("event %q: %w", line, err)
			}
			events = append(events, e)
		}
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// archivedIDs returns how often each event is in the archive.
func (s *stack) archivedIDs() map[string]int {
	s.t.Helper()
	events, err := s.archived("")
	if err != nil {
		s.t.Fatal(err)
	}
	ids := make(map[string]int, len(events))
	for i := range events {
		ids[events[i].ID]++
	}
	return ids
}

// wantKept checks that each acknowledged event is in the archive exactly once, and no event twice.
func (s *stack) wantKept(acknowledged []string) {
	s.t.Helper()
	ids := s.archivedIDs()
	lost, doubled := 0, 0
	for _, id := range acknowledged {
		if ids[id] == 0 {
			lost++
		}
	}
	for _, n := range ids {
		if n > 1 {
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		s.t.Errorf("of %d acknowledged events %d are lost, and of %d in the archive %d are there more than once", len(acknowledged), lost, len(ids), doubled)
	}
	s.t.Logf("%d acknowledged events, %d in the archive", len(acknowledged), len(ids))
}

// decisions returns the decisions in force.
func (s *stack) decisions() []defense.Decision {
	s.t.Helper()
	var list decision.Listing
	if err := s.get("/v1/decisions?limit=10000", &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Decisions
}

// wantNoDuplicates checks that no two decisions in force say the same.
func (s *stack) wantNoDuplicates() {
	s.t.Helper()
	seen := map[string]defense.Decision{}
	byID := map[string]bool{}
	for _, d := range s.decisions() {
		key := fmt.Sprint(d.Origin, d.Scope, d.Value, d.Site)
		if other, ok := seen[key]; ok {
			s.t.Errorf("two decisions on the same: %+v and %+v", other, d)
		}
		if byID[d.ID] {
			s.t.Errorf("two decisions have the id %s", d.ID)
		}
		seen[key], byID[d.ID] = d, true
	}
}

// chrome is the User-Agent of a reader's browser.
const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

// readPage asks an edge for a page as a reader's browser at that address does, and returns the status.
func readPage(hc *http.Client, edge *process, address, path string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, edge.url+path, nil)
	if err != nil {
		return 0, err
	}
	for name, v := range map[string]string{
		"User-Agent": chrome, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
		"Accept-Language": "en-GB,en;q=0.9", "Accept-Encoding": "gzip, deflate", "Upgrade-Insecure-Requests": "1", "X-Forwarded-For": address,
	} {
		r.Header.Set(name, v)
	}
	res, err := hc.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, err
}

// mustRead is readPage that is answered.
func (s *stack) mustRead(edge *process, address string) int {
	s.t.Helper()
	status, err := readPage(client, edge, address, "/")
	if err != nil {
		s.t.Fatal(err)
	}
	s.read++
	return status
}

// awaitStatus waits until a client at the address gets that status from the edge, and returns when it did.
func (s *stack) awaitStatus(edge *process, address string, want int) time.Time {
	s.t.Helper()
	give := time.Now().Add(10 * time.Second)
	for {
		got := s.mustRead(edge, address)
		now := time.Now()
		if got == want {
			return now
		}
		if now.After(give) {
			s.t.Fatalf("%s answers %s with %d, want %d", edge.name, address, got, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// problem reads a problem document.
func problem(body []byte) (detail string, err error) {
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&p); err != nil {
		return "", fmt.Errorf("%q is no problem document: %w", body, err)
	}
	if p.Type == "" || p.Title == "" || p.Status == 0 || p.Detail == "" {
		return "", fmt.Errorf("%s lacks a part of a problem document", body)
	}
	return p.Detail, nil
}

// holds reports whether the text has all the words.
func holds(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
