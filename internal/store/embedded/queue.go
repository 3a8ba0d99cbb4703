package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	"go.etcd.io/bbolt"
)

// QueueFileName is the name of the queue's file in the data directory.
const QueueFileName = "queue.db"

// DefaultQueueBytes bounds the queue when nothing else is said, in bytes.
const DefaultQueueBytes = 1 << 30

// queueFormat is what the layout of the queue's file is called; see formatVersion.
const queueFormat = 1

// batchCost is what a batch counts against the bound beside its body, in bytes: many small batches fill a disk too.
const batchCost = 256

// maxHandOut bounds the bodies that Next and Dead read at once, in bytes; one batch is always read.
const maxHandOut = 32 << 20

// maxMove is how many dead letters one transaction replays or discards.
const maxMove = 1000

// queuePage is the size of a page of a queue file, in bytes.
const queuePage = 16 << 10

// shrinkAbove is the size of a queue file, in bytes, that is made anew when it is opened with nothing in it: bbolt gives nothing back.
const shrinkAbove = 64 << 20

// The queue's buckets. A body stays where it is until its batch is acknowledged or discarded.
var (
	bucketWaiting = []byte("waiting") // sequence, big-endian: entry
	bucketDead    = []byte("dead")    // sequence, big-endian: entry
	bucketBodies  = []byte("bodies")  // the sequence its batch had at first: body
)

// Queue is a queue.Queue in a file of its own, so that a backlog does not slow down decisions. Appends and
// acknowledgements that come at once share one write to the disk.
type Queue struct {
	file   *file
	writer *writer
	max    int64
	now    func() time.Time
	counts *telemetry.State // whether attempts can be counted on disk
	turn   chan struct{}    // held by who is in Next

	mu       sync.Mutex
	live     tally
	dead     tally
	reserved int64          // bytes of batches that are being appended
	cursor   uint64         // the highest sequence that was handed out
	out      map[uint64]int // handed out and not acknowledged: how often by now
	released map[uint64]int // to be handed out again: how often before
	uncount  map[uint64]int // attempts that are not on disk yet
	changed  chan struct{}  // closed when there may be something to hand out
}

// tally is what a bucket of entries holds.
type tally struct {
	batches, events int
	bytes           int64
}

func (t *tally) add(e *entry, n int) {
	t.batches += n
	t.events += n * e.events
	t.bytes += int64(n) * int64(e.size)
}

func (t *tally) cost() int64 { return t.bytes + int64(t.batches)*batchCost }

var _ queue.Queue = (*Queue)(nil)

// openQueue opens the queue's file at path and makes it if there is none.
func openQueue(ctx context.Context, path string, max int64, now func() time.Time, log *slog.Logger) (*Queue, error) {
	f, live, dead, err := openQueueFile(ctx, path)
	if err != nil {
		return nil, err
	}
	if live.batches == 0 && dead.batches == 0 {
		if f, err = shrink(ctx, f, shrinkAbove); err != nil {
			return nil, err
		}
	}
	q := &Queue{
		file: f, max: max, now: now,
		counts: telemetry.NewState(log, "attempts at queued batches are counted in memory only", "attempts at queued batches are counted on disk again", now),
		turn:   make(chan struct{}, 1),
		live:   live, dead: dead,
		out: map[uint64]int{}, released: map[uint64]int{}, uncount: map[uint64]int{},
		changed: make(chan struct{}),
	}
	q.writer = newWriter(f, q.countOp)
	return q, nil
}

// openQueueFile opens a queue's file and counts what is in it.
func openQueueFile(ctx context.Context, path string) (f *file, live, dead tally, err error) {
	// Every write also writes the list of free pages. Larger pages keep that short after a long backlog was worked through. (Without
	// the list, bbolt would look for free pages when it opens the file, and crash the process if that is damaged.)
	f, err = openFile(ctx, path, ErrQueueCorrupt, &bbolt.Options{PageSize: queuePage}, prepareQueue)
	if err != nil {
		return nil, live, dead, err
	}
	err = f.view(ctx, func(tx *bbolt.Tx) error {
		return errors.Join(count(ctx, tx, bucketWaiting, &live), count(ctx, tx, bucketDead, &dead))
	})
	if err != nil {
		return nil, live, dead, errors.Join(err, f.Close())
	}
	return f, live, dead, nil
}

