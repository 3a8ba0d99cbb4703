package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

func load(t testing.TB, s *State) *decision.Log {
	t.Helper()
	l := decision.NewLog(decision.NewSet(nil), s, decision.LogOptions{})
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func numbered(i int) []defense.Decision {
	return []defense.Decision{{Value: fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), Action: defense.Deny, Origin: "operator"}}
}

func TestAServerThatIsAwayFailsCallsUntilItIsBack(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	server.Stop()
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	_, getErr := s.Settings().Get(t.Context(), "mode")
	_, nextErr := s.Queue().Next(t.Context(), 1)
	_, depthErr := s.Queue().Depth(t.Context())
	_, stateErr := s.State(t.Context())
	for name, err := range map[string]error{
		"ping": s.Ping(t.Context()), "get": getErr, "next": nextErr, "depth": depthErr, "state": stateErr,
		"append": s.Queue().Append(t.Context(), queue.Batch{}), "ring": s.Ring(t.Context()),
		"commit":  s.Commit(t.Context(), &decision.Batch{}),
		"changes": s.Changes(t.Context(), 0, func(decision.Change) bool { return true }),
	} {
		if err == nil || !strings.Contains(err.Error(), "connect") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 { // also with connections that the server's end has broken
		server.Start()
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("back: %v", err)
		}
		if err := s.Queue().Append(t.Context(), queue.Batch{}); err != nil {
			t.Errorf("back: %v", err)
		}
		server.Stop()
	}
}

func TestWhatWasAcknowledgedSurvivesTheServersCrash(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	var mu sync.Mutex
	queued := map[string]bool{}
	var decided []string
	for round := range 3 {
		l := load(t, s)
		var wg sync.WaitGroup
		var enough sync.WaitGroup
		enough.Add(5)
		for w := range 4 {
			wg.Go(func() {
				began := sync.OnceFunc(enough.Done)
				for i := 0; ; i++ {
					body := fmt.Sprintf("%d/%d/%d", round, w, i)
					if err := s.Queue().Append(t.Context(), queue.Batch{Body: []byte(body)}); err != nil {
						return
					}
					mu.Lock()
					queued[body] = true
					mu.Unlock()
					if i == 20 {
						began()
					}
				}
			})
		}
		wg.Go(func() {
			began := sync.OnceFunc(enough.Done)
			for i := 0; ; i++ {
				ds, err := l.Add(t.Context(), numbered(round<<16+i), decision.AddOptions{})
				if err != nil {
					return
				}
				decided = append(decided, ds[0].ID)
				if i == 20 {
					began()
				}
			}
		})
		enough.Wait()
		server.Kill()
		wg.Wait()
		server.Start()
	}
	l := load(t, s)
	for _, id := range decided {
		if _, ok := l.Set().Get(id); !ok {
			t.Errorf("decision %s is lost", id)
		}
	}
	if n, most := l.Set().Len(), len(decided)+3; n > most {
		t.Errorf("%d decisions of which %d were acknowledged", n, len(decided))
	}
	seen := map[string]bool{}
	depth, err := s.Queue().Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < depth.Batches; {
		bs, err := s.Queue().Next(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bs {
			if seen[string(b.Body)] {
				t.Errorf("%s comes twice", b.Body)
			}
			seen[string(b.Body)] = true
		}
		n += len(bs)
	}
	for body := range queued {
		if !seen[body] {
			t.Errorf("batch %s is lost", body)
		}
	}
	if len(seen) > len(queued)+3*4 {
		t.Errorf("%d batches of which %d were acknowledged", len(seen), len(queued))
	}
}

// wire is a connection to a server that can lose an answer.
type wire struct {
	net.Listener
	server string
	lose   atomic.Int32 // so many answers are lost, and their connections
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, server: server}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return w
}

func (w *wire) pass(client net.Conn) {
	server, err := net.Dial("tcp4", w.server)
	if err != nil {
		client.Close()
		return
	}
	var wg sync.WaitGroup
	closeBoth := func() { client.Close(); server.Close() }
	wg.Go(func() { _, _ = io.Copy(server, client); closeBoth() })
	defer wg.Wait()
	defer closeBoth()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if w.lose.Load() > 0 {
			w.lose.Add(-1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestABatchWhoseAnswerIsLostIsStoredOnce(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	w := newWire(t, server.Address)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{w.Addr().String()}}})
	l := load(t, s)
	if _, err := l.Add(t.Context(), numbered(0), decision.AddOptions{}); err != nil { // now the script is known there
		t.Fatal(err)
	}
	for lost := range int32(commitTries) {
		w.lose.Store(lost)
		ds, err := l.Add(t.Context(), numbered(int(lost)+1), decision.AddOptions{})
		if err != nil || ds[0].Sequence != uint64(lost)+2 {
			t.Errorf("%d answers lost: %+v, %v", lost, ds, err)
		}
	}
	if n := load(t, s).Set().Len(); n != 1+commitTries {
		t.Errorf("%d decisions are stored", n)
	}
}

