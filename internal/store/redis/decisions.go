package redis

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/wait"
	goredis "github.com/redis/go-redis/v9"
)

// The decision log is the hash "log" with the fields last, floor and batch (a random name of the latest batch), and two sorted sets, "decisions" and "deletions", whose
// members all have the score 0 and so lie in the order of their bytes: a sequence as 8 bytes, big-endian, and then a decision as JSON or a
// deleted decision's id. A sequence is found, and a page read, by a range of bytes.

// page is how many changes are read from the server at once.
const page = 1000

// commitTries is how often a batch is sent whose answer was lost.
const commitTries = 3

// log is what a State knows of the decision log.
type log struct {
	mu    sync.Mutex // held by who commits
	known bool       // whether batch is
	batch string     // the latest batch that this process has stored or seen in State
	last  uint64     // its sequence
	lost  bool       // the answer to a batch of ours was lost
}

func sequence(seq uint64) string { return string(binary.BigEndian.AppendUint64(nil, seq)) }

// State returns what the latest batch said. The next Commit goes on from there: call it when a log is
// loaded, and do not use a log that was loaded before any more.
func (s *State) State(ctx context.Context) (decision.State, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.lookUp(ctx)
}

// lookUp reads the state. The caller holds the log's lock.
func (s *State) lookUp(ctx context.Context) (decision.State, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	var d decision.State
	got, err := s.client.HMGet(ctx, s.key("log"), "last", "floor", "batch").Result()
	if err != nil {
		return d, fmt.Errorf("reading the state of the decision log: %w", redisconn.Explain(err))
	}
	for i, to := range [...]*uint64{&d.Last, &d.Floor} {
		text, ok := got[i].(string)
		if !ok {
			continue // a new store
		}
		if *to, err = strconv.ParseUint(text, 10, 64); err != nil {
			return decision.State{}, fmt.Errorf("reading the state of the decision log: %w", err)
		}
	}
	batch, _ := got[2].(string)
	s.log.known, s.log.batch, s.log.last, s.log.lost = true, batch, d.Last, false
	return d, nil
}

// Commit makes the batch durable, all of it or none. It wraps store.ErrConflict when the latest batch is not the one
// that this process has stored or seen: either another process has written, or the answer to an earlier batch of this one was lost, which has been
// stored after all. The log must then be loaded again. After any other error nothing was stored, or the next Commit says so. When ctx
// ends, a batch that was sent already is waited for.
func (s *State) Commit(ctx context.Context, b *decision.Batch) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if err := s.commit(ctx, b); err != nil {
		return fmt.Errorf("storing a batch of decisions: %w", err)
	}
	return nil
}

func (s *State) commit(ctx context.Context, b *decision.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.log.known {
		if _, err := s.lookUp(ctx); err != nil {
			return err
		}
	}
	if b.Last < s.log.last {
		return fmt.Errorf("a batch that ends at %d after %d", b.Last, s.log.last)
	}
	name := token()
	args, err := commitArgs(s.log.batch, name, b)
	if err != nil {
		return err
	}
	// One batch can hold a whole list.
	patience := s.o.Timeout * time.Duration(min(slow, 1+(len(b.Put)+len(b.Deleted)+len(b.Drop))/1000))
	keys := []string{s.key("log"), s.key("decisions"), s.key("deletions")}
	for try := 1; ; try++ {
		// Once it has been sent, the outcome is waited for: who does not know it has to load the log again.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		var stored int
		stored, err = s.scripts.commit.Run(limited, s.client, keys, args...).Int()
		cancel()
		if err == nil && stored == 1 {
			s.log.batch, s.log.last, s.log.lost = name, b.Last, false
			return nil
		}
		if err == nil {
			if s.log.lost {
				return fmt.Errorf("%w, or the answer to an earlier batch was lost: load it again", store.ErrConflict)
			}
			return fmt.Errorf("%w: load it again", store.ErrConflict)
		}
		lost := unsure(err)
		s.log.lost = s.log.lost || lost
		if !lost || try == commitTries || !wait.For(ctx, 50*time.Millisecond) {
			return redisconn.Explain(err)
		}
	}
}

