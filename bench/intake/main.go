// Command intake measures how many events a second ai-service takes, judges and archives: the real program, with the escalation engine in its process,
// on its own disk and on real Redis and PostgreSQL servers, fed by one client over loopback.
//
//	go run ./bench/intake [-stores embedded|redis-postgres|both] [-seconds 10] [-rounds 3] [-connections 4] [-fsync everysec|always]
//
// The events are those of the scenario "mixed" (readers, crawlers, a campaign, a crowd) as an edge makes them, each of them to be archived, in zstd-packed
// batches of 500. A repetition has other clients, so that the casebook has as many to remember as a site that is asked that often. Batches are
// packed before the clock runs.
//
// Events are sent as fast as they are taken, for so many seconds or until 60,000 for each second are sent. Acknowledged is what was answered 202,
// over the time of sending. Archived is the same events, over the time until the
// last of them had left the queue. Each round is a new process on new stores.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/bench/process"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/simulate"
	"github.com/quickthorn/quickthorn/internal/testprogram"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

const (
	embedded = "embedded"
	remote   = "redis-postgres"
)

// batchEvents is how many events are in one request, as an edge under load sends them.
const batchEvents = 500

// prepared is how many events there are for each second of a round. An intake that takes more has them all before the
// time is over, and is then measured over the time that it took.
const prepared = 60_000

// The keys of this run; nobody else can reach the loopback listener of a program that lives for seconds.
const (
	operatorKey = "bench-operator-0123456789abcdef"
	proxyKey    = "bench-proxy-0123456789abcdef"
)

type options struct {
	seconds, rounds, connections int
	fsync, profile               string
}

