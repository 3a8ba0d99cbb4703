package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Options are the settings of a Recorder. Now and Random are required; the
// zero value of any other field takes what its comment says.
type Options struct {
	Sites       []string // names of the sites that are counted apart
	SampleAllow float64  // share of plainly allowed requests that are kept as events, 0..1
	// Observe has the plainly allowed requests beyond the sample recorded too, as transient events: the sink looks
	// at them and forgets them. They fill three quarters of the queue at most.
	Observe    bool
	Queue      int           // most events waiting; 0: 8192
	QueueBytes int64         // most bytes waiting; 0: 16 MiB
	Batch      int           // most events in one write; 0: 500
	Every      time.Duration // longest wait before a write; 0: 1 s
	// Share is how much of the time writing may take, 0..1; 0 or 1: all of it. A flood of refusals must cost
	// the record, not the processor that serves readers: what does not fit is dropped and counted.
	Share float64
	Drain time.Duration // time to write what is queued at shutdown; 0: 5 s

	Now    func() time.Time
	Random func() uint64 // for the sample; rand.Uint64 of math/rand/v2 will do
	NewID  func() string // of sets of counters; nil: ULIDs of Now and Random
}

// After a failed write the recorder waits, first for minRetry and doubling up to maxRetry.
const (
	minRetry = time.Second
	maxRetry = time.Minute
)

// maxCounters is how many counters go in one set.
const maxCounters = 5_000

// writeTime bounds one write. It is long enough to sit out a checkpoint that waits for a reader.
const writeTime = 30 * time.Second

// Recorder takes events and counts from the request path and writes them to a sink.
type Recorder struct {
	o      Options
	sink   Sink
	sample uint64 // a random number below this keeps an allowed request

	queue     chan queued
	bytes     atomic.Int64 // taken by what is queued
	transient int          // no transient event is wanted while so many events are queued
	counters  counters
	pending   map[counterKey]uint64 // taken from counters, not yet in sending; owned by Run
	sending   counterSet            // on its way, until the sink has it; owned by Run
	closed    atomic.Bool

	recorded, observed, duplicates, dropped, unobserved, failed atomic.Uint64

	writing *telemetry.State
	drops   [2]lapse // of dropped and of unobserved; owned by Run
}

// counterSet is counts under the id that lets the sink know them again.
type counterSet struct {
	id   string
	list []Counter
}

type queued struct {
	event *defense.Event
	bytes int64
}

