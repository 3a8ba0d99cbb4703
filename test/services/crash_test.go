//go:build services

package services

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

// crawl returns the events of crawlers that ignore robots.txt among readers, in batches, as if they had happened just now: what
// the engine decides on.
func crawl(t *testing.T) [][]*defense.Event {
	t.Helper()
	scenario, err := simulate.Find("impolite-ai")
	if err != nil {
		t.Fatal(err)
	}
	labelled, _, err := simulate.Events(t.Context(), scenario, simulate.EventsOptions{Options: simulate.Options{Seed: 1, Scale: 0.25}, Start: time.Now().Add(-7 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	events := make([]*defense.Event, len(labelled))
	for i := range labelled {
		events[i] = labelled[i].Event
	}
	return slices.Collect(slices.Chunk(events, 50))
}

// once returns each batch one time, and then none: for keepSending.
func once(batches [][]*defense.Event) func() []*defense.Event {
	var mu sync.Mutex
	return func() []*defense.Event {
		mu.Lock()
		defer mu.Unlock()
		if len(batches) == 0 {
			return nil
		}
		b := batches[0]
		batches = batches[1:]
		return b
	}
}

func TestKillingAnyServiceUnderLoadLosesNoAcknowledgedEventAndDoublesNoDecision(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, pair string) {
		s := newStack(t, pair, newSite(t).URL)
		s.addEdge()
		s.addEdge()
		s.start()
		steady, shaken := visit(t, s.edges[0], 50), visit(t, s.edges[1], 50)
		crawling := keepSending(t, s.intake.url, 1, 30*time.Millisecond, once(crawl(t)))
		sending := keepSending(t, s.intake.url, 2, 15*time.Millisecond, func() []*defense.Event { return makeEvents(25) })
		sending.awaitMore(t, 1000)

		// Again and again, so that the moment is now and then a bad one.
		for range 3 {
			s.intake.kill()
			steady.awaitMore(t, 20)
			s.intake.start()
			sending.awaitMore(t, 800)
		}
		s.engine.kill()
		sending.awaitMore(t, 800)
		s.engine.start()
		s.edges[1].kill()
		sending.awaitMore(t, 400)
		s.edges[1].start().await()
		shaken.awaitMore(t, 40)
		s.intake.kill()
		s.intake.start().await()
		s.engine.await()
		sending.awaitMore(t, 400)

		// The crawlers are decided on, whatever has happened meanwhile.
		eventually(t, func() error {
			n := 0
			for _, d := range s.decisions() {
				if d.Origin == "engine" {
					n++
				}
			}
			if n < 3 {
				return fmt.Errorf("the engine has decided on %d clients", n)
			}
			return nil
		})
		sending.stop()
		eventually(t, func() error {
			if n := len(crawling.ids()); n < 1000 {
				return fmt.Errorf("%d events of crawlers are acknowledged", n)
			}
			return nil
		})
		crawling.stop()
		steady.stop()
		shaken.stop()
		steady.wantServed(t, false)
		shaken.wantServed(t, true)
		s.awaitEmptyQueue()
		s.wantKept(append(sending.ids(), crawling.ids()...))
		s.wantNoDuplicates()

		// And once more from what is stored.
		before := s.decisions()
		s.intake.kill()
		s.intake.start().await()
		s.wantNoDuplicates()
		after := map[string]bool{}
		for _, d := range s.decisions() {
			after[d.ID] = true
		}
		for _, d := range before {
			if !after[d.ID] && (d.Expires.IsZero() || time.Until(d.Expires) > time.Second) {
				t.Errorf("a decision was lost: %+v", d)
			}
		}
		t.Logf("%d decisions; answers to senders: %v", len(before), sending.seen())
	})
}

func TestStoresMayBeAwayUnderLoadAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := newStack(t, remote, newSite(t).URL)
	s.addEdge()
	s.start()
	s.cli("decisions", "add", "--action", "deny", "203.0.113.77")
	s.awaitStatus(s.edges[0], "203.0.113.77", http.StatusForbidden)
	readers := visit(t, s.edges[0], 50)
	sending := keepSending(t, s.intake.url, 2, 20*time.Millisecond, func() []*defense.Event { return makeEvents(20) })
	sending.awaitMore(t, 500)

	for _, away := range []struct {
		name        string
		stop, start func()
		missing     string
	}{
		{"PostgreSQL", s.postgres.Stop, s.postgres.Start, "archive"},
		{"Redis", s.redis.Stop, s.redis.Start, "state store"},
	} {
		away.stop()
		gone := time.Now()
		s.intake.awaitReadiness(http.StatusServiceUnavailable, away.missing)
		// A minute is what is promised; it is longer than the lease of what ai-service owns.
		for time.Since(gone) < time.Minute {
			sending.awaitMore(t, 200)
			if status := s.mustRead(s.edges[0], "203.0.113.77"); status != http.StatusForbidden {
				t.Errorf("while %s is away, the edge answers %d to a client that is denied", away.name, status)
			}
			if got, err := readPage(client, s.edges[0], "198.51.98.1", "/"); err != nil || got != 200 {
				t.Errorf("while %s is away, the edge answers %d, %v", away.name, got, err)
			}
		}
		if waiting, err := strconv.ParseFloat(s.intake.metric("quickthorn_queue_batches"), 64); err != nil || waiting == 0 {
			t.Errorf("while %s is away %v batches wait in the queue, by the metrics (%v)", away.name, waiting, err)
		}
		away.start()
		s.intake.await()
		sending.awaitMore(t, 200)
		t.Logf("%s was away for %s; answers to senders by now: %v", away.name, time.Since(gone).Round(time.Second), sending.seen())
	}
	sending.stop()
	readers.stop()
	readers.wantServed(t, false)
	for status, n := range sending.seen() {
		// No answer: the process starts anew within itself when it may have lost what it owns.
		if status != http.StatusAccepted && status != 0 {
			t.Errorf("%d batches were answered with %d, though there was room on disk", n, status)
		}
	}
	s.awaitEmptyQueue()
	s.wantKept(sending.ids())
	s.cli("decisions", "delete", "--value", "203.0.113.77")
	s.awaitStatus(s.edges[0], "203.0.113.77", http.StatusOK)
}