func commitArgs(before, name string, b *decision.Batch) ([]any, error) {
	drops := make([]byte, 0, 8*len(b.Drop))
	for _, seq := range b.Drop {
		drops = binary.BigEndian.AppendUint64(drops, seq)
	}
	args := make([]any, 0, 7+len(b.Put)+len(b.Deleted))
	args = append(args, before, name, strconv.FormatUint(b.Last, 10), strconv.FormatUint(b.Floor, 10), sequence(b.Floor), drops, len(b.Put))
	for i := range b.Put {
		d := &b.Put[i]
		text, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("decision %s: %w", d.ID, err)
		}
		args = append(args, append(binary.BigEndian.AppendUint64(nil, d.Sequence), text...))
	}
	for _, d := range b.Deleted {
		if _, err := ulid.ParseStrict(d.ID); err != nil {
			return nil, fmt.Errorf("decision id %q: %w", d.ID, err)
		}
		args = append(args, sequence(d.Sequence)+d.ID)
	}
	return args, nil
}

// Changes calls fn for the changes after a sequence, in order, until it returns false. It reads page by page, and up to where
// the log stands at first: what a later batch replaces meanwhile is missing, and the replacement comes after that.
func (s *State) Changes(ctx context.Context, after uint64, fn func(decision.Change) bool) error {
	limited, cancel := s.limit(ctx)
	text, err := s.client.HGet(limited, s.key("log"), "last").Result()
	cancel()
	if errors.Is(err, goredis.Nil) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading changes of decisions: %w", redisconn.Explain(err))
	}
	last, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("reading the state of the decision log: %w", err)
	}
	if after >= last {
		return nil
	}
	puts := &reader{s: s, key: s.key("decisions"), from: "[" + sequence(after+1), to: "[" + sequence(last) + "\xff"}
	deletions := &reader{s: s, key: s.key("deletions"), from: puts.from, to: puts.to}
	for {
		p, err := puts.peek(ctx)
		if err != nil {
			return err
		}
		d, err := deletions.peek(ctx)
		if err != nil {
			return err
		}
		var c decision.Change
		switch {
		case p == "" && d == "":
			return nil
		case d == "" || p != "" && p[:8] < d[:8]:
			c.Sequence = binary.BigEndian.Uint64([]byte(p[:8]))
			var decided defense.Decision
			if err := json.Unmarshal([]byte(p[8:]), &decided); err != nil {
				return fmt.Errorf("decision %d is damaged: %w", c.Sequence, err)
			}
			if decided.Sequence != c.Sequence {
				return fmt.Errorf("decision %d is damaged: it says %d", c.Sequence, decided.Sequence)
			}
			c.Decision = &decided
			puts.skip()
		default:
			c.Sequence = binary.BigEndian.Uint64([]byte(d[:8]))
			id, err := ulid.ParseStrict(d[8:])
			if err != nil {
				return fmt.Errorf("deletion %d is damaged: %w", c.Sequence, err)
			}
			c.Deleted = id.String()
			deletions.skip()
		}
		if !fn(c) {
			return nil
		}
	}
}

// reader reads a range of a sorted set.
type reader struct {
	s        *State
	key      string
	from, to string
	members  []string
	ended    bool
}

// peek returns the next member, "" at the end. Each has a sequence at least.
func (r *reader) peek(ctx context.Context) (string, error) {
	if len(r.members) == 0 && !r.ended {
		ctx, cancel := r.s.limit(ctx)
		defer cancel()
		var err error
		r.members, err = r.s.client.ZRangeByLex(ctx, r.key, &goredis.ZRangeBy{Min: r.from, Max: r.to, Count: page}).Result()
		if err != nil {
			return "", fmt.Errorf("reading changes of decisions: %w", redisconn.Explain(err))
		}
		r.ended = len(r.members) < page
		if n := len(r.members); n > 0 {
			r.from = "(" + r.members[n-1]
		}
	}
	if len(r.members) == 0 {
		return "", nil
	}
	if m := r.members[0]; len(m) > 8 {
		return m, nil
	}
	return "", fmt.Errorf("reading changes of decisions: %s holds %q", r.key, r.members[0])
}

func (r *reader) skip() { r.members = r.members[1:] }