// New returns a recorder that writes to sink once Run is called.
func New(o Options, sink Sink, log *slog.Logger) *Recorder {
	setDefault(&o.Queue, 8192)
	setDefault(&o.QueueBytes, 16<<20)
	setDefault(&o.Batch, 500)
	setDefault(&o.Every, time.Second)
	setDefault(&o.Drain, 5*time.Second)
	if o.NewID == nil {
		o.NewID = id.New(o.Now, o.Random).Next
	}
	return &Recorder{
		o: o, sink: sink,
		sample:    threshold(o.SampleAllow),
		queue:     make(chan queued, o.Queue),
		transient: max(1, o.Queue/4*3),
		counters:  newCounters(o.Sites),
		pending:   map[counterKey]uint64{},
		writing: telemetry.NewState(log, "events cannot be written; serving goes on, new events wait and are dropped when the queue is full",
			"events are written again", o.Now),
		drops: [2]lapse{
			{state: telemetry.NewState(log, "the event queue is full; events are dropped, counters stay exact",
				"the event queue has room again", o.Now)},
			{state: telemetry.NewState(log, "there are more requests than can be looked at; campaigns are looked for in a part of them",
				"all requests are looked at again", o.Now)},
		},
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

// Wants reports how a request with that verdict is to be recorded: every one that was not
// plainly allowed, and a sample of the rest, to be kept; with Options.Observe, what is left to be looked at.
//
// When the queue has no room it counts the event as dropped or unobserved and says None: making an
// event only to drop it would cost most in the very flood in which it happens.
func (r *Recorder) Wants(v *defense.Verdict) Want {
	if v.Action == defense.Allow && v.Intended == defense.Allow && len(v.Shadow) == 0 && (r.sample == 0 || r.o.Random() > r.sample) {
		switch {
		case !r.o.Observe:
			return None
		case len(r.queue) >= r.transient || r.bytes.Load() >= r.o.QueueBytes/4*3:
			r.unobserved.Add(1)
			return None
		}
		return Transient
	}
	if len(r.queue) == cap(r.queue) {
		r.dropped.Add(1)
		return None
	}
	return Keep
}

// Count adds one request of the site to the exact counters.
func (r *Recorder) Count(v *defense.Verdict, site string) { r.counters.add(v, site) }

// Record queues the event, which from then on belongs to the recorder. It never blocks: when the queue is
// full, or Run has ended, the event is dropped and counted.
func (r *Recorder) Record(e *defense.Event) {
	if r.closed.Load() || len(r.queue) == cap(r.queue) {
		r.lose(e)
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
	r.lose(e)
}

// lose counts an event that nobody will see.
func (r *Recorder) lose(e *defense.Event) {
	if e.Transient {
		r.unobserved.Add(1)
	} else {
		r.dropped.Add(1)
	}
}

// Run writes what is recorded until ctx ends; then it writes what is still queued, for at most
// Options.Drain. The error says what could not be written. Run must be called once.
func (r *Recorder) Run(ctx context.Context) error {
	defer r.closed.Store(true)

	// Writes go on for a while after ctx has ended, so that none is cut off in the middle.
	writing, cancel := lingering(ctx, r.o.Drain)
	defer cancel()
	batch := make([]*defense.Event, 0, r.o.Batch)
	pause := minRetry
	for ctx.Err() == nil {
		batch = r.fill(ctx, batch)
		began := time.Now()
		err := r.write(writing, batch)
		took := time.Since(began)
		r.reportDrops()
		if err != nil {
			wait.For(ctx, max(pause, asked(err)))
			pause = min(2*pause, maxRetry)
			continue
		}
		pause = minRetry
		clear(batch)
		batch = batch[:0]
		if r.o.Share > 0 && r.o.Share < 1 {
			wait.For(ctx, time.Duration(float64(took)*(1/r.o.Share-1)))
		}
	}
	return r.drain(writing, batch)
}

// asked returns how long the sink asks to be left alone, 0 if it does not.
func asked(err error) time.Duration {
	var busy interface{ RetryAfter() time.Duration }
	if !errors.As(err, &busy) {
		return 0
	}
	return min(busy.RetryAfter(), maxRetry)
}

// lingering returns a context that ends d after ctx does.
func lingering(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { wait.For(later, d); cancel() })
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

// write stores the counts so far and the batch. After an error both may be written again.
func (r *Recorder) write(ctx context.Context, batch []*defense.Event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	err := r.writeCounters(ctx)
	if err == nil && len(batch) > 0 {
		var duplicates int
		if duplicates, err = r.sink.Append(ctx, batch); err == nil {
			transient := 0
			for _, e := range batch {
				if e.Transient {
					transient++
				}
			}
			r.observed.Add(uint64(transient))
			r.recorded.Add(uint64(max(0, len(batch)-transient-duplicates)))
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
	// A set that failed may have been counted all the same, when only the answer was lost. So it goes again
	// as it was, under its id, and what was counted since goes by itself.
	for len(r.sending.list) > 0 || len(r.pending) > 0 {
		if len(r.sending.list) == 0 {
			r.sending = counterSet{r.o.NewID(), make([]Counter, 0, min(len(r.pending), maxCounters))}
			for k, n := range r.pending {
				if len(r.sending.list) == maxCounters {
					break
				}
				r.sending.list = append(r.sending.list, Counter{Hour: k.hour, Site: k.site, Action: k.action, Intended: k.intended, Count: n})
				delete(r.pending, k)
			}
		}
		if err := r.sink.AddCounters(ctx, r.sending.id, r.sending.list); err != nil {
			return err
		}
		r.sending = counterSet{}
	}
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
			wait.For(ctx, min(minRetry, r.o.Drain/4))
		}
		if ctx.Err() != nil {
			if err == nil {
				err = ctx.Err()
			}
			lost := len(batch) + len(r.queue)
			for _, e := range batch {
				r.lose(e)
			}
			for len(r.queue) > 0 {
				r.lose(r.take(<-r.queue))
			}
			return fmt.Errorf("writing the last events: %d not written within %s: %w", lost, r.o.Drain, err)
		}
	}
}

// quiet is how long no event may be dropped before that is said to be over.
const quiet = time.Minute

// lapse is a loss that lasts.
type lapse struct {
	state *telemetry.State
	seen  uint64
	last  time.Time
}

// report says when events begin to be lost and when that is over.
func (l *lapse) report(lost uint64, now time.Time) {
	if lost != l.seen {
		l.seen, l.last = lost, now
		l.state.Report(errQueueFull)
	} else if now.Sub(l.last) >= quiet {
		l.state.Report(nil)
	}
}

func (r *Recorder) reportDrops() {
	now := r.o.Now()
	r.drops[0].report(r.dropped.Load(), now)
	r.drops[1].report(r.unobserved.Load(), now)
}

var errQueueFull = errors.New("queue full")
