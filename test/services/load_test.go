//go:build services

package services

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// visitors are readers of an edge, each with an address of its own.
type visitors struct {
	edge *process
	stop func() // ends and waits

	mu       sync.Mutex
	statuses map[int]uint64 // answers
	failed   uint64         // requests without an answer
	problem  error          // the latest of these
}

// visit has readers ask an edge for pages, about so many a second, until stop is called or the test ends.
func visit(t *testing.T, edge *process, perSecond int) *visitors {
	const readers = 4
	v := &visitors{edge: edge, statuses: map[int]uint64{}}
	transport := &http.Transport{MaxIdleConnsPerHost: readers}
	hc := &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: client.CheckRedirect}
	over := make(chan struct{})
	var work sync.WaitGroup
	for i := range readers {
		work.Go(func() {
			pace := time.NewTicker(time.Second * readers / time.Duration(perSecond))
			defer pace.Stop()
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				case <-pace.C:
				}
				status, err := readPage(hc, edge, fmt.Sprintf("198.51.%d.%d", 100+i, n%250), fmt.Sprintf("/page/%d", n%40))
				v.mu.Lock()
				if err != nil {
					v.failed++
					v.problem = err
				} else {
					v.statuses[status]++
				}
				v.mu.Unlock()
			}
		})
	}
	v.stop = sync.OnceFunc(func() {
		close(over)
		work.Wait()
		transport.CloseIdleConnections()
	})
	t.Cleanup(v.stop)
	return v
}

// answered returns how many requests were answered.
func (v *visitors) answered() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var n uint64
	for _, c := range v.statuses {
		n += c
	}
	return n
}

// awaitMore waits until n more requests have been answered.
func (v *visitors) awaitMore(t *testing.T, n uint64) {
	t.Helper()
	want := v.answered() + n
	eventually(t, func() error {
		if got := v.answered(); got < want {
			return fmt.Errorf("%s has answered %d requests, want %d", v.edge.name, got, want)
		}
		return nil
	})
}

// wantServed checks that nobody was answered 5xx and, unless the edge was away itself, that everybody was answered.
func (v *visitors) wantServed(t *testing.T, wasAway bool) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for status, n := range v.statuses {
		if status >= 500 {
			t.Errorf("%s answered %d requests with %d", v.edge.name, n, status)
		}
	}
	if v.failed > 0 && !wasAway {
		t.Errorf("%s left %d requests without an answer: %v", v.edge.name, v.failed, v.problem)
	}
	if len(v.statuses) == 0 {
		t.Errorf("%s has answered nothing", v.edge.name)
	}
	t.Logf("%s answered %v, and %d not at all", v.edge.name, v.statuses, v.failed)
}

// makeEvents makes events of requests that nobody made, of a few hundred clients.
func makeEvents(n int) []*defense.Event {
	events := make([]*defense.Event, n)
	now := time.Now()
	for i := range events {
		id := ulid.Make()
		client := fmt.Sprintf("203.0.%d.%d", 113+i%3, int(id[15])%250)
		events[i] = &defense.Event{
			Schema: defense.EventSchema, Kind: "request", ID: id.String(), Time: now, Site: "default", Edge: "edge-of-the-test", RequestID: id.String(),
			Client: defense.EventClient{Address: client, Prefix: client + "/32"},
			Request: defense.EventRequest{
				Method: "GET", Host: "www.example.org", Path: fmt.Sprintf("/wiki/Page_%d", i%50), Kind: defense.KindNavigation, Protocol: "HTTP/2.0",
				Agent: chrome, Family: defense.AgentBrowser, Headers: defense.EventHeaders{Shape: "9f2c41d07b3ea865", Accept: "text/html", AcceptLanguage: "en"},
			},
			Response: defense.EventResponse{Status: 200, Bytes: 5000, Duration: 0.02, UpstreamDuration: 0.01},
		}
	}
	return events
}

// ndjson writes events as they are sent.
func ndjson(events []*defense.Event) []byte {
	var b bytes.Buffer
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err) // they are ours
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// receipt is the answer to events.
type receipt struct {
	Accepted, Duplicate int
	Rejected            []struct {
		Index   int
		Problem string
	}
}

// send posts events to an ai-service once. The error says why they were not acknowledged.
func send(url, key string, events []*defense.Event) (status int, err error) {
	status, body, err := call(http.MethodPost, url+"/v1/events", key, "application/x-ndjson", ndjson(events))
	if err != nil {
		return 0, err
	}
	if status != http.StatusAccepted {
		return status, fmt.Errorf("%d %s", status, body)
	}
	var r receipt
	if err := json.Unmarshal(body, &r); err != nil {
		return status, err
	}
	if len(r.Rejected) > 0 || r.Accepted+r.Duplicate != len(events) {
		return status, fmt.Errorf("of %d events: %s", len(events), body)
	}
	return status, nil
}

// sender posts events to ai-service as an edge does: what was not acknowledged it sends again until it is.
type sender struct {
	stop func() // ends and waits

	mu           sync.Mutex
	acknowledged []string
	statuses     map[int]int // 0: no answer
	problems     map[string]int
}

// keepSending posts batches of events made by batch, one after the other with that pause, by so many workers, until stop is called or the test ends.
func keepSending(t *testing.T, url string, workers int, pause time.Duration, batch func() []*defense.Event) *sender {
	s := &sender{statuses: map[int]int{}, problems: map[string]int{}}
	over := make(chan struct{})
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			events := batch()
			for len(events) > 0 {
				status, err := send(url, proxyKey, events)
				s.mu.Lock()
				s.statuses[status]++
				if err == nil {
					for _, e := range events {
						s.acknowledged = append(s.acknowledged, e.ID)
					}
				} else if len(s.problems) < 20 {
					s.problems[err.Error()]++
				}
				s.mu.Unlock()
				if err == nil {
					events = batch()
				}
				select {
				case <-over:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	s.stop = sync.OnceFunc(func() {
		close(over)
		work.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

// ids returns the ids of the acknowledged events.
func (s *sender) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acknowledged[:len(s.acknowledged):len(s.acknowledged)]
}

// seen returns how often each status was answered; 0 stands for no answer.
func (s *sender) seen() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.statuses)
}

// awaitMore waits until n more events are acknowledged.
func (s *sender) awaitMore(t *testing.T, n int) {
	t.Helper()
	want := len(s.ids()) + n
	eventually(t, func() error {
		if got := len(s.ids()); got < want {
			s.mu.Lock()
			defer s.mu.Unlock()
			return fmt.Errorf("%d events are acknowledged, want %d; answers %v, problems %v", got, want, s.statuses, s.problems)
		}
		return nil
	})
}