func prepareQueue(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketWaiting, bucketDead, bucketBodies} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	raw := meta.Get(keyFormat)
	switch {
	case raw == nil:
		return putUint(meta, keyFormat, queueFormat)
	case len(raw) != 8:
		return fmt.Errorf("%w: a format of %d bytes", ErrQueueCorrupt, len(raw))
	case binary.BigEndian.Uint64(raw) > queueFormat:
		return fmt.Errorf("%w: format %d, known is %d", ErrNewer, binary.BigEndian.Uint64(raw), queueFormat)
	}
	return nil
}

// count adds the entries of a bucket to t.
func count(ctx context.Context, tx *bbolt.Tx, name []byte, t *tally) error {
	c := tx.Bucket(name).Cursor()
	n := 0
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if n++; n%ctxEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if len(k) != 8 {
			return fmt.Errorf("%w: a key of %d bytes", ErrQueueCorrupt, len(k))
		}
		e, err := readEntry(k, v)
		if err != nil {
			return err
		}
		t.add(&e, 1)
	}
	return nil
}

func readEntry(k, v []byte) (entry, error) {
	e, err := parseEntry(v)
	if err != nil {
		return e, fmt.Errorf("%w: batch %x: %w", ErrQueueCorrupt, k, err)
	}
	return e, nil
}

