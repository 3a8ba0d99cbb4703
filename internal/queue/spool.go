package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
	"github.com/sony/gobreaker/v2"
)

// SpoolOptions are a Spool's optional parts.
type SpoolOptions struct {
	// Timeout is how long Append waits for the primary queue; 0: 500 ms.
	Timeout time.Duration
	// Pause is for how long, after a failure of the primary queue, batches go to disk without asking it; 0: 1 s.
	Pause time.Duration
	// MaxBackoff bounds the growing pauses of Run and Next while the primary queue is away; 0: 2 s.
	MaxBackoff time.Duration
	Now        func() time.Time // nil: time.Now
	Log        *slog.Logger     // nil: nothing is logged
}

// Spool is a primary queue, such as one across a network, with a queue on the local disk that takes over while it
// is away or full. [Spool.Run] brings back what lies on disk, in its order; what arrives meanwhile may overtake it. Everything but
// Append and Depth is the primary queue's.
//
// A batch may be there twice when an answer of the primary queue was lost: at least once holds for Append too.
type Spool struct {
	primary, disk Queue
	o             SpoolOptions
	breaker       *gobreaker.CircuitBreaker[struct{}]
	away          *telemetry.State // the primary, for Append and Run
	unread        *telemetry.State // the primary, for Next
	broken        *telemetry.State // the disk, for Run

	spooled, moved atomic.Uint64
}

var _ Queue = (*Spool)(nil)

// NewSpool returns a Spool of two queues. The disk's must be used by nobody else.
func NewSpool(primary, disk Queue, o SpoolOptions) *Spool {
	for _, d := range []struct {
		v       *time.Duration
		missing time.Duration
	}{{&o.Timeout, 500 * time.Millisecond}, {&o.Pause, time.Second}, {&o.MaxBackoff, 2 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.missing
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Spool{
		primary: primary, disk: disk, o: o,
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Name: "queue", Timeout: o.Pause,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures > 0 },
			// Who gave up waiting says nothing about the queue.
			IsExcluded: func(err error) bool { return errors.As(err, new(*callerError)) },
		}),
		away:   telemetry.NewState(o.Log, "the queue cannot be reached: events are kept on disk", "events are queued again", o.Now),
		unread: telemetry.NewState(o.Log, "the queue cannot be read", "the queue is read again", o.Now),
		broken: telemetry.NewState(o.Log, "events kept on disk cannot be read", "events kept on disk are read again", o.Now),
	}
}

// callerError is the end of the caller's context.
type callerError struct{ error }

func (e *callerError) Unwrap() error { return e.error }

// SpoolStats counts what a Spool has done since it was made.
type SpoolStats struct {
	Spooled uint64 // batches that went to disk
	Moved   uint64 // batches that came back from there
	Away    bool   // whether the primary queue did not take the last batch it was given
}

// Stats returns what the Spool has done.
func (s *Spool) Stats() SpoolStats {
	return SpoolStats{Spooled: s.spooled.Load(), Moved: s.moved.Load(), Away: s.away.Failing()}
}

// toPrimary gives a batch to the primary queue unless that has just failed.
func (s *Spool) toPrimary(ctx context.Context, b Batch) error {
	asked := false
	_, err := s.breaker.Execute(func() (struct{}, error) {
		asked = true
		limited, cancel := context.WithTimeout(ctx, s.o.Timeout)
		defer cancel()
		err := s.primary.Append(limited, b)
		if err != nil && ctx.Err() != nil {
			err = &callerError{err}
		}
		return struct{}{}, err
	})
	switch {
	case !asked:
		err = errors.Join(err, s.away.Err())
	case !errors.As(err, new(*callerError)):
		s.away.Report(err)
	}
	return err
}

// Append adds a batch to the primary queue, or to the one on disk when that is away, slow or full. The error
// is both queues'.
func (s *Spool) Append(ctx context.Context, b Batch) error {
	if err := b.Check(); err != nil {
		return fmt.Errorf("queueing: %w", err)
	}
	first := s.toPrimary(ctx, b)
	if first == nil {
		return nil
	}
	if ctx.Err() != nil {
		return first
	}
	if err := s.disk.Append(ctx, b); err != nil {
		return fmt.Errorf("%w; keeping it on disk: %w", first, err)
	}
	s.spooled.Add(1)
	return nil
}

