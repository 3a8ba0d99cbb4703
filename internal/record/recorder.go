package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Options are the settings of a Recorder. Now and Random are required; the
// zero value of any other field takes what its comment says.
type Options struct {
	Sites       []string      // names of the sites that are counted apart
	SampleAllow float64       // share of plainly allowed requests that are kept as events, 0..1
	Queue       int           // most events waiting; 0: 8192
	QueueBytes  int64         // most bytes waiting; 0: 16 MiB
	Batch       int           // most events in one write; 0: 500
	Every       time.Duration // longest wait before a write; 0: 1 s
	// Share is how much of the time writing may take, 0..1; 0 or 1: all of it. A flood of refusals must cost
	// the record, not the processor that serves readers: what does not fit is dropped and counted.
	Share      float64
	Drain      time.Duration // time to write what is queued at shutdown; 0: 5 s
	MaxAge     time.Duration // events are kept for so long; 0: for ever
	MaxBytes   int64         // the archive is kept below this; 0: no limit
	PruneEvery time.Duration // time between the removals of old events; 0: 5 min

	Now    func() time.Time
	Random func() uint64 // for the sample; rand.Uint64 of math/rand/v2 will do
}

// After a failed write the recorder waits, first for minRetry and doubling up to maxRetry.
const (
	minRetry = time.Second
	maxRetry = time.Minute
)

// writeTime bounds one write. It is long enough to sit out a checkpoint that waits for a reader.
const writeTime = 30 * time.Second

// Recorder takes events and counts from the request path and writes them to an archive.
type Recorder struct {
	o       Options
	archive Archive
	sample  uint64 // a random number below this keeps an allowed request

	queue    chan queued
	bytes    atomic.Int64 // taken by what is queued
	counters counters
	pending  map[counterKey]uint64 // taken from counters, not yet written; owned by Run
	closed   atomic.Bool

	recorded, duplicates, dropped, failed, pruned atomic.Uint64

	writing, pruning, dropping *telemetry.State

	droppedSeen uint64 // owned by Run, as is lastDrop
	lastDrop    time.Time
}

type queued struct {
	event *defense.Event
	bytes int64
}

// New returns a recorder that writes to archive once Run is called.
func New(o Options, archive Archive, log *slog.Logger) *Recorder {
	setDefault(&o.Queue, 8192)
	setDefault(&o.QueueBytes, 16<<20)
	setDefault(&o.Batch, 500)
	setDefault(&o.Every, time.Second)
	setDefault(&o.Drain, 5*time.Second)
	setDefault(&o.PruneEvery, 5*time.Minute)
	return &Recorder{
		o: o, archive: archive,
		sample:   threshold(o.SampleAllow),
		queue:    make(chan queued, o.Queue),
		counters: newCounters(o.Sites),
		pending:  map[counterKey]uint64{},
		writing: telemetry.NewState(log, "events cannot be written to the archive; serving goes on, new events wait and are dropped when the queue is full",
			"events are written to the archive again", o.Now),
		pruning: telemetry.NewState(log, "old events cannot be removed from the archive; it may grow beyond its limits",
			"old events are removed from the archive again", o.Now),
		dropping: telemetry.NewState(log, "the event queue is full; events are dropped, counters stay exact",
			"the event queue has room again", o.Now),
	}
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func threshold(share float64) uint64 {
	switch {
	case !(share > 0):
		return 0
	case share >= 1:
		return math.MaxUint64
	}
	return uint64(share * (1 << 64))
}

// Wants reports whether a request with that verdict is to be recorded as an
// event: every one that was not plainly allowed, and a sample of the rest.
//
// When the queue is full it counts the event as dropped and says no: making an
// event only to drop it would cost most in the very flood in which it happens.
func (r *Recorder) Wants(v *defense.Verdict) bool {
	if v.Action == defense.Allow && v.Intended == defense.Allow && len(v.Shadow) == 0 && (r.sample == 0 || r.o.Random() > r.sample) {
		return false
	}
	if len(r.queue) == cap(r.queue) {
		r.dropped.Add(1)
		return false
	}
	return true
}

// Count adds one request of the site to the exact counters.
func (r *Recorder) Count(v *defense.Verdict, site string) { r.counters.add(v, site) }

// Record queues the event, which from then on belongs to the recorder. It never blocks: when the queue is
// full, or Run has ended, the event is dropped and counted.
func (r *Recorder) Record(e *defense.Event) {
	if r.closed.Load() || len(r.queue) == cap(r.queue) {
		r.dropped.Add(1)
		return
	}
	n := int64(Bound(e))
	if r.bytes.Add(n) <= r.o.QueueBytes {
		select {
		case r.queue <- queued{e, n}:
			return
		default:
		}
	}
	r.bytes.Add(-n)
	r.dropped.Add(1)
}

// Run writes what is recorded and removes what is too old, until ctx ends; then it
// writes what is still queued, for at most Options.Drain. The error says
// what could not be written. Run must be called once.
func (r *Recorder) Run(ctx context.Context) error {
	var pruner sync.WaitGroup
	pruner.Go(func() { r.prune(ctx) })
	defer pruner.Wait()
	defer r.closed.Store(true)

	// Writes go on for a while after ctx has ended, so that none is cut off in the middle.
	writing, cancel := lingering(ctx, r.o.Drain)
	defer cancel()
	batch := make([]*defense.Event, 0, r.o.Batch)
	wait := minRetry
	for ctx.Err() == nil {
		batch = r.fill(ctx, batch)
		began := time.Now()
		err := r.write(writing, batch)
		took := time.Since(began)
		r.reportDrops()
		if err != nil {
			sleep(ctx, wait)
			wait = min(2*wait, maxRetry)
			continue
		}
		wait = minRetry
		clear(batch)
		batch = batch[:0]
		if r.o.Share > 0 && r.o.Share < 1 {
			sleep(ctx, time.Duration(float64(took)*(1/r.o.Share-1)))
		}
	}
	return r.drain(writing, batch)
}

// lingering returns a context that ends d after ctx does.
func lingering(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { sleep(later, d); cancel() })
	return later, func() { stop(); cancel() }
}

