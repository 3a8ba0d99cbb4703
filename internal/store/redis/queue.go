package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	goredis "github.com/redis/go-redis/v9"
)

// The queue is the stream "queue", its dead letters the stream "dead"; an entry has the fields s (source), t (when it was accepted, in
// microseconds of Unix time), n (events), z (size of the body), and, if it is not the entry's id, b (the body's key); a dead letter also
// a (attempts), r (reason) and u (when it was buried). The hash "bodies" holds the bodies, so that burying and replaying do not copy
// them; "attempts" how often each batch was handed out; "stats" the sums bytes, events and deadBytes.
//
// There is no consumer group: the one consumer remembers how far it has read, and begins at the beginning when it is
// new, which is what at-least-once asks for. A group would allow two consumers to take turns unnoticed, and would make handing out a
// write that fails with a full memory, when nothing is more urgent than to go on.

// blocking is how long a call waits in the server for the next batch.
const blocking = 200 * time.Millisecond

// maxHandOut bounds the bodies that Next and Dead read at once, in bytes; one batch is always read.
const maxHandOut = 32 << 20

// maxIDs is how many ids one script gets.
const maxIDs = 1000

// header is an entry of a stream, without its body.
type header struct {
	id       string
	body     string // its key
	source   string
	at       time.Time
	events   int
	size     int
	attempts int
	reason   string
	buriedAt time.Time
	damaged  error // it is not one of ours
}

// Queue is a queue.Queue in two streams.
type Queue struct {
	s      *State
	counts *telemetry.State // whether attempts can be counted in the server
	turn   chan struct{}    // held by who is in Next

	mu       sync.Mutex
	cursor   string            // id of the last entry that was looked at
	out      map[string]header // handed out and not acknowledged; its attempts are how often by now
	released map[string]header // to be handed out again
}

func newQueue(s *State) *Queue {
	return &Queue{
		s:      s,
		counts: telemetry.NewState(s.o.Log, "attempts at queued batches are counted in memory only", "attempts at queued batches are counted in Redis again", s.o.Now),
		turn:   make(chan struct{}, 1),
		cursor: "0-0", out: map[string]header{}, released: map[string]header{},
	}
}

// Append adds a batch at the end. Its time is kept in microseconds; a missing one is now. The error wraps queue.ErrFull when the
// queue has reached a bound. After another one the batch may be there all the same.
func (q *Queue) Append(ctx context.Context, b queue.Batch) error {
	if err := b.Check(); err != nil {
		return fmt.Errorf("queueing: %w", err)
	}
	if b.At.IsZero() {
		b.At = q.s.o.Now()
	}
	ctx, cancel := q.s.limit(ctx)
	defer cancel()
	keys := []string{q.s.key("queue"), q.s.key("dead"), q.s.key("bodies"), q.s.key("stats")}
	answer, err := q.s.scripts.append.Run(ctx, q.s.client, keys, q.s.o.QueueBytes, q.s.o.QueueBatches, b.Source, b.At.UnixMicro(), b.Events, b.Body).Result()
	if err != nil {
		return fmt.Errorf("queueing a batch: %w", redisconn.Explain(err))
	}
	if full, ok := answer.([]any); ok && len(full) == 3 {
		return fmt.Errorf("%w: %v batches wait and %v are dead letters, of %d; %v of %d bytes",
			queue.ErrFull, full[0], full[1], q.s.o.QueueBatches, full[2], q.s.o.QueueBytes)
	}
	return nil
}

// Next returns up to limit batches, with 32 MiB of bodies at most or one batch, as queue.Queue says. After the end of ctx it may take 200 ms to return,
// or the time of a call when the server does not answer. An error of the server is returned at once.
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
		if err := ended(ctx); err != nil {
			return nil, err
		}
		batches, err := q.take(ctx, limit)
		if len(batches) > 0 {
			return batches, nil
		}
		if over := ended(ctx); over != nil {
			return nil, over
		}
		if err != nil {
			return nil, fmt.Errorf("taking from the queue: %w", redisconn.Explain(err))
		}
	}
}

