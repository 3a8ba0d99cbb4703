package intake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// After a failure the keeper waits, first for minRetry and doubling up to maxRetry.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 10 * time.Second
)

// archiveTime bounds one write to the archive.
const archiveTime = 30 * time.Second

// Bounds of what the keeper works on.
const (
	keepAtOnce  = 16             // batches taken from the queue at once
	groupEvents = MaxBatchEvents // written to the archive at once
	groupBytes  = 32 << 20       // likewise; one batch is always written
	heldBatches = 2 * keepAtOnce // batches in hand beyond which no more are taken while the archive fails
	heldBytes   = 2 * groupBytes // likewise
	lookTime    = time.Second    // for which a failing keeper waits for further batches
	releaseTime = 2 * time.Second
)

// maxRefusals is how often the archive may refuse a batch, each time while it takes others, until the batch is put aside.
const maxRefusals = 3

// held is a batch that the keeper has in hand.
type held struct {
	batch    queue.Batch // without its body, once that is open
	lot      *lot
	counters *CounterBatch
	damage   error // why not all of it can be read
	err      error // why it could not be archived
	refusals int
}

func (h *held) events() []*defense.Event {
	if h.lot == nil {
		return nil
	}
	return h.lot.events
}

// keeper moves what is queued into the archive. A batch leaves the queue when the archive has it.
type keeper struct {
	*Service
	pending []*held // could not be archived yet
	first   int     // place in a group at which trying one by one begins
	wait    time.Duration
}

// keep archives until ctx ends.
func (s *Service) keep(ctx context.Context) error {
	k := &keeper{Service: s, wait: minRetry}
	defer k.release(ctx)
	for ctx.Err() == nil {
		batches, err := k.next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.states.queue.Report(err)
				pause(ctx, &k.wait)
			}
			continue
		}
		s.states.queue.Report(nil)
		k.work(ctx, batches)
	}
	return nil
}

// next returns batches of the queue. While others could not be archived it only looks whether there are some: that these
// can be archived is how a batch that never will be is told from an archive that is away.
func (k *keeper) next(ctx context.Context) ([]queue.Batch, error) {
	if len(k.pending) == 0 {
		return k.o.Queue.Next(ctx, keepAtOnce)
	}
	pause(ctx, &k.wait)
	weight := int64(0)
	for _, h := range k.pending {
		weight += h.weight()
	}
	if len(k.pending) >= heldBatches || weight >= heldBytes {
		return nil, nil
	}
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	batches, err := k.o.Queue.Next(looking, 1)
	if err != nil && looking.Err() != nil {
		err = nil // there is none
	}
	return batches, err
}

// work opens batches and archives them in groups.
func (k *keeper) work(ctx context.Context, batches []queue.Batch) {
	group := k.pending
	k.pending = nil
	events, weight := 0, int64(0)
	for i := range batches {
		if ctx.Err() != nil {
			k.pending = append(k.pending, &held{batch: batches[i]})
			continue
		}
		h := k.open(ctx, batches[i])
		batches[i].Body = nil
		if h == nil {
			continue
		}
		n := len(h.events())
		if events > 0 && (events+n > groupEvents || weight+h.weight() > groupBytes) {
			k.archive(ctx, group)
			group, k.pending, events, weight = k.pending, nil, 0, 0
		}
		group, events, weight = append(group, h), events+n, weight+h.weight()
	}
	k.archive(ctx, group)
}

func (h *held) weight() int64 {
	if h.lot == nil {
		return 0
	}
	return h.lot.weight
}

// archives reports whether there is anything for the archive in it.
func (h *held) archives() bool {
	return h.counters != nil || slices.ContainsFunc(h.events(), func(e *defense.Event) bool { return !e.Transient })
}