// moveAtOnce is how many batches Run takes from the disk at a time.
const moveAtOnce = 16

// Run moves batches from the disk to the primary queue until ctx ends, and returns its error. A batch leaves the disk
// after the primary queue has taken it. Call it once at a time.
func (s *Spool) Run(ctx context.Context) error {
	for wait := (backoff{most: s.o.MaxBackoff}); ; {
		batches, err := s.disk.Next(ctx, moveAtOnce)
		if err == nil {
			err = s.move(ctx, batches)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.broken.Report(err)
		if err == nil {
			wait.n = 0
			continue
		}
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}

// move gives batches to the primary queue, each until it has been taken. The error is the disk's or ctx's; what was not moved
// is released then.
func (s *Spool) move(ctx context.Context, batches []Batch) error {
	wait := backoff{most: s.o.MaxBackoff}
	for i := 0; i < len(batches); {
		b := batches[i]
		id := b.ID
		b.ID, b.Attempts = "", 0
		err := s.toPrimary(ctx, b)
		if err == nil {
			if err = s.disk.Ack(ctx, id); err == nil {
				s.moved.Add(1)
				wait.n = 0
				i++
				continue
			}
		} else if err = wait.sleep(ctx); err == nil {
			continue
		}
		var rest []string
		for _, b := range batches[i:] {
			rest = append(rest, b.ID)
		}
		return errors.Join(err, s.disk.Release(context.WithoutCancel(ctx), rest...))
	}
	return nil
}

// backoff makes pauses that grow from 20 ms to most, each with some chance in it, so that not all come back at once.
type backoff struct {
	most time.Duration
	n    int
}

// sleep waits and returns ctx's error if that ends first.
func (b *backoff) sleep(ctx context.Context) error {
	d := min(20*time.Millisecond<<min(b.n, 16), b.most)
	b.n++
	if !wait.For(ctx, d/2+rand.N(d/2+1)) {
		return ctx.Err()
	}
	return nil
}

// Next hands out batches of the primary queue. While that is away it tries again until ctx ends.
func (s *Spool) Next(ctx context.Context, limit int) ([]Batch, error) {
	if limit < 1 {
		return nil, fmt.Errorf("taking %d batches from the queue", limit)
	}
	for wait := (backoff{most: s.o.MaxBackoff}); ; {
		batches, err := s.primary.Next(ctx, limit)
		if ctx.Err() != nil && err != nil {
			return nil, ctx.Err()
		}
		s.unread.Report(err)
		if err == nil {
			return batches, nil
		}
		if err := wait.sleep(ctx); err != nil {
			return nil, err
		}
	}
}

// Ack removes batches from the primary queue.
func (s *Spool) Ack(ctx context.Context, ids ...string) error { return s.primary.Ack(ctx, ids...) }

// Release makes batches of the primary queue available again.
func (s *Spool) Release(ctx context.Context, ids ...string) error {
	return s.primary.Release(ctx, ids...)
}

// Bury moves a batch of the primary queue to its dead letters.
func (s *Spool) Bury(ctx context.Context, id, reason string) error {
	return s.primary.Bury(ctx, id, reason)
}

// Dead returns the primary queue's dead letters.
func (s *Spool) Dead(ctx context.Context, after string, limit int) ([]DeadLetter, error) {
	return s.primary.Dead(ctx, after, limit)
}

// Replay puts dead letters back at the end of the primary queue.
func (s *Spool) Replay(ctx context.Context, ids ...string) (int, error) {
	return s.primary.Replay(ctx, ids...)
}

// Discard removes dead letters of the primary queue for good.
func (s *Spool) Discard(ctx context.Context, ids ...string) (int, error) {
	return s.primary.Discard(ctx, ids...)
}

// Depth returns what both queues hold; when the primary queue is away, what lies on disk and an error.
func (s *Spool) Depth(ctx context.Context) (Depth, error) {
	d, err := s.disk.Depth(ctx)
	p, primaryErr := s.primary.Depth(ctx)
	d.Batches += p.Batches
	d.Events += p.Events
	d.Bytes += p.Bytes
	d.Dead = p.Dead // those are the ones that Dead shows
	if d.Oldest.IsZero() || !p.Oldest.IsZero() && p.Oldest.Before(d.Oldest) {
		d.Oldest = p.Oldest
	}
	return d, errors.Join(err, primaryErr)
}