func main() {
	var o options
	stores := flag.String("stores", "both", "`pair` of stores: embedded, redis-postgres or both")
	flag.IntVar(&o.seconds, "seconds", 10, "how long events are sent in one round at most")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds for each pair")
	flag.IntVar(&o.connections, "connections", 4, "requests at once, of the one client")
	flag.StringVar(&o.fsync, "fsync", "everysec", "Redis's appendfsync")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of ai-service, over the middle of the last round, to this `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *stores, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/intake:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stores string, o *options) error {
	pairs := []string{embedded, remote}
	if stores != "both" {
		if !slices.Contains(pairs, stores) {
			return fmt.Errorf("-stores: %q is neither embedded, redis-postgres nor both", stores)
		}
		pairs = []string{stores}
	}
	if o.seconds < 1 || o.seconds > 60 || o.rounds < 1 || o.rounds > 100 || o.connections < 1 || o.connections > 64 {
		return errors.New("use 1 to 60 seconds, 1 to 100 rounds, 1 to 64 connections")
	}
	dir, err := os.MkdirTemp("", "bench-intake-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := testprogram.Build(ctx, ".", dir)
	if err != nil {
		return err
	}
	pool, err := play(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d different events\n", len(pool))
	results := map[string][]*result{}
	// Rounds are interleaved, so that a machine that slows down slows both alike.
	for n := range o.rounds {
		batches, err := pack(pool, o.seconds*prepared/batchEvents)
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			round, err := os.MkdirTemp(dir, "round-")
			if err != nil {
				return err
			}
			last := n == o.rounds-1
			r, err := measure(ctx, bin, round, pair, batches, o, last)
			if err != nil {
				return fmt.Errorf("%s: %w", pair, err)
			}
			results[pair] = append(results[pair], r)
			fmt.Fprintf(os.Stderr, "round %d, %s: %.0f acknowledged/s, %.0f archived/s\n", n+1, pair, r.acknowledged, r.archived)
		}
	}
	report(pairs, results, o)
	return nil
}

// play makes the events, once.
func play(ctx context.Context) ([]*defense.Event, error) {
	scenario, err := simulate.Find("mixed")
	if err != nil {
		return nil, err
	}
	labelled, _, err := simulate.Events(ctx, scenario, simulate.EventsOptions{Options: simulate.Options{Seed: 1, Scale: 0.5}})
	if err != nil {
		return nil, err
	}
	events := make([]*defense.Event, len(labelled))
	for i := range labelled {
		events[i] = labelled[i].Event
	}
	return events, nil
}

// batch is the body of a request.
type batch struct {
	packed []byte
	events int
}

// pack makes batches of the events, repeated with other ids, times and clients.
func pack(pool []*defense.Event, count int) ([]batch, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	lines.SetEscapeHTML(false)
	entropy := ulid.Monotonic(rand.NewChaCha8([32]byte{1}), 0)
	now := time.Now()
	batches := make([]batch, count)
	at, repetition := 0, 0
	for i := range batches {
		text.Reset()
		// As an edge gets them: a few milliseconds apart, in the order of their ids.
		now = now.Add(10 * time.Millisecond)
		for range batchEvents {
			e := *pool[at]
			id, err := ulid.New(ulid.Timestamp(now), entropy)
			if err != nil {
				return nil, err
			}
			e.ID, e.RequestID, e.Time = id.String(), id.String(), now
			if e.Client, err = other(e.Client, repetition); err != nil {
				return nil, err
			}
			if err := lines.Encode(&e); err != nil {
				return nil, err
			}
			if at++; at == len(pool) {
				at, repetition = 0, repetition+1
			}
		}
		batches[i] = batch{w.EncodeAll(text.Bytes(), nil), batchEvents}
	}
	return batches, nil
}

// other returns another client, the same for the same repetition.
func other(c defense.EventClient, repetition int) (defense.EventClient, error) {
	a, err := netip.ParseAddr(c.Address)
	if err != nil || repetition == 0 {
		return c, err
	}
	prefix, err := netip.ParsePrefix(c.Prefix)
	if err != nil {
		return c, err
	}
	b := a.AsSlice()
	b[1] ^= byte(repetition)
	b[2] ^= byte(repetition * 31)
	a, _ = netip.AddrFromSlice(b)
	c.Address, c.Prefix = a.String(), netip.PrefixFrom(a, prefix.Bits()).Masked().String()
	return c, nil
}

// result is one round.
type result struct {
	events       int
	acknowledged float64            // events/s
	archived     float64            // events/s
	busy         int                // answers 503
	cpu          map[string]float64 // seconds per 1,000 events, by process
	memory       float64            // of ai-service at its most, MiB
}

// measure plays one round on new stores.
func measure(ctx context.Context, bin, dir, pair string, batches []batch, o *options, last bool) (_ *result, err error) {
	listen, private, err := freeAddresses()
	if err != nil {
		return nil, err
	}
	args := []string{"ai-service", "--data", filepath.Join(dir, "data")}
	sets := []string{"aiService.listen=" + listen, "private.listen=" + private, "escalationEngine.url=in-process"}
	groups := map[string][]int{}
	if pair == remote {
		socket, pid, stop, err := startRedis(ctx, dir, o.fsync)
		if err != nil {
			return nil, err
		}
		defer stop()
		groups["Redis"] = []int{pid}
		server, err := testserver.StartPostgres("fsync=on", "shared_buffers=128MB", "max_wal_size=4GB")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
		if pid, err = postmaster(server); err != nil {
			return nil, err
		}
		groups["PostgreSQL"] = []int{pid}
		sets = append(sets, "state.store=redis", "state.redis.addresses=unix:"+socket, "archive.store=postgres", "archive.postgres.url="+server.URL())
	}
	if o.profile != "" {
		sets = append(sets, "private.pprof=true")
	}
	for _, s := range sets {
		args = append(args, "--set", s)
	}
	c := exec.Command(bin, args...)
	c.Env = append(os.Environ(), "QUICKTHORN_PRIVATE_KEY="+operatorKey, "QUICKTHORN_AUTH_PROXY_KEY="+proxyKey)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		if e := c.Wait(); e != nil {
			err = errors.Join(err, fmt.Errorf("ai-service: %w", e))
		}
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, &said)
		}
	}()
	groups["ai-service"] = []int{c.Process.Pid}
	b := &bench{base: "http://" + listen, private: "http://" + private, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.connections}, Timeout: time.Minute}}
	defer b.http.CloseIdleConnections()
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	profiled := make(chan error, 1)
	if last && o.profile != "" {
		go func() { profiled <- b.profile(ctx, o) }()
	} else {
		profiled <- nil
	}
	before, err := cpuTimes(groups)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	events, err := b.send(ctx, batches, o)
	if err != nil {
		return nil, err
	}
	sent := time.Since(began)
	if err := b.drained(ctx); err != nil {
		return nil, err
	}
	done := time.Since(began)
	after, err := cpuTimes(groups)
	if err != nil {
		return nil, err
	}
	r := &result{events: events, acknowledged: float64(events) / sent.Seconds(), archived: float64(events) / done.Seconds(), busy: int(b.busy.Load()), cpu: map[string]float64{}}
	for name := range after {
		r.cpu[name] = (after[name] - before[name]) / float64(events) * 1000
	}
	r.memory = float64(peakMemory(c.Process.Pid)) / (1 << 20)
	if n, err := b.metric(ctx, "quickthorn_intake_archived_total"); err != nil || n != events {
		return nil, errors.Join(err, fmt.Errorf("%d events were acknowledged and %d archived", events, n))
	}
	return r, <-profiled
}

// bench is the client.
type bench struct {
	base, private string
	http          *http.Client
	busy          atomic.Int64
}

// ready waits until ai-service is.
func (b *bench) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		status, text, err := b.call(ctx, http.MethodGet, b.private+"/readyz", "", nil)
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ai-service is not ready: %d %s %w", status, text, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// call sends one request and reads the answer.
func (b *bench) call(ctx context.Context, method, url, key string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/x-ndjson")
		r.Header.Set("Content-Encoding", "zstd")
	}
	res, err := b.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return res.StatusCode, answer, err
}

// send sends batches until the time is over and returns how many events were acknowledged. What is answered 503 is sent again.
func (b *bench) send(ctx context.Context, batches []batch, o *options) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := time.Now().Add(time.Duration(o.seconds) * time.Second)
	var next, events atomic.Int64
	var work sync.WaitGroup
	for range o.connections {
		work.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(batches) {
					return
				}
				n, err := b.sendOne(ctx, &batches[i], end)
				if err != nil {
					cancel(err)
					return
				}
				events.Add(int64(n))
			}
		})
	}
	work.Wait()
	return int(events.Load()), context.Cause(ctx)
}

func (b *bench) sendOne(ctx context.Context, one *batch, end time.Time) (int, error) {
	for {
		status, answer, err := b.call(ctx, http.MethodPost, b.base+"/v1/events", proxyKey, one.packed)
		if err != nil {
			return 0, err
		}
		if status == http.StatusServiceUnavailable {
			b.busy.Add(1)
			if time.Now().After(end) {
				return 0, nil
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var r struct {
			Accepted int
			Rejected []any
		}
		if err := json.Unmarshal(answer, &r); status != http.StatusAccepted || err != nil || r.Accepted != one.events {
			return 0, fmt.Errorf("a batch is answered %d %.500s (%v)", status, answer, err)
		}
		return r.Accepted, nil
	}
}

// drained waits until the queue is empty.
func (b *bench) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		status, answer, err := b.call(ctx, http.MethodGet, b.base+"/v1/queue", operatorKey, nil)
		var q struct{ Batches, DeadLetters int }
		switch {
		case err != nil:
			return fmt.Errorf("waiting for the queue: %w", err)
		case status == http.StatusOK:
			if err := json.Unmarshal(answer, &q); err != nil {
				return err
			}
			if q.DeadLetters > 0 {
				return fmt.Errorf("there are %d dead letters", q.DeadLetters)
			}
			if q.Batches == 0 {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// metric returns a counter of ai-service.
func (b *bench) metric(ctx context.Context, name string) (int, error) {
	_, answer, err := b.call(ctx, http.MethodGet, b.private+"/metrics", "", nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(answer)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// profile keeps a CPU profile of the time in which events are sent.
func (b *bench) profile(ctx context.Context, o *options) error {
	status, text, err := b.call(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.private, max(1, o.seconds-1)), operatorKey, nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("profile: %d %.200s %w", status, text, err)
	}
	return os.WriteFile(o.profile, text, 0o644)
}

// freeAddresses returns two loopback addresses on which nothing listens.
func freeAddresses() (string, string, error) {
	var addresses [2]string
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer l.Close() // kept until both are chosen
		addresses[i] = l.Addr().String()
	}
	return addresses[0], addresses[1], nil
}

// startRedis starts a redis-server on a socket in the directory.
func startRedis(ctx context.Context, dir, fsync string) (socket string, pid int, stop func(), err error) {
	socket = filepath.Join(dir, "redis.sock")
	c := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", fsync)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = c.Wait()                          // its data is thrown away
	}
	for give := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			return socket, c.Process.Pid, stop, l.Close()
		}
		if time.Now().After(give) || ctx.Err() != nil {
			stop()
			return "", 0, nil, fmt.Errorf("redis-server: %w\n%s", err, &said)
		}
	}
}

// postmaster returns the process id of a PostgreSQL server.
func postmaster(s *testserver.PostgresServer) (int, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strconv.Atoi(first)
}

// cpuTimes is the CPU time that each group of processes and their children have taken, and that of this one, in seconds.
func cpuTimes(groups map[string][]int) (map[string]float64, error) {
	times := map[string]float64{}
	for name, pids := range groups {
		for _, pid := range pids {
			own, err := process.CPUTime(pid, true)
			if err != nil {
				return nil, err
			}
			times[name] += own
			for _, child := range process.Children(pid) {
				if t, err := process.CPUTime(child, false); err == nil { // one that has ended is in its parent's time
					times[name] += t
				}
			}
		}
	}
	own, err := process.CPUTime(os.Getpid(), false)
	times["client"] = own
	return times, err
}

// peakMemory is the most that a process has had resident, in bytes; 0 if that cannot be told.
func peakMemory(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// spread is the median and, in brackets, the least and the most.
func spread(results []*result, format string, of func(*result) float64) string {
	var v []float64
	for _, r := range results {
		v = append(v, of(r))
	}
	slices.Sort(v)
	return fmt.Sprintf(format+" ("+format+"–"+format+")", v[len(v)/2], v[0], v[len(v)-1])
}

func report(pairs []string, results map[string][]*result, o *options) {
	fmt.Printf("\n%d cores for everything, %d rounds of %d s, batches of %d events over %d connections; Redis: appendfsync %s; medians, in brackets the range\n\n",
		runtime.NumCPU(), o.rounds, o.seconds, batchEvents, o.connections, o.fsync)
	fmt.Println("| stores | acknowledged/s | archived/s | 503 | CPU s per 1,000 events: ai-service | Redis | PostgreSQL | client | memory MiB |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, pair := range pairs {
		rs := results[pair]
		cpu := func(name string) string {
			if _, ok := rs[0].cpu[name]; !ok {
				return "–"
			}
			return spread(rs, "%.4f", func(r *result) float64 { return r.cpu[name] })
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", pair,
			spread(rs, "%.0f", func(r *result) float64 { return r.acknowledged }), spread(rs, "%.0f", func(r *result) float64 { return r.archived }),
			spread(rs, "%.0f", func(r *result) float64 { return float64(r.busy) }),
			cpu("ai-service"), cpu("Redis"), cpu("PostgreSQL"), cpu("client"), spread(rs, "%.0f", func(r *result) float64 { return r.memory }))
	}
}