// shrink makes a file of more than above bytes anew that has nothing in it. Its sequences go on, so that no id comes twice.
func shrink(ctx context.Context, f *file, above int64) (*file, error) {
	info, err := os.Stat(f.path)
	if err != nil || info.Size() <= above {
		return f, errors.Join(err, closeOn(err, f))
	}
	var sequences [3]uint64
	names := [...][]byte{bucketWaiting, bucketDead, bucketBodies}
	err = f.view(ctx, func(tx *bbolt.Tx) error {
		for i, name := range names {
			sequences[i] = tx.Bucket(name).Sequence()
		}
		return nil
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	// The new file is complete before it takes the place of the old one.
	temporary := f.path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("shrinking %s: %w", f.path, err)
	}
	fresh, _, _, err := openQueueFile(ctx, temporary)
	if err != nil {
		return nil, err
	}
	err = fresh.update(ctx, func(tx *bbolt.Tx) error {
		for i, name := range names {
			if err := tx.Bucket(name).SetSequence(sequences[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, fresh.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, f.path); err != nil {
		return nil, fmt.Errorf("shrinking %s: %w", f.path, err)
	}
	f, _, _, err = openQueueFile(ctx, f.path)
	return f, err
}

// closeOn closes f if err is not nil.
func closeOn(err error, f *file) error {
	if err == nil {
		return nil
	}
	return f.Close()
}

// syncDir makes the names in a directory durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the data directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("writing the data directory %s: %w", filepath.Clean(dir), err)
	}
	return nil
}

// close waits for what is being written and closes the file.
func (q *Queue) close() error {
	q.writer.close()
	return q.file.Close()
}

// A batch's id is its sequence; a dead letter's has a letter before it, so that one is not taken for the other.
const deadMark = "d"

func batchID(seq uint64) string { return fmt.Sprintf("%016x", seq) }

// parseID reads an id with that mark. What is not one names nothing.
func parseID(mark, id string) (uint64, bool) {
	hex, ok := strings.CutPrefix(id, mark)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(hex, 16, 64)
	return seq, err == nil && batchID(seq) == hex
}

func (e *entry) batch(id string, body []byte) queue.Batch {
	return queue.Batch{ID: id, Source: e.source, At: e.at, Events: e.events, Body: body, Attempts: e.attempts}
}

// Append adds a batch at the end; when it returns nil the batch is on disk. Its time is kept in
// microseconds; a missing one is now. The error wraps queue.ErrFull when the queue has reached its bound.
func (q *Queue) Append(ctx context.Context, b queue.Batch) error {
	if err := b.Check(); err != nil {
		return fmt.Errorf("queueing: %w", err)
	}
	if b.At.IsZero() {
		b.At = q.now()
	}
	e := entry{size: len(b.Body), sum: checksum(b.Body), events: b.Events, at: b.At, source: b.Source}
	cost := int64(e.size) + batchCost
	q.mu.Lock()
	if used := q.live.cost() + q.dead.cost() + q.reserved; used+cost > q.max {
		live, dead := q.live.batches, q.dead.batches
		q.mu.Unlock()
		return fmt.Errorf("%w: %d batches wait and %d are dead letters, %d of %d bytes", queue.ErrFull, live, dead, used, q.max)
	}
	q.reserved += cost
	q.mu.Unlock()
	err := q.writer.write(ctx, &op{
		size: e.size,
		do: func(tx *bbolt.Tx) error {
			bodies, waiting := tx.Bucket(bucketBodies), tx.Bucket(bucketWaiting)
			bodies.FillPercent, waiting.FillPercent = fill, fill
			var err error
			if e.body, err = bodies.NextSequence(); err != nil {
				return err
			}
			if err := bodies.Put(sequenceKey(e.body), b.Body); err != nil {
				return err
			}
			return push(waiting, &e)
		},
		after: func() { q.moved(&q.live, &e) },
	})
	q.mu.Lock()
	q.reserved -= cost
	q.mu.Unlock()
	if err != nil {
		return fmt.Errorf("queueing a batch: %w", err)
	}
	return nil
}

// push puts an entry at the end of a bucket.
func push(b *bbolt.Bucket, e *entry) error {
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	return b.Put(sequenceKey(seq), appendEntry(nil, e))
}

// moved counts entries that a tally has got.
func (q *Queue) moved(to *tally, es ...*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range es {
		to.add(e, 1)
	}
	if to == &q.live {
		q.notify()
	}
}

// notify wakes who waits in Next. The caller holds the lock.
func (q *Queue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Next returns up to limit batches, with 32 MiB of bodies at most or one batch, as queue.Queue says.
func (q *Queue) Next(ctx context.Context, limit int) ([]queue.Batch, error) {
	if limit < 1 {
		return nil, fmt.Errorf("taking %d batches from the queue", limit)
	}
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		q.mu.Lock()
		changed := q.changed
		q.mu.Unlock()
		batches, err := q.take(ctx, limit)
		if err != nil || len(batches) > 0 {
			return batches, err
		}
		select {
		case <-changed:
		case <-q.writer.stop:
			return nil, errClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take hands out what there is. The caller holds the turn.
func (q *Queue) take(ctx context.Context, limit int) ([]queue.Batch, error) {
	q.mu.Lock()
	again := maps.Clone(q.released)
	cursor := q.cursor
	q.mu.Unlock()

	var (
		batches []queue.Batch
		seqs    []uint64
		gone    []uint64 // released, and acknowledged after all
		damaged []uint64
		size    int
	)
	err := q.file.view(ctx, func(tx *bbolt.Tx) error {
		waiting, bodies := tx.Bucket(bucketWaiting), tx.Bucket(bucketBodies)
		// one reports whether there is room for more.
		one := func(seq uint64, k, v []byte) (bool, error) {
			e, err := readEntry(k, v)
			if err != nil {
				return false, err
			}
			if size += e.size; len(batches) > 0 && size > maxHandOut {
				return false, nil
			}
			if n, ok := again[seq]; ok {
				e.attempts = n // the disk may know of less
			}
			body := bodies.Get(sequenceKey(e.body))
			if len(body) != e.size || checksum(body) != e.sum {
				damaged = append(damaged, seq)
				return true, nil
			}
			batches = append(batches, e.batch(batchID(seq), slices.Clone(body)))
			seqs = append(seqs, seq)
			return len(batches) < limit, nil
		}
		for _, seq := range slices.Sorted(maps.Keys(again)) {
			k := sequenceKey(seq)
			v := waiting.Get(k)
			if v == nil {
				gone = append(gone, seq)
				continue
			}
			if more, err := one(seq, k, v); err != nil || !more {
				return err
			}
		}
		c := waiting.Cursor()
		for k, v := c.Seek(sequenceKey(cursor + 1)); k != nil; k, v = c.Next() {
			seq := binary.BigEndian.Uint64(k) // openQueueFile has looked at each, and we make them
			more, err := one(seq, k, v)
			if err != nil {
				return err
			}
			if n := len(seqs); n > 0 && seqs[n-1] == seq || len(damaged) > 0 && damaged[len(damaged)-1] == seq {
				cursor = seq
			}
			if !more {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("taking from the queue: %w", err)
	}
	for _, seq := range damaged {
		// It would stop the queue for ever, and what is left of it may still be of use.
		if err := q.Bury(ctx, batchID(seq), "its body is damaged on disk"); err != nil && !errors.Is(err, queue.ErrUnknown) {
			return nil, err
		}
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	q.cursor = cursor
	for _, seq := range gone {
		delete(q.released, seq)
	}
	for i, seq := range seqs {
		delete(q.released, seq)
		n := batches[i].Attempts + 1
		q.out[seq], q.uncount[seq] = n, n
	}
	if len(seqs) > 0 {
		q.writer.wake() // to count them, without letting the caller wait for it
	}
	return batches, nil
}

// countOp writes down how often batches were handed out, so that one that kills the process each time
// is known for it.
func (q *Queue) countOp() *op {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.uncount) == 0 {
		return nil
	}
	attempts := q.uncount
	q.uncount = map[uint64]int{}
	do := func(tx *bbolt.Tx) error {
		waiting := tx.Bucket(bucketWaiting)
		for seq, n := range attempts {
			k := sequenceKey(seq)
			v := waiting.Get(k)
			if v == nil {
				continue // acknowledged meanwhile
			}
			e, err := readEntry(k, v)
			if err != nil {
				return err
			}
			e.attempts = n
			if err := waiting.Put(k, appendEntry(nil, &e)); err != nil {
				return err
			}
		}
		return nil
	}
	return &op{do: do, report: func(err error) {
		q.counts.Report(err)
		if err == nil {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		for seq, n := range attempts { // for the next transaction, unless there is news
			_, out := q.out[seq]
			_, released := q.released[seq]
			if _, newer := q.uncount[seq]; !newer && (out || released) {
				q.uncount[seq] = n
			}
		}
	}}
}

// Ack removes batches that have been worked on, durably, as queue.Queue says.
func (q *Queue) Ack(ctx context.Context, ids ...string) error {
	var seqs []uint64
	for _, id := range ids {
		if seq, ok := parseID("", id); ok {
			seqs = append(seqs, seq)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	var removed []entry
	err := q.writer.write(ctx, &op{
		do: func(tx *bbolt.Tx) error {
			removed = removed[:0]
			for _, seq := range seqs {
				e, ok, err := pull(tx.Bucket(bucketWaiting), seq)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
				if err := tx.Bucket(bucketBodies).Delete(sequenceKey(e.body)); err != nil {
					return err
				}
				removed = append(removed, e)
			}
			return nil
		},
		after: func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			for i := range removed {
				q.live.add(&removed[i], -1)
			}
			for _, seq := range seqs {
				q.forget(seq)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("acknowledging %d batches: %w", len(seqs), err)
	}
	return nil
}

// forget removes what is known of a batch that no longer waits. The caller holds the lock.
func (q *Queue) forget(seq uint64) {
	delete(q.out, seq)
	delete(q.released, seq)
	delete(q.uncount, seq)
}

// pull removes an entry from a bucket and reports whether it was there.
func pull(b *bbolt.Bucket, seq uint64) (entry, bool, error) {
	k := sequenceKey(seq)
	v := b.Get(k)
	if v == nil {
		return entry{}, false, nil
	}
	e, err := readEntry(k, v)
	if err != nil {
		return e, false, err
	}
	return e, true, b.Delete(k)
}

// Release makes batches that were handed out available again.
func (q *Queue) Release(_ context.Context, ids ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		seq, ok := parseID("", id)
		if !ok {
			continue
		}
		if n, ok := q.out[seq]; ok {
			delete(q.out, seq)
			q.released[seq] = n
		}
	}
	q.notify()
	return nil
}

// Bury moves a batch to the dead letters; the reason is cut to queue.MaxReason.
func (q *Queue) Bury(ctx context.Context, id, reason string) error {
	seq, ok := parseID("", id)
	if !ok {
		return fmt.Errorf("burying batch %q: %w", id, queue.ErrUnknown)
	}
	q.mu.Lock()
	attempts := max(q.out[seq], q.released[seq])
	q.mu.Unlock()
	var e entry
	var there bool
	err := q.writer.write(ctx, &op{
		do: func(tx *bbolt.Tx) (err error) {
			if e, there, err = pull(tx.Bucket(bucketWaiting), seq); err != nil || !there {
				return err
			}
			e.attempts, e.reason, e.buriedAt = max(e.attempts, attempts), queue.ClipReason(reason), q.now()
			return push(tx.Bucket(bucketDead), &e)
		},
		after: func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.forget(seq)
			if there {
				q.live.add(&e, -1)
				q.dead.add(&e, 1)
			}
		},
	})
	if err == nil && !there {
		err = queue.ErrUnknown
	}
	if err != nil {
		return fmt.Errorf("burying batch %s: %w", id, err)
	}
	return nil
}

// Dead returns up to limit dead letters, in the order in which they were buried, with 32 MiB of bodies at most
// or one letter; ask again after the last one until there are none.
func (q *Queue) Dead(ctx context.Context, after string, limit int) ([]queue.DeadLetter, error) {
	var from uint64
	if after != "" {
		seq, ok := parseID(deadMark, after)
		if !ok {
			return nil, fmt.Errorf("reading dead letters after %q: %w", after, queue.ErrUnknown)
		}
		from = seq
	}
	var letters []queue.DeadLetter
	err := q.file.view(ctx, func(tx *bbolt.Tx) error {
		size := 0
		c := tx.Bucket(bucketDead).Cursor()
		for k, v := c.Seek(sequenceKey(from + 1)); k != nil && len(letters) < limit; k, v = c.Next() {
			e, err := readEntry(k, v)
			if err != nil {
				return err
			}
			if size += e.size; len(letters) > 0 && size > maxHandOut {
				return nil
			}
			body := slices.Clone(tx.Bucket(bucketBodies).Get(sequenceKey(e.body)))
			letters = append(letters, queue.DeadLetter{
				Batch: e.batch(deadMark+batchID(binary.BigEndian.Uint64(k)), body), Reason: e.reason, BuriedAt: e.buriedAt,
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading dead letters: %w", err)
	}
	return letters, nil
}

// Replay puts dead letters back at the end of the queue, as if they had never been handed out, and returns how many. When
// one of ids is not there the others are replayed, and the error wraps queue.ErrUnknown.
func (q *Queue) Replay(ctx context.Context, ids ...string) (int, error) {
	n, err := q.exhume(ctx, ids, func(tx *bbolt.Tx, e *entry) error {
		e.attempts, e.reason, e.buriedAt = 0, "", time.Time{}
		return push(tx.Bucket(bucketWaiting), e)
	}, func(es []*entry) { q.moved(&q.live, es...) })
	if err != nil {
		return n, fmt.Errorf("replaying dead letters: %w", err)
	}
	return n, nil
}

// Discard removes dead letters for good and returns how many. When one of ids is not there the others are
// discarded, and the error wraps queue.ErrUnknown.
func (q *Queue) Discard(ctx context.Context, ids ...string) (int, error) {
	n, err := q.exhume(ctx, ids, func(tx *bbolt.Tx, e *entry) error {
		return tx.Bucket(bucketBodies).Delete(sequenceKey(e.body))
	}, func([]*entry) {})
	if err != nil {
		return n, fmt.Errorf("discarding dead letters: %w", err)
	}
	return n, nil
}

// exhume takes dead letters out of their bucket and gives each to do, in transactions of maxMove;
// after each of them it calls after.
func (q *Queue) exhume(ctx context.Context, ids []string, do func(*bbolt.Tx, *entry) error, after func([]*entry)) (int, error) {
	var unknown []string
	var seqs []uint64
	for _, id := range ids {
		if seq, ok := parseID(deadMark, id); ok {
			seqs = append(seqs, seq)
		} else {
			unknown = append(unknown, id)
		}
	}
	if len(ids) == 0 {
		err := q.file.view(ctx, func(tx *bbolt.Tx) error {
			c := tx.Bucket(bucketDead).Cursor()
			for k, _ := c.First(); k != nil; k, _ = c.Next() {
				seqs = append(seqs, binary.BigEndian.Uint64(k))
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	total := 0
	for part := range slices.Chunk(seqs, maxMove) {
		var es []*entry
		var missing []string
		err := q.writer.write(ctx, &op{
			do: func(tx *bbolt.Tx) error {
				es, missing = nil, nil
				for _, seq := range part {
					e, ok, err := pull(tx.Bucket(bucketDead), seq)
					if err != nil {
						return err
					}
					if !ok {
						missing = append(missing, deadMark+batchID(seq))
						continue
					}
					if err := do(tx, &e); err != nil {
						return err
					}
					es = append(es, &e)
				}
				return nil
			},
			after: func() {
				q.mu.Lock()
				for _, e := range es {
					q.dead.add(e, -1)
				}
				q.mu.Unlock()
				after(es)
			},
		})
		if err != nil {
			return total, err
		}
		total += len(es)
		if len(ids) > 0 { // else somebody else was faster, and nothing was named
			unknown = append(unknown, missing...)
		}
	}
	if len(unknown) > 0 {
		return total, fmt.Errorf("%d of %d, such as %q: %w", len(unknown), len(ids), unknown[0], queue.ErrUnknown)
	}
	return total, nil
}

// Depth returns what the queue holds.
func (q *Queue) Depth(ctx context.Context) (queue.Depth, error) {
	q.mu.Lock()
	d := queue.Depth{Batches: q.live.batches, Events: q.live.events, Bytes: q.live.bytes, Dead: q.dead.batches}
	q.mu.Unlock()
	err := q.file.view(ctx, func(tx *bbolt.Tx) error {
		k, v := tx.Bucket(bucketWaiting).Cursor().First()
		if k == nil {
			return nil
		}
		e, err := readEntry(k, v)
		d.Oldest = e.at
		return err
	})
	if err != nil {
		return d, fmt.Errorf("measuring the queue: %w", err)
	}
	return d, nil
}