func TestALogThatMayHaveMissedItsOwnBatchIsStopped(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	w := newWire(t, server.Address)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{w.Addr().String()}}})
	l := load(t, s)
	if _, err := l.Add(t.Context(), numbered(0), decision.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	w.lose.Store(commitTries)
	if _, err := l.Add(t.Context(), numbered(1), decision.AddOptions{}); err == nil || errors.Is(err, store.ErrConflict) {
		t.Errorf("every answer lost: %v", err)
	}
	for range 2 {
		if _, err := l.Add(t.Context(), numbered(2), decision.AddOptions{}); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "answer to an earlier batch was lost") {
			t.Errorf("after that: %v", err)
		}
	}
	l = load(t, s)
	if n := l.Set().Len(); n != 2 {
		t.Errorf("%d decisions are stored", n)
	}
	if ds, err := l.Add(t.Context(), numbered(2), decision.AddOptions{}); err != nil || ds[0].Sequence != 3 {
		t.Errorf("loaded again: %+v, %v", ds, err)
	}
}

func TestABatchThatArrivesLateDoesNoHarm(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}, Timeout: 20 * time.Millisecond}})
	await(t, "a first answer in a short time", func() bool { return s.Ping(t.Context()) == nil })
	l := load(t, open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}}))
	if _, err := l.Add(t.Context(), numbered(0), decision.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the log's state", func() bool { _, err := s.State(t.Context()); return err == nil })
	server.Pause() // what is sent now it reads when it goes on
	late := decision.Batch{State: decision.State{Last: 2}, Drop: []uint64{1}}
	err := s.Commit(t.Context(), &late)
	server.Resume()
	if err == nil {
		t.Fatal("a server that does not answer has stored something")
	}
	// Either it came first, and the log's owner is told, or it came second and nothing happens.
	_, err = l.Add(t.Context(), numbered(1), decision.AddOptions{})
	n := load(t, open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})).Set().Len()
	if !(err == nil && n == 2) && !(errors.Is(err, store.ErrConflict) && n == 0) {
		t.Errorf("%d decisions, %v", n, err)
	}
}

func TestAServerWithoutMemoryTakesNothingAndGivesEverything(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	l := load(t, s)
	for _, body := range []string{"a", "b", "c"} {
		if err := s.Queue().Append(t.Context(), queue.Batch{Body: []byte(body), Events: 1}); err != nil {
			t.Fatal(err)
		}
	}
	server.Do("CONFIG", "SET", "maxmemory", "1")
	_, addErr := l.Add(t.Context(), numbered(1), decision.AddOptions{})
	for name, err := range map[string]error{
		"ping": s.Ping(t.Context()), "append": s.Queue().Append(t.Context(), queue.Batch{}), "add": addErr,
		"put": s.Settings().Put(t.Context(), "mode", []byte("off")),
	} {
		if err == nil || !strings.Contains(err.Error(), "no memory left") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The lease of the consumer, and what it does, make room.
	err := s.Hold(t.Context(), "consumer", time.Minute, nil, func(ctx context.Context) error {
		bs, err := s.Queue().Next(ctx, 3)
		if err != nil || len(bs) != 3 {
			return fmt.Errorf("next: %v, %w", bs, err)
		}
		return errors.Join(s.Queue().Bury(ctx, bs[0].ID, "x"), s.Queue().Ack(ctx, bs[1].ID, bs[2].ID))
	})
	if err != nil {
		t.Error(err)
	}
	if n, err := s.Queue().Replay(t.Context()); n != 1 || err != nil {
		t.Errorf("replay: %d, %v", n, err)
	}
	server.Do("CONFIG", "SET", "maxmemory", "0")
	if d, err := s.Queue().Depth(t.Context()); err != nil || d.Batches != 1 || d.Bytes != 1 || d.Events != 1 || d.Dead != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if ds, err := l.Add(t.Context(), numbered(1), decision.AddOptions{}); err != nil || ds[0].Sequence != 1 {
		t.Errorf("with memory again: %+v, %v", ds, err)
	}
}

func TestAServerThatTakesNoWritesSaysWhy(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	for _, c := range []struct {
		set, unset []string
		want       string
	}{
		{[]string{"CONFIG", "SET", "min-replicas-to-write", "1"}, []string{"CONFIG", "SET", "min-replicas-to-write", "0"}, "too few replicas"},
		{[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, "is a replica"},
		{[]string{"SET", s.key("queue"), "x"}, []string{"DEL", s.key("queue")}, "choose another prefix"},
	} {
		server.Do(c.set...)
		err := s.Queue().Append(t.Context(), queue.Batch{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.set, err)
		}
		server.Do(c.unset...)
		await(t, "it to take writes", func() bool { return s.Queue().Append(t.Context(), queue.Batch{}) == nil })
	}
}

// said is an error of a server.
type said string

func (s said) Error() string { return string(s) }
func (said) RedisError()     {}

func TestWhatMayHaveHappenedIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, true},
		{context.DeadlineExceeded, true},
		{&net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}, true},
		{&net.OpError{Op: "dial", Err: io.ErrUnexpectedEOF}, false},
		{fmt.Errorf("wrapped: %w", said("MISCONF disk")), false},
	} {
		if got := unsure(c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
	if err := redisconn.Explain(fmt.Errorf("x: %w", said("MISCONF Errors writing to the AOF file"))); !strings.Contains(err.Error(), "cannot write to its disk") {
		t.Error(err)
	}
	if err := redisconn.Explain(io.EOF); err != io.EOF {
		t.Error(err)
	}
}

func TestAListenerHearsAgainAfterItsConnectionBroke(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- s.Listen(ctx, func() { heard <- struct{}{} }) }()
	<-heard
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	<-heard
	server.Stop()
	server.Start()
	<-heard
	if err := s.Ring(t.Context()); err != nil {
		t.Error(err)
	}
	<-heard
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAListenerNoticesAServerThatHasFallenSilent(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}, Timeout: 200 * time.Millisecond}})
	rung := make(chan struct{}, 1)
	server.Pause()
	heard, err := s.subscribe(t.Context(), rung)
	server.Resume()
	if heard || err == nil || len(rung) != 0 {
		t.Errorf("heard %t, %v", heard, err)
	}
}