// archive stores a group and acknowledges what was stored. What was not is pending, or put aside.
func (k *keeper) archive(ctx context.Context, group []*held) {
	if len(group) == 0 {
		return
	}
	stored, failed := k.store(ctx, group)
	if ctx.Err() != nil { // what was stored is known again by its ids
		k.pending = append(k.pending, group...)
		return
	}
	works := slices.ContainsFunc(stored, (*held).archives)
	switch {
	case works:
		k.states.archive.Report(nil)
	case len(failed) > 0:
		k.states.archive.Report(failed[0].err)
	}
	var done, aside []*held
	for _, h := range stored {
		if h.damage != nil {
			aside = append(aside, h) // what can be read of it is archived
		} else {
			done = append(done, h)
		}
	}
	if !k.ack(ctx, done) {
		k.pending = append(k.pending, done...)
	}
	for _, h := range failed {
		if works {
			h.refusals++
		}
		if h.refusals >= maxRefusals {
			h.damage = fmt.Errorf("the archive refuses it: %w", h.err)
			aside = append(aside, h)
			continue
		}
		k.pending = append(k.pending, h)
	}
	for _, h := range aside {
		k.bury(ctx, &h.batch, h.damage)
	}
	if len(k.pending) == 0 || works {
		k.wait = minRetry
	}
}

// store writes a group to the archive: those that it has not refused yet at once, or, when that fails, one by one, and the others one by
// one. When some have failed and none has succeeded it stops: then it is the archive that is wrong.
func (k *keeper) store(ctx context.Context, group []*held) (stored, failed []*held) {
	const enough = 3
	tried, works := 0, false
	try := func(list []*held) {
		if len(list) == 0 {
			return
		}
		var err error
		if ctx.Err() == nil && (works || tried < enough) {
			tried++
			if err = k.write(ctx, list); err == nil {
				stored = append(stored, list...)
				works = works || slices.ContainsFunc(list, (*held).archives)
				return
			}
		}
		for _, h := range list {
			if err != nil || h.err == nil {
				h.err = cmp.Or(err, errUntried)
			}
		}
		failed = append(failed, list...)
	}
	var fresh, refused []*held
	for _, h := range group {
		if h.err == nil {
			fresh = append(fresh, h)
		} else {
			refused = append(refused, h)
		}
	}
	if try(fresh); len(failed) > 1 {
		failed, refused = nil, append(fresh, refused...)
	}
	k.first++ // another one than the last time, lest the same few are always in the way
	for i := range refused {
		at := (k.first + i) % len(refused)
		try(refused[at : at+1])
	}
	// In the order of the queue again.
	slices.SortFunc(failed, func(a, b *held) int { return slices.Index(group, a) - slices.Index(group, b) })
	return stored, failed
}

// errUntried says that there was no use in trying.
var errUntried = errors.New("the archive fails")

// write writes a group to the archive once. The casebook has observed the events before: the archive changes them.
func (k *keeper) write(ctx context.Context, group []*held) error {
	var events []*defense.Event
	var oldest time.Time
	for _, h := range group {
		if h.lot != nil {
			if err := h.lot.wait(ctx); err != nil {
				return err
			}
		}
		for _, e := range h.events() {
			if !e.Transient {
				events = append(events, e)
			}
		}
		if oldest.IsZero() || h.batch.At.Before(oldest) {
			oldest = h.batch.At
		}
	}
	if k.o.Archive == nil {
		return nil
	}
	writing, cancel := context.WithTimeoutCause(ctx, archiveTime, fmt.Errorf("the archive did not answer within %s", archiveTime))
	defer cancel()
	for _, h := range group {
		if c := h.counters; c != nil {
			if err := k.o.Archive.AddCountersOnce(writing, c.ID, c.Counters); err != nil {
				return fmt.Errorf("count: %w", err)
			}
		}
	}
	if len(events) > 0 {
		duplicates, err := k.o.Archive.Append(writing, events)
		if err != nil {
			return fmt.Errorf("archive events: %w", err)
		}
		k.stats.archived.Add(uint64(max(0, len(events)-duplicates)))
	}
	k.stats.lastLag.Store(int64(max(0, k.o.Now().Sub(oldest))))
	return nil
}

