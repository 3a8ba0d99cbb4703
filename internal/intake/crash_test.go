package intake

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

// childEnv makes the test binary serve the intake on the directory that it names until it is killed.
const childEnv = "INTAKE_TEST_SERVE"

// serveUntilKilled prints the address of the API. Every case leads to a decision.
func serveUntilKilled(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	r, err := openRig(ctx, dir, decideOnAll)
	if err != nil {
		fail(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	fmt.Println(listener.Addr())
	go func() { fail(private.Server(r.handler).Serve(listener)) }()
	fail(r.s.Run(ctx))
}

func decideOnAll(o *Options) {
	o.Judge = judgeFunc(func(_ context.Context, c *defense.Case) (*defense.Judgement, error) {
		return proposing(on(c.Key, defense.Challenge, time.Hour))(c)
	})
}

// child is a process that serves the intake.
type child struct {
	cmd  *exec.Cmd
	base string
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+dir)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child says nothing: %v", err)
	}
	c.base = "http://" + strings.TrimSpace(address)
	return c
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone
	_ = c.cmd.Wait()         // with the signal as its error
}

// send posts a body and reports whether it was acknowledged.
func (c *child) send(client *http.Client, path, contentType string, body []byte) bool {
	r, err := http.NewRequest(http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer "+proxyKey)
	r.Header.Set("Content-Type", contentType)
	res, err := client.Do(r)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var receipt Receipt
	return res.StatusCode == http.StatusAccepted && json.NewDecoder(res.Body).Decode(&receipt) == nil && len(receipt.Rejected) == 0
}

// TestNothingAcknowledgedIsLostToAKill kills the process at random moments while senders send, as edges do, until they are told that
// it is kept.
func TestNothingAcknowledgedIsLostToAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newID := newIDs()
	const senders, rounds = 3, 4
	var mu sync.Mutex
	acknowledged := map[string]bool{} // event ids
	clients := map[string]bool{}
	sets := uint64(0) // of counters, each counting 1
	pending := make([]*delivery, senders)
	for round := range rounds {
		c := startChild(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		transport := &http.Transport{}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		progress := make(chan struct{}, 1000)
		var sending sync.WaitGroup
		for s := range senders {
			sending.Go(func() {
				for ctx.Err() == nil {
					if pending[s] == nil {
						pending[s] = newDelivery(newID, s)
					}
					d := pending[s]
					if !d.counted {
						if d.counted = c.send(client, "/v1/counters", "application/json", d.counters); !d.counted {
							continue
						}
					}
					if !c.send(client, "/v1/events", "application/x-ndjson", d.events) {
						continue
					}
					mu.Lock()
					for _, e := range d.list {
						acknowledged[e.ID] = true
						clients[e.Client.Address] = true
					}
					sets++
					mu.Unlock()
					pending[s] = nil
					select {
					case progress <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 10 + rand.N(20) {
			<-progress
		}
		if round%2 == 1 { // cases are judged each second: let some be
			time.Sleep(time.Second)
		}
		time.Sleep(rand.N(200 * time.Millisecond))
		c.kill()
		cancel()
		sending.Wait()
		transport.CloseIdleConnections()
	}

	// What was acknowledged, and no more than what was sent, is there once.
	r := newRig(t, dir, decideOnAll)
	before := r.log.Set().Len()
	stop := run(t, r.s)
	for _, d := range pending {
		if d == nil {
			continue
		}
		var counters CounterBatch
		if err := json.Unmarshal(d.counters, &counters); err != nil {
			t.Fatal(err)
		}
		if err := r.s.AcceptCounters(t.Context(), counters); err != nil { // once more, whether or not it was counted
			t.Fatal(err)
		}
		for _, e := range d.list {
			acknowledged[e.ID] = true
			clients[e.Client.Address] = true
		}
		if _, err := r.s.Accept(t.Context(), "proxy", d.list, nil); err != nil {
			t.Fatal(err)
		}
		sets++
	}
	until(t, "the queue is empty", func() bool {
		d, err := r.state.Queue().Depth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d.Batches == 0
	})
	until(t, "every client is decided on", func() bool { return r.log.Set().Len() >= len(clients) })
	if err := stop(); err != nil {
		t.Error(err)
	}
	found := map[string]int{}
	for _, id := range archived(t, r.archive) {
		found[id]++
		if found[id] > 1 {
			t.Errorf("event %s is archived %d times", id, found[id])
		}
	}
	for id := range acknowledged {
		if found[id] == 0 {
			t.Errorf("event %s was acknowledged and is lost", id)
		}
	}
	summary, err := r.archive.Summary(t.Context(), time.Now().Add(-2*time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if summary.Requests != sets {
		t.Errorf("%d counted, want %d", summary.Requests, sets)
	}
	type same struct {
		value, site string
		action      defense.Action
	}
	decided := map[same]string{}
	for _, d := range r.log.Set().List(decision.Filter{}, time.Now(), 100_000) {
		k := same{d.Value, d.Site, d.Action}
		if other, twice := decided[k]; twice {
			t.Errorf("decisions %s and %s both say %s on %s", other, d.ID, d.Action, d.Value)
		}
		decided[k] = d.ID
	}
	if d, err := r.state.Queue().Depth(t.Context()); err != nil || d.Dead != 0 {
		t.Errorf("%d dead letters, %v", d.Dead, err)
	}
	t.Logf("%d kills: %d events acknowledged, %d archived; %d sets of counters; %d clients, %d decisions, %d of before the last kill", rounds, len(acknowledged), len(found), sets, len(clients), len(decided), before)
}

// delivery is what a sender has to bring to the intake.
type delivery struct {
	list     []*defense.Event
	events   []byte
	counters []byte
	counted  bool
}

func newDelivery(newID func() string, sender int) *delivery {
	d := &delivery{}
	for range 20 {
		d.list = append(d.list, storetest.Event(0, func(e *defense.Event) {
			e.ID, e.Time = newID(), time.Now().UTC().Truncate(time.Millisecond)
			e.Kind, e.Request.Path = "trap", "/trap" // which opens a case at once
			e.Client.Address = fmt.Sprintf("198.51.%d.%d", 100+sender, 1+rand.N(60))
		}))
	}
	d.events = ndjson(d.list...)
	var err error
	d.counters, err = json.Marshal(CounterBatch{ID: newID(), Edge: "edge-1", Counters: []record.Counter{
		{Hour: time.Now().UTC().Truncate(time.Hour), Site: "wiki", Action: defense.Allow, Intended: defense.Allow, Count: 1}}})
	if err != nil {
		panic(err)
	}
	return d
}