func TestALeaseIsLostWhenItCannotBeRenewed(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}, Timeout: 200 * time.Millisecond}})
	for name, c := range map[string]struct {
		ttl          time.Duration
		break_, mend func()
	}{
		"the server falls silent": {time.Second, server.Pause, server.Resume},
		"the server is gone":      {time.Second, server.Kill, server.Start},
		"somebody else has it":    {time.Second, func() { server.Do("SET", s.key("lease:log"), "other") }, func() { server.Do("DEL", s.key("lease:log")) }},
	} {
		err := s.Hold(t.Context(), "log", c.ttl, nil, func(ctx context.Context) error {
			c.break_()
			<-ctx.Done()
			c.mend()
			return context.Cause(ctx)
		})
		if !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALeaseIsRenewedAndTakenAgainWhenTheServerForgotIt(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	key := s.key("lease:log")
	left := func() (ms int) {
		if _, err := fmt.Sscanf(server.Do("PTTL", key), ":%d", &ms); err != nil {
			t.Error(err)
		}
		return ms
	}
	err := s.Hold(t.Context(), "log", 3*time.Second, nil, func(ctx context.Context) error {
		last := left()
		await(t, "the lease to be renewed", func() bool { now := left(); renewed := now > last; last = now; return renewed })
		server.Do("DEL", key)
		await(t, "the lease to be taken again", func() bool { return left() > 0 })
		return ctx.Err()
	})
	if err != nil {
		t.Error(err)
	}
	if got := server.Do("EXISTS", key); got != ":0" {
		t.Errorf("given back: %s", got)
	}
}

func TestALeaseOfAProcessThatWasKilledComesFree(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	server.Do("SET", s.key("lease:log"), "token other-host:77", "PX", "500")
	var holder string
	err := s.Hold(t.Context(), "log", time.Second, func(h string) { holder = h }, func(context.Context) error { return nil })
	if err != nil || holder != "other-host:77" {
		t.Errorf("held by %q, %v", holder, err)
	}
}

func TestALeaseWaitsForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	server.Stop()
	ended := make(chan error, 1)
	go func() {
		ended <- s.Hold(t.Context(), "log", time.Second, nil, func(context.Context) error { return nil })
	}()
	await(t, "it to notice", s.waiting.Failing)
	server.Start()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, ttl := range []time.Duration{0, MinLease - 1} {
		if err := s.Hold(t.Context(), "log", ttl, nil, nil); err == nil {
			t.Errorf("a lease of %v", ttl)
		}
	}
}