// fill adds queued events to the batch until it is full, Options.Every has passed, or ctx ends.
func (r *Recorder) fill(ctx context.Context, batch []*defense.Event) []*defense.Event {
	timer := time.NewTimer(r.o.Every)
	defer timer.Stop()
	for len(batch) < r.o.Batch {
		select {
		case q := <-r.queue:
			batch = append(batch, r.take(q))
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

func (r *Recorder) take(q queued) *defense.Event {
	r.bytes.Add(-q.bytes)
	return q.event
}

// write stores the counts so far and the batch. After an error the counts are still
// pending and the batch may be written again.
func (r *Recorder) write(ctx context.Context, batch []*defense.Event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	err := r.writeCounters(ctx)
	if err == nil && len(batch) > 0 {
		var duplicates int
		if duplicates, err = r.archive.Append(ctx, batch); err == nil {
			r.recorded.Add(uint64(len(batch) - duplicates))
			r.duplicates.Add(uint64(duplicates))
		}
	}
	if err != nil {
		r.failed.Add(1)
	}
	r.writing.Report(err)
	return err
}

func (r *Recorder) writeCounters(ctx context.Context) error {
	r.counters.take(r.pending, r.o.Now())
	if len(r.pending) == 0 {
		return nil
	}
	list := make([]Counter, 0, len(r.pending))
	for k, n := range r.pending {
		list = append(list, Counter{Hour: k.hour, Site: k.site, Action: k.action, Intended: k.intended, Count: n})
	}
	if err := r.archive.AddCounters(ctx, list); err != nil {
		return err
	}
	clear(r.pending)
	return nil
}

// drain writes the batch and what is queued, and gives up when ctx ends.
func (r *Recorder) drain(ctx context.Context, batch []*defense.Event) error {
	for {
		for len(batch) < r.o.Batch && len(r.queue) > 0 {
			batch = append(batch, r.take(<-r.queue)) // Run is the only receiver
		}
		err := r.write(ctx, batch)
		switch {
		case err == nil && len(r.queue) == 0:
			return nil
		case err == nil:
			clear(batch)
			batch = batch[:0]
		default:
			sleep(ctx, min(minRetry, r.o.Drain/4))
		}
		if ctx.Err() != nil {
			if err == nil {
				err = ctx.Err()
			}
			lost := len(batch) + len(r.queue)
			r.dropped.Add(uint64(lost))
			return fmt.Errorf("writing the last events: %d not written within %s: %w", lost, r.o.Drain, err)
		}
	}
}

// prune removes old events now and then until ctx ends.
func (r *Recorder) prune(ctx context.Context) {
	if r.o.MaxAge <= 0 && r.o.MaxBytes <= 0 {
		return
	}
	for ctx.Err() == nil {
		n, err := r.archive.Prune(ctx, r.o.MaxAge, r.o.MaxBytes, r.o.Now())
		r.pruned.Add(uint64(n))
		if ctx.Err() == nil {
			r.pruning.Report(err)
		}
		sleep(ctx, r.o.PruneEvery)
	}
}

// quiet is how long no event may be dropped before that is said to be over.
const quiet = time.Minute

// reportDrops says when events begin to be dropped and when that is over.
func (r *Recorder) reportDrops() {
	now := r.o.Now()
	if n := r.dropped.Load(); n != r.droppedSeen {
		r.droppedSeen, r.lastDrop = n, now
		r.dropping.Report(errQueueFull)
	} else if now.Sub(r.lastDrop) >= quiet {
		r.dropping.Report(nil)
	}
}

var errQueueFull = errors.New("queue full")

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