// ended returns the error of a context that has ended, or whose time is up: a connection's timer may be faster than the context's.
func ended(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// take hands out what there is, or waits a moment for something. The caller holds the turn.
func (q *Queue) take(ctx context.Context, limit int) ([]queue.Batch, error) {
	q.mu.Lock()
	headers := slices.SortedFunc(maps.Values(q.released), func(a, b header) int { return compareIDs(a.id, b.id) })
	cursor := q.cursor
	q.mu.Unlock()
	headers = headers[:min(len(headers), limit)]
	again, start := len(headers), cursor
	if again < limit {
		more, end, err := q.read(ctx, cursor, limit-again, again == 0)
		if err != nil && again == 0 {
			return nil, err
		}
		headers, cursor = append(headers, more...), end
	}
	// What does not fit is read again the next time.
	for i, size := 0, 0; i < len(headers); i++ {
		if size += headers[i].size; size > maxHandOut && i > 0 {
			headers, cursor = headers[:i], start
			if i > again {
				cursor = headers[i-1].id
			}
		}
	}
	if len(headers) == 0 {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.cursor = cursor
		return nil, nil
	}
	batches, err := q.load(ctx, headers)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cursor = cursor
	byID := make(map[string]header, len(headers))
	for _, h := range headers {
		delete(q.released, h.id)
		byID[h.id] = h
	}
	for i := range batches {
		h := byID[batches[i].ID]
		h.attempts = batches[i].Attempts + 1
		q.out[h.id] = h
	}
	return batches, nil
}

// read returns up to limit entries after the cursor that were not handed out yet, and where it came to. If wait is set and there are none, it waits a moment.
func (q *Queue) read(ctx context.Context, cursor string, limit int, wait bool) ([]header, string, error) {
	block := time.Duration(-1) // not at all
	if wait {
		block = blocking
		if d, ok := ctx.Deadline(); ok {
			block = min(block, max(time.Until(d), time.Millisecond))
		}
	}
	// Cut off in the middle, the connection would be lost.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.s.o.Timeout+blocking)
	defer cancel()
	streams, err := q.s.client.XRead(limited, &goredis.XReadArgs{
		Streams: []string{q.s.key("queue"), cursor}, Count: int64(limit), Block: block,
	}).Result()
	if errors.Is(err, goredis.Nil) || err == nil && len(streams) == 0 {
		if !wait {
			return nil, cursor, nil
		}
		cursor, err = q.lookBack(ctx, cursor)
		return nil, cursor, err
	}
	if err != nil {
		return nil, cursor, err
	}
	var hs []header
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range streams[0].Messages {
		cursor = m.ID
		_, out := q.out[m.ID]
		_, released := q.released[m.ID]
		if !out && !released {
			hs = append(hs, parseHeader(m))
		}
	}
	return hs, cursor, nil
}

// lookBack is called when there is nothing after the cursor, and returns where to go on. If there is more in the queue than was handed out, it lies
// before the cursor: after a failover the new server's clock may be behind the old one's. Then reading begins anew.
func (q *Queue) lookBack(ctx context.Context, cursor string) (string, error) {
	limited, cancel := q.s.limit(ctx)
	defer cancel()
	n, err := q.s.client.XLen(limited, q.s.key("queue")).Result()
	if err != nil {
		return cursor, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n > int64(len(q.out)+len(q.released)) {
		return "0-0", nil
	}
	return cursor, nil
}

// load reads the bodies of entries and counts the attempts. Entries that are gone are left out; those that are damaged are buried.
func (q *Queue) load(ctx context.Context, hs []header) ([]queue.Batch, error) {
	var ids, bodyKeys []string
	var count []any
	for _, h := range hs {
		ids, bodyKeys = append(ids, h.id), append(bodyKeys, h.body)
		count = append(count, h.id, h.body)
	}
	limited, cancel := q.s.limit(ctx)
	defer cancel()
	pipe := q.s.client.Pipeline()
	bodies := pipe.HMGet(limited, q.s.key("bodies"), bodyKeys...)
	attempts := pipe.HMGet(limited, q.s.key("attempts"), ids...)
	counted := pipe.Eval(limited, countScript, []string{q.s.key("attempts"), q.s.key("bodies")}, count...)
	_, _ = pipe.Exec(limited) // each command has its own error
	if err := errors.Join(bodies.Err(), attempts.Err()); err != nil {
		return nil, err
	}
	// A server without memory does not count; but to hand out is what helps it.
	q.counts.Report(redisconn.Explain(counted.Err()))
	var batches []queue.Batch
	for i, h := range hs {
		body, ok := bodies.Val()[i].(string)
		if h.damaged == nil && ok && len(body) == h.size {
			if text, ok := attempts.Val()[i].(string); ok {
				n, err := strconv.Atoi(text)
				if err == nil {
					h.attempts = max(h.attempts, n)
				}
			}
			batches = append(batches, h.batch([]byte(body)))
			continue
		}
		reason := "its body is missing or damaged"
		if h.damaged != nil {
			reason = "not an entry of this queue: " + h.damaged.Error()
		}
		if err := q.Bury(ctx, h.id, reason); err != nil && !errors.Is(err, queue.ErrUnknown) {
			return nil, err
		}
	}
	return batches, nil
}

func (h *header) batch(body []byte) queue.Batch {
	return queue.Batch{ID: h.id, Source: h.source, At: h.at, Events: h.events, Body: body, Attempts: h.attempts}
}

// parseHeader reads an entry; what somebody else has put into the stream is marked as damaged.
func parseHeader(m goredis.XMessage) header {
	h := header{id: m.ID, body: m.ID}
	text := func(name string) string { s, _ := m.Values[name].(string); return s }
	number := func(name string, optional bool) int64 {
		s := text(name)
		if s == "" && optional {
			return 0
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil && h.damaged == nil {
			h.damaged = fmt.Errorf("field %q: %w", name, err)
		}
		return n
	}
	if b := text("b"); b != "" {
		h.body = b
	}
	h.source, h.reason = text("s"), text("r")
	h.at = time.UnixMicro(number("t", false)).UTC()
	h.events, h.size, h.attempts = int(number("n", false)), int(number("z", false)), int(number("a", true))
	if us := number("u", true); us != 0 {
		h.buriedAt = time.UnixMicro(us).UTC()
	}
	if h.damaged == nil && (h.events < 0 || h.size < 0 || h.size > queue.MaxBody) {
		h.damaged = fmt.Errorf("%d events in %d bytes", h.events, h.size)
	}
	return h
}

// parseID reads a stream's id, "milliseconds-number".
func parseID(id string) (ms, n uint64, ok bool) {
	left, right, found := strings.Cut(id, "-")
	if !found {
		return 0, 0, false
	}
	ms, err1 := strconv.ParseUint(left, 10, 64)
	n, err2 := strconv.ParseUint(right, 10, 64)
	return ms, n, err1 == nil && err2 == nil && fmt.Sprintf("%d-%d", ms, n) == id
}

func compareIDs(a, b string) int {
	ams, an, _ := parseID(a)
	bms, bn, _ := parseID(b)
	return cmp.Or(cmp.Compare(ams, bms), cmp.Compare(an, bn))
}

// valid returns the ids that are ids, and those that are none.
func valid(ids []string) (good []any, bad []string) {
	for _, id := range ids {
		if _, _, ok := parseID(id); ok {
			good = append(good, id)
		} else {
			bad = append(bad, id)
		}
	}
	return good, bad
}

// Ack removes batches that have been worked on, as queue.Queue says.
func (q *Queue) Ack(ctx context.Context, ids ...string) error {
	good, _ := valid(ids)
	keys := []string{q.s.key("queue"), q.s.key("bodies"), q.s.key("attempts"), q.s.key("stats")}
	for part := range slices.Chunk(good, maxIDs) {
		limited, cancel := q.s.limit(ctx)
		err := q.s.scripts.ack.Run(limited, q.s.client, keys, part...).Err()
		cancel()
		if err != nil {
			return fmt.Errorf("acknowledging %d batches: %w", len(part), redisconn.Explain(err))
		}
		q.mu.Lock()
		for _, id := range part {
			delete(q.out, id.(string))
			delete(q.released, id.(string))
		}
		q.mu.Unlock()
	}
	return nil
}

// Release makes batches that were handed out available again.
func (q *Queue) Release(_ context.Context, ids ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if h, ok := q.out[id]; ok {
			delete(q.out, id)
			q.released[id] = h
		}
	}
	return nil
}

// Bury moves a batch to the dead letters; the reason is cut to queue.MaxReason.
func (q *Queue) Bury(ctx context.Context, id, reason string) error {
	if _, _, ok := parseID(id); !ok {
		return fmt.Errorf("burying batch %q: %w", id, queue.ErrUnknown)
	}
	q.mu.Lock()
	attempts := max(q.out[id].attempts, q.released[id].attempts)
	q.mu.Unlock()
	limited, cancel := q.s.limit(ctx)
	defer cancel()
	keys := []string{q.s.key("queue"), q.s.key("dead"), q.s.key("attempts"), q.s.key("stats")}
	n, err := q.s.scripts.bury.Run(limited, q.s.client, keys, id, queue.ClipReason(reason), q.s.o.Now().UnixMicro(), attempts).Int()
	if err != nil {
		return fmt.Errorf("burying batch %s: %w", id, redisconn.Explain(err))
	}
	q.mu.Lock()
	delete(q.out, id)
	delete(q.released, id)
	q.mu.Unlock()
	if n == 0 {
		return fmt.Errorf("burying batch %s: %w", id, queue.ErrUnknown)
	}
	return nil
}

// Dead returns up to limit dead letters, in the order in which they were buried, with 32 MiB of bodies at most
// or one letter; ask again after the last one until there are none.
func (q *Queue) Dead(ctx context.Context, after string, limit int) ([]queue.DeadLetter, error) {
	from := "-"
	if after != "" {
		if _, _, ok := parseID(after); !ok {
			return nil, fmt.Errorf("reading dead letters after %q: %w", after, queue.ErrUnknown)
		}
		from = "(" + after
	}
	if limit < 1 {
		return nil, nil
	}
	limited, cancel := q.s.limit(ctx)
	defer cancel()
	messages, err := q.s.client.XRangeN(limited, q.s.key("dead"), from, "+", int64(limit)).Result()
	if err != nil {
		return nil, fmt.Errorf("reading dead letters: %w", redisconn.Explain(err))
	}
	var hs []header
	var keys []string
	size := 0
	for _, m := range messages {
		h := parseHeader(m)
		if size += h.size; size > maxHandOut && len(hs) > 0 {
			break
		}
		hs, keys = append(hs, h), append(keys, h.body)
	}
	if len(hs) == 0 {
		return nil, nil
	}
	bodies, err := q.s.client.HMGet(limited, q.s.key("bodies"), keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("reading dead letters: %w", redisconn.Explain(err))
	}
	letters := make([]queue.DeadLetter, len(hs))
	for i, h := range hs {
		body, _ := bodies[i].(string) // missing, as the reason says
		letters[i] = queue.DeadLetter{Batch: h.batch([]byte(body)), Reason: h.reason, BuriedAt: h.buriedAt}
	}
	return letters, nil
}

// Replay puts dead letters back at the end of the queue, as if they had never been handed out, and returns how many. When
// one of ids is not there the others are replayed, and the error wraps queue.ErrUnknown.
func (q *Queue) Replay(ctx context.Context, ids ...string) (int, error) {
	n, err := q.exhume(ctx, ids, q.s.scripts.replay, q.s.key("queue"), q.s.key("dead"), q.s.key("stats"))
	if err != nil {
		return n, fmt.Errorf("replaying dead letters: %w", redisconn.Explain(err))
	}
	return n, nil
}

// Discard removes dead letters for good and returns how many. When one of ids is not there the others are
// discarded, and the error wraps queue.ErrUnknown.
func (q *Queue) Discard(ctx context.Context, ids ...string) (int, error) {
	n, err := q.exhume(ctx, ids, q.s.scripts.discard, q.s.key("dead"), q.s.key("bodies"), q.s.key("stats"))
	if err != nil {
		return n, fmt.Errorf("discarding dead letters: %w", redisconn.Explain(err))
	}
	return n, nil
}

// exhume gives ids of dead letters to a script that answers those that are not there; all that there are, when there are no ids.
func (q *Queue) exhume(ctx context.Context, ids []string, script *goredis.Script, keys ...string) (int, error) {
	if len(ids) == 0 {
		return q.exhumeAll(ctx, script, keys)
	}
	total := 0
	good, unknown := valid(ids)
	for part := range slices.Chunk(good, maxIDs) {
		missing, err := q.exhumeSome(ctx, script, keys, part)
		if err != nil {
			return total, err
		}
		total += len(part) - len(missing)
		unknown = append(unknown, missing...)
	}
	if len(unknown) > 0 {
		return total, fmt.Errorf("%d of %d, such as %q: %w", len(unknown), len(ids), unknown[0], queue.ErrUnknown)
	}
	return total, nil
}

func (q *Queue) exhumeSome(ctx context.Context, script *goredis.Script, keys []string, ids []any) (missing []string, err error) {
	limited, cancel := q.s.limit(ctx)
	defer cancel()
	return script.Run(limited, q.s.client, keys, ids...).StringSlice()
}

// exhumeAll gives the dead letters that there are now to a script, part by part.
func (q *Queue) exhumeAll(ctx context.Context, script *goredis.Script, keys []string) (int, error) {
	limited, cancel := q.s.limit(ctx)
	last, err := q.s.client.XRevRangeN(limited, q.s.key("dead"), "+", "-", 1).Result()
	cancel()
	if err != nil || len(last) == 0 {
		return 0, err
	}
	total := 0
	for from := "-"; ; {
		limited, cancel := q.s.limit(ctx)
		messages, err := q.s.client.XRangeN(limited, q.s.key("dead"), from, last[0].ID, maxIDs).Result()
		cancel()
		if err != nil || len(messages) == 0 {
			return total, err
		}
		var ids []any
		for _, m := range messages {
			ids = append(ids, m.ID)
		}
		from = "(" + messages[len(messages)-1].ID
		missing, err := q.exhumeSome(ctx, script, keys, ids)
		if err != nil {
			return total, err
		}
		total += len(ids) - len(missing)
	}
}

// Depth returns what the queue holds.
func (q *Queue) Depth(ctx context.Context) (queue.Depth, error) {
	limited, cancel := q.s.limit(ctx)
	defer cancel()
	pipe := q.s.client.TxPipeline() // at one moment
	waiting := pipe.XLen(limited, q.s.key("queue"))
	dead := pipe.XLen(limited, q.s.key("dead"))
	stats := pipe.HMGet(limited, q.s.key("stats"), "events", "bytes")
	oldest := pipe.XRangeN(limited, q.s.key("queue"), "-", "+", 1)
	if _, err := pipe.Exec(limited); err != nil {
		return queue.Depth{}, fmt.Errorf("measuring the queue: %w", redisconn.Explain(err))
	}
	d := queue.Depth{Batches: int(waiting.Val()), Dead: int(dead.Val())}
	if len(oldest.Val()) > 0 {
		d.Oldest = parseHeader(oldest.Val()[0]).at
	}
	for i, to := range []func(int64){func(n int64) { d.Events = int(n) }, func(n int64) { d.Bytes = n }} {
		text, ok := stats.Val()[i].(string)
		if !ok {
			continue // nothing was ever queued
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return d, fmt.Errorf("measuring the queue: %w", err)
		}
		to(n)
	}
	return d, nil
}