// ack removes batches from the queue. It tries until it has succeeded or ctx ends, and reports whether it has.
func (k *keeper) ack(ctx context.Context, list []*held) bool {
	if len(list) == 0 {
		return true
	}
	ids := make([]string, len(list))
	for i, h := range list {
		ids[i] = h.batch.ID
	}
	return k.insist(ctx, func() error { return k.o.Queue.Ack(ctx, ids...) })
}

// insist calls fn until it succeeds or ctx ends, and reports whether it did.
func (k *keeper) insist(ctx context.Context, fn func() error) bool {
	for next := minRetry; ctx.Err() == nil; pause(ctx, &next) {
		err := fn()
		if err == nil {
			k.states.queue.Report(nil)
			return true
		}
		if ctx.Err() == nil {
			k.states.queue.Report(err)
		}
	}
	return false
}

// errBody says that a batch cannot be read: it goes to the dead letters, where the owner can look at it.
var errBody = errors.New("the batch cannot be read")

// open decodes a batch, and shows its events to the casebook if that has not seen them. It returns nil for
// one that was put aside, or when ctx ends.
func (k *keeper) open(ctx context.Context, b queue.Batch) *held {
	h := &held{batch: b}
	h.batch.Body = nil
	if err := k.read(ctx, h, b.Body); err != nil {
		if len(h.events()) == 0 {
			k.bury(ctx, &h.batch, err)
			return nil
		}
		h.damage = err // what can be read of it is archived, and the whole kept
	}
	return h
}

func (k *keeper) read(ctx context.Context, h *held, body []byte) error {
	if len(body) == 0 {
		return fmt.Errorf("%w: it is empty", errBody)
	}
	switch body[0] {
	case bodyCounters:
		h.counters = new(CounterBatch)
		err := json.Unmarshal(body[1:], h.counters)
		if err == nil {
			err = h.counters.check()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBody, err)
		}
		return nil
	case bodyEvents:
	default:
		return fmt.Errorf("%w: it is of the unknown kind %q", errBody, body[0])
	}
	key := k.key(body)
	var problem error
	if h.lot = k.memory.takeBack(key); h.lot == nil {
		events, err := k.codec.unpack(body)
		if err != nil {
			problem = fmt.Errorf("%w: %w", errBody, err)
		}
		h.lot = &lot{events: events, weight: weigh(events)}
	}
	_ = k.present(ctx, key, h.lot) // its error is the end of ctx, which whoever archives will notice
	return problem
}

// bury puts a batch that cannot be read or archived aside. Without that it would be handed out for ever.
func (k *keeper) bury(ctx context.Context, b *queue.Batch, reason error) {
	if ctx.Err() != nil {
		return // it was interrupted, nothing is wrong with it
	}
	k.o.Log.Error("a batch is put aside; see quickthorn dead-letters", "id", b.ID, "source", b.Source, "events", b.Events, "error", reason)
	buried := k.insist(ctx, func() error {
		if err := k.o.Queue.Bury(ctx, b.ID, reason.Error()); !errors.Is(err, queue.ErrUnknown) {
			return err
		}
		return nil
	})
	if buried {
		k.stats.buried.Add(1)
		k.raise(deadLetter(b, reason, k.o.Now()))
	}
}

// release gives back what is in hand at the end, for who uses the queue next.
func (k *keeper) release(ctx context.Context) {
	if len(k.pending) == 0 {
		return
	}
	ids := make([]string, len(k.pending))
	for i, h := range k.pending {
		ids[i] = h.batch.ID
	}
	giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := k.o.Queue.Release(giving, ids...); err != nil {
		k.o.Log.Debug("giving batches back to the queue", "error", err) // they are handed out again after a restart
	}
}

// pause waits and doubles the next wait.
func pause(ctx context.Context, next *time.Duration) {
	wait.For(ctx, *next)
	*next = min(2**next, maxRetry)
}
