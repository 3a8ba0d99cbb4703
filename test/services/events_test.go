//go:build services

package services

import (
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestEventsOfEveryEdgeAreArchivedAndCountedExactlyThoughTheIntakeIsKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, pair string) {
		s := newStack(t, pair, newSite(t).URL)
		s.addEdge()
		s.addEdge()
		s.start()
		one, two := visit(t, s.edges[0], 60), visit(t, s.edges[1], 40)
		one.awaitMore(t, 150)
		two.awaitMore(t, 100)
		s.intake.kill()
		one.awaitMore(t, 120)
		two.awaitMore(t, 80)
		s.intake.start().await()
		one.awaitMore(t, 60)
		two.awaitMore(t, 40)
		one.stop()
		two.stop()
		one.wantServed(t, false)
		two.wantServed(t, false)
		n := one.answered() + two.answered()
		s.awaitRequests(n)

		// Every request is an event, too: the queues of the edges were long enough.
		events, err := s.archived("")
		if err != nil {
			t.Fatal(err)
		}
		byEdge, ids := map[string]uint64{}, map[string]bool{}
		for i := range events {
			byEdge[events[i].Edge]++
			ids[events[i].ID] = true
		}
		if len(ids) != len(events) || byEdge["edge-1"] != one.answered() || byEdge["edge-2"] != two.answered() {
			t.Errorf("the archive has %d events with %d ids, by edge %v; the edges answered %d and %d", len(events), len(ids), byEdge, one.answered(), two.answered())
		}
		if len(events) > 0 {
			e := &events[0]
			if e.Site != "default" || e.Request.Agent != chrome || e.Response.Status != 200 || e.Client.Address[:7] != "198.51." || e.Verdict.Action != defense.Allow {
				t.Errorf("an event in the archive: %+v", e)
			}
		}
		for _, e := range s.edges {
			if v := e.metric("quickthorn_events_dropped_total"); v != "0" {
				t.Errorf("%s has dropped %s events", e.name, v)
			}
		}
	})
}

func TestServicesDrainWithinTheirLimitAndLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, pair string) {
		s := newStack(t, pair, newSite(t).URL)
		s.addEdge()
		s.addEdge()
		s.start()
		one, two := visit(t, s.edges[0], 60), visit(t, s.edges[1], 60)
		sending := keepSending(t, s.intake.url, 2, 20*time.Millisecond, func() []*defense.Event { return makeEvents(20) })
		sending.awaitMore(t, 500)
		one.awaitMore(t, 50)

		end := func(p *process) {
			t.Helper()
			began := time.Now()
			if status := p.terminate(); status != 0 {
				t.Errorf("%s ended with status %d", p.name, status)
			}
			if took := time.Since(began); took > 25*time.Second {
				t.Errorf("%s took %s to end, though it may drain for 20 s", p.name, took)
			} else {
				t.Logf("%s ended within %s", p.name, took.Round(time.Millisecond))
			}
		}
		end(s.engine)
		sending.awaitMore(t, 200)
		s.engine.start().await()

		// A request that is under way is answered.
		slow := make(chan int, 1)
		go func() {
			status, err := readPage(client, s.edges[0], "198.51.99.1", "/slow")
			if err != nil {
				status = -1
			}
			slow <- status
		}()
		served := one.answered()
		time.Sleep(300 * time.Millisecond)
		end(s.edges[0])
		if status := <-slow; status != 200 {
			t.Errorf("a request that was under way when its edge ended: %d", status)
		}
		if one.answered() < served {
			t.Errorf("%d answers became %d", served, one.answered())
		}
		s.edges[0].start().await()
		one.awaitMore(t, 30)

		end(s.intake)
		two.awaitMore(t, 30)
		s.intake.start().await()
		sending.awaitMore(t, 200)
		sending.stop()
		one.stop()
		two.stop()
		one.wantServed(t, true)
		two.wantServed(t, false)
		// What the edges have counted is part of what nobody may lose: the slow request included.
		s.awaitRequests(one.answered() + two.answered() + 1)
		s.wantKept(sending.ids())
	})
}