func TestEventsAreRefusedAndNotLostWhenTheirBoundIsReached(t *testing.T) {
	t.Parallel()
	s := newStack(t, remote, newSite(t).URL)
	s.intake.set("intake.spoolBytes=1MiB")
	s.start()
	s.redis.Stop()
	s.intake.awaitReadiness(http.StatusServiceUnavailable, "state store")
	var kept []string
	var refused []*defense.Event
	eventually(t, func() error {
		events := makeEvents(500)
		switch status, err := send(s.intake.url, proxyKey, events); status {
		case http.StatusAccepted:
			for _, e := range events {
				kept = append(kept, e.ID)
			}
			return fmt.Errorf("%d events were taken without Redis, in 1 MiB", len(kept))
		case http.StatusServiceUnavailable:
			refused = events
			return nil
		default:
			t.Fatalf("%d %v", status, err)
			return nil
		}
	})
	if len(kept) == 0 {
		t.Error("nothing was kept on disk")
	}
	s.redis.Start()
	s.intake.await()
	eventually(t, func() error {
		_, err := send(s.intake.url, proxyKey, refused)
		return err
	})
	for _, e := range refused {
		kept = append(kept, e.ID)
	}
	s.awaitEmptyQueue()
	s.wantKept(kept)
}

func TestSecondAIServiceStandsByAndTakesOver(t *testing.T) {
	t.Parallel()
	s := newStack(t, remote, newSite(t).URL)
	s.start()
	second := s.newIntake("ai-service-2").start()
	second.awaitReadiness(http.StatusServiceUnavailable, "standing by")
	edge := s.addEdgeOf(second)
	edge.start().await()
	denied := "203.0.113.78"
	s.cli("decisions", "add", "--action", "deny", denied)

	// What does not own the decisions must not tell edges that there are none.
	for _, path := range []string{"/v1/decisions", "/v1/decisions?since=0", "/v1/decisions/export", "/v1/mode"} {
		if status, body, err := call(http.MethodGet, second.url+path, operatorKey, "", nil); err != nil || status != http.StatusServiceUnavailable {
			t.Errorf("who stands by answers GET %s with %d %s, %v", path, status, body, err)
		}
	}
	if status, body, err := call(http.MethodPut, second.url+"/v1/mode", operatorKey, "application/json", []byte(`{"mode":"off"}`)); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("who stands by answers PUT /v1/mode with %d %s, %v", status, body, err)
	}
	first := makeEvents(200)
	if _, err := send(second.url, proxyKey, first); err != nil {
		t.Errorf("who stands by does not take events: %v", err)
	}
	sending := keepSending(t, second.url, 1, 20*time.Millisecond, func() []*defense.Event { return makeEvents(20) })
	sending.awaitMore(t, 200)
	s.intake.kill()
	killed := time.Now()
	second.awaitReadiness(http.StatusOK)
	t.Logf("the second took over %s after the first was killed", time.Since(killed).Round(100*time.Millisecond))
	s.awaitStatus(edge, denied, http.StatusForbidden)
	sending.stop()

	was := s.intake
	s.intake = second
	must(t, []string{"QUICKTHORN_PRIVATE_KEY=" + operatorKey}, "decisions", "delete", "--value", denied, "--server", second.url)
	s.awaitStatus(edge, denied, http.StatusOK)
	s.awaitEmptyQueue()
	ids := sending.ids()
	for _, e := range first {
		ids = append(ids, e.ID)
	}
	s.wantKept(ids)

	// The first comes back and stands by in its turn.
	was.start()
	was.awaitReadiness(http.StatusServiceUnavailable, "standing by")
}
