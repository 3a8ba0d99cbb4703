package decision

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// MaxBatch is the largest number of decisions that Add takes at once.
const MaxBatch = 10_000

// keptDeletions is how many deletions the log remembers for those who follow it.
const keptDeletions = 100_000

// ErrBehind is returned by Since to who has missed deletions that the log no
// longer remembers: take a snapshot, which is Since from the zero Position.
var ErrBehind = errors.New("too far from the decision log: take a snapshot")

// ErrEverything is returned when a filter for deletion would fit every decision.
var ErrEverything = errors.New("refusing to delete every decision: name an id, value, client, action or origin")

// Log is the durable record of decisions. What it returns without an error is on
// disk and in its Set, in this order: a decision never has an effect that a crash
// would take back. It is safe for concurrent use.
type Log struct {
	set     *Set
	store   Store
	now     func() time.Time
	entropy io.Reader

	max     int           // most decisions, 0 for no bound
	turn    chan struct{} // held by who writes; a channel, so that waiting ends with the context
	loaded  bool
	usurped error // wraps ErrConflict: somebody else writes to the store
	state   State
	deleted []uint64 // sequences of the deletions that are kept, oldest first
	expired []uint64 // sequences found expired by Load, dropped with the next commit
	kept    int      // most deletions; keptDeletions but in tests

	mu      sync.Mutex
	changed chan struct{} // closed with the next change
}

// LogOptions are a Log's optional parts.
type LogOptions struct {
	Now     func() time.Time // nil: time.Now
	Entropy io.Reader        // for ids; nil: crypto/rand
	// MaxEntries bounds how many decisions there may be; 0: no bound. What is already stored is
	// loaded whatever it says, and changing what is there is always possible.
	MaxEntries int
}

// ErrFull is returned when a new decision would exceed LogOptions.MaxEntries.
var ErrFull = errors.New("the decision set is full: delete some, or raise decisions.maxEntries")

// ErrNotLoaded is returned by a log that Load has not filled yet, as that of a process which stands by.
var ErrNotLoaded = errors.New("the decision log is not loaded")

// ErrConflict is wrapped by a store's Commit when another process has written to it since. The log then refuses
// all further work with this error: what it has in memory is no longer what is in force. Its owner starts anew.
var ErrConflict = errors.New("another process has changed the decision log")

// NewLog returns a log that keeps decisions in store and has them enforced by
// set, which must be empty. Call Load before anything else.
func NewLog(set *Set, store Store, o LogOptions) *Log {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	return &Log{set: set, store: store, now: o.Now, entropy: o.Entropy, max: o.MaxEntries, turn: make(chan struct{}, 1), kept: keptDeletions, changed: make(chan struct{})}
}

// Set returns the decisions in force.
func (l *Log) Set() *Set { return l.set }

// Get returns the decision of that id, see Set.Get.
func (l *Log) Get(id string) (defense.Decision, bool) { return l.set.Get(id) }

// Changed returns a channel that is closed with the next change. Take it before asking Since, so
// that no change falls between the two.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *Log) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) lock(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the decision log: %w", context.Cause(ctx))
	}
}

func (l *Log) unlock() { <-l.turn }

// write is lock for those who need the log loaded and still its owner's.
func (l *Log) write(ctx context.Context) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	err := l.usurped
	if !l.loaded {
		err = ErrNotLoaded
	}
	if err != nil {
		l.unlock()
	}
	return err
}

// Loaded says what Load found.
type Loaded struct {
	Decisions int   // put in force
	Expired   int   // ended while nobody looked
	Refused   int   // kept in the store, but not in force
	Reason    error // of the first refusal, for example a *ProtectedError after a proxy became trusted
}

// Load reads the store into the set. Decisions that the set refuses are left
// alone, so that a wrong setting does not lose them.
func (l *Log) Load(ctx context.Context) (Loaded, error) {
	var r Loaded
	if err := l.lock(ctx); err != nil {
		return r, err
	}
	defer l.unlock()
	if l.loaded {
		return r, errors.New("the decision log is loaded already")
	}
	state, err := l.store.State(ctx)
	if err != nil {
		return r, fmt.Errorf("loading decisions: %w", err)
	}
	var putErr error
	batch := make([]item, 0, MaxBatch)
	flush := func() bool {
		putErr = l.set.put(batch)
		r.Decisions += len(batch)
		batch = batch[:0]
		return putErr == nil
	}
	now := l.now()
	err = l.store.Changes(ctx, 0, func(c Change) bool {
		if c.Decision == nil {
			l.deleted = append(l.deleted, c.Sequence)
			return true
		}
		if d := c.Decision; !d.Expires.IsZero() && !d.Expires.After(now) {
			l.expired = append(l.expired, c.Sequence)
			return true
		}
		it, err := l.set.check(*c.Decision)
		if err != nil {
			if r.Refused++; r.Reason == nil {
				r.Reason = fmt.Errorf("decision %s: %w", c.Decision.ID, err)
			}
			return true
		}
		batch = append(batch, it)
		return len(batch) < MaxBatch || flush()
	})
	if err == nil && putErr == nil {
		flush()
	}
	if err = errors.Join(err, putErr); err != nil {
		return r, fmt.Errorf("loading decisions: %w", err)
	}
	l.state, l.loaded, r.Expired = state, true, len(l.expired)
	return r, nil
}

// ItemError says which of several decisions an error is about.
type ItemError struct {
	Index int // from 0
	Err   error
}

// Error names the index.
func (e *ItemError) Error() string { return fmt.Sprintf("decision %d: %v", e.Index, e.Err) }

// Unwrap returns the error itself.
func (e *ItemError) Unwrap() error { return e.Err }

// AddOptions says how to add.
type AddOptions struct {
	// Force adds what would otherwise be refused with a *WideError.
	Force bool
}

// Add makes decisions durable and then puts them in force: all of them or none.
// It gives each an id, a sequence and, where it is missing, the time of creation; ids
// and sequences that they come with are ignored. A decision with the scope, value,
// origin, site and action of an earlier one changes that one's expiry, reason and case, and one that says nothing new
// changes nothing. Add returns the decisions as they are now, in the given order.
//
// An error about one decision is an *ItemError that wraps *InvalidError,
// *ProtectedError, *WideError, *AutomaticError or *AllowedError; other errors are the store's, wrapped, ErrConflict,
// ErrTooManyAgents and ErrFull.
func (l *Log) Add(ctx context.Context, ds []defense.Decision, o AddOptions) ([]defense.Decision, error) {
	if len(ds) > MaxBatch {
		return nil, &InvalidError{Problem: fmt.Sprintf("%d decisions at once, at most %d: import them", len(ds), MaxBatch)}
	}
	items := make([]item, len(ds))
	now := l.now()
	for i := range ds {
		it, err := l.check(ds[i], now, o)
		if err != nil {
			return nil, &ItemError{Index: i, Err: err}
		}
		items[i] = it
	}
	if err := l.write(ctx); err != nil {
		return nil, err
	}
	defer l.unlock()
	if _, err := l.add(ctx, items); err != nil {
		return nil, err
	}
	out := make([]defense.Decision, len(items))
	for i := range items {
		out[i] = items[i].Decision
	}
	return out, nil
}

// Check returns the error that Add would give about this one decision, and nil where it could only fail for reasons
// of the store or of size.
func (l *Log) Check(d defense.Decision, o AddOptions) error {
	_, err := l.check(d, l.now(), o)
	return err
}

// check makes an item of d if it may be added.
func (l *Log) check(d defense.Decision, now time.Time, o AddOptions) (item, error) {
	d.ID, d.Sequence = "", 0
	if d.Created.IsZero() {
		d.Created = now
	}
	if !d.Expires.IsZero() && !d.Expires.After(now) {
		return item{}, &InvalidError{"expires", d.Expires.Format(time.RFC3339) + " is in the past"}
	}
	it, err := l.set.check(d)
	if err != nil {
		return it, err
	}
	if err := checkAutomatic(&it.Decision, now); err != nil {
		return it, err
	}
	if err := l.set.checkAllowed(&it.Decision, now); err != nil {
		return it, err
	}
	if o.Force {
		return it, nil
	}
	return it, checkWide(&it.Decision)
}

// identity is what makes two decisions the same one.
type identity struct {
	scope               defense.Scope
	action              defense.Action
	k                   key
	agent, origin, site string
}

func (it *item) identity() identity {
	return identity{it.Scope, it.Action, it.k, strings.ToLower(it.agent()), it.Origin, it.Site}
}

// added counts what became of items.
type added struct{ added, updated, unchanged int }

// add commits items, puts them in force and completes them in place. The caller holds the turn.
func (l *Log) add(ctx context.Context, items []item) (added, error) {
	// Of items that say the same, the last one counts.
	place := make([]int, len(items))
	last := make([]item, 0, len(items))
	seen := make(map[identity]int, len(items))
	for i := range items {
		who := items[i].identity()
		j, ok := seen[who]
		if !ok {
			j = len(last)
			seen[who] = j
			last = append(last, item{})
		}
		last[j], place[i] = items[i], j
	}

	n := added{unchanged: len(items) - len(last)}
	now := l.now()
	ids := ulid.Monotonic(l.entropy, 0)
	b := &Batch{State: l.state}
	put := make([]item, 0, len(last))
	for i := range last {
		it := &last[i]
		old := l.set.same(it)
		switch {
		case old == nil:
			id, err := ulid.New(ulid.Timestamp(now), ids)
			if err != nil {
				return added{}, fmt.Errorf("making a decision's id: %w", err)
			}
			it.ID = id.String()
			n.added++
		case !old.expired(now.Unix()) && old.expires == toUnix(it.Expires) && old.about.reason == it.Reason && old.about.caseID == it.CaseID:
			it.Decision = old.decision()
			n.unchanged++
			continue
		default:
			it.ID = old.id
			if !old.expired(now.Unix()) {
				it.Created = fromUnix(old.created)
			}
			b.Drop = append(b.Drop, old.seq)
			if !it.Expires.IsZero() && (old.expires == 0 || toUnix(it.Expires) < old.expires) {
				// It now ends earlier, and is forgotten without a trace when it has. Who
				// follows the log and was away until then must not keep the longer one.
				b.Last++
				b.Deleted = append(b.Deleted, Deletion{Sequence: b.Last, ID: it.ID})
			}
			n.updated++
		}
		b.Last++
		it.Sequence = b.Last
		b.Put = append(b.Put, it.Decision)
		put = append(put, *it)
	}
	if have := l.set.Len(); l.max > 0 && n.added > 0 && have+n.added > l.max {
		return added{}, fmt.Errorf("adding %d decisions to %d, at most %d: %w", n.added, have, l.max, ErrFull)
	}
	if len(put) > 0 {
		if err := l.set.fits(put); err != nil {
			return added{}, err
		}
		if err := l.commit(ctx, b); err != nil {
			return added{}, fmt.Errorf("adding %d decisions: %w", len(put), err)
		}
		if err := l.set.put(put); err != nil {
			return added{}, fmt.Errorf("putting %d durable decisions in force: %w", len(put), err)
		}
	}
	for i := range items {
		items[i] = last[place[i]]
	}
	return n, nil
}

// commit makes b durable and takes over its state. The caller holds the turn.
func (l *Log) commit(ctx context.Context, b *Batch) error {
	deleted := l.deleted
	for _, d := range b.Deleted {
		deleted = append(deleted, d.Sequence)
	}
	if n := len(deleted) - l.kept; n > 0 {
		b.Floor = deleted[n-1]
		deleted = deleted[n:]
	}
	b.Drop = append(b.Drop, l.expired...)
	if err := l.store.Commit(ctx, b); err != nil {
		if errors.Is(err, ErrConflict) {
			l.usurped = err
		}
		return err
	}
	news := b.Last != l.state.Last
	l.state, l.deleted, l.expired = b.State, deleted, nil
	if news {
		l.announce()
	}
	return nil
}

// Delete deletes the decisions of these ids, durably and then from the set, and
// returns how many there were.
func (l *Log) Delete(ctx context.Context, ids ...string) (int, error) {
	if err := l.write(ctx); err != nil {
		return 0, err
	}
	defer l.unlock()
	return l.delete(ctx, l.set.entries(ids))
}

// DeleteWhere deletes the decisions in force that fit, as Delete does, and
// returns how many. A filter that fits everything is refused with ErrEverything.
// When it fails in between, some are deleted: it says how many.
func (l *Log) DeleteWhere(ctx context.Context, f Filter) (int, error) {
	if f.IsZero() {
		return 0, ErrEverything
	}
	if err := l.write(ctx); err != nil {
		return 0, err
	}
	defer l.unlock()
	var gone []*entry
	l.set.each(f.matcher(l.now()), func(e *entry) { gone = append(gone, e) })
	return l.delete(ctx, gone)
}

// delete deletes entries in batches. The caller holds the turn.
func (l *Log) delete(ctx context.Context, gone []*entry) (int, error) {
	n := 0
	for batch := range slices.Chunk(gone, MaxBatch) {
		b := &Batch{State: l.state}
		for _, e := range batch {
			b.Last++
			b.Drop = append(b.Drop, e.seq)
			b.Deleted = append(b.Deleted, Deletion{Sequence: b.Last, ID: e.id})
		}
		if err := l.commit(ctx, b); err != nil {
			return n, fmt.Errorf("deleting %d decisions: %w", len(batch), err)
		}
		if err := l.set.drop(batch); err != nil {
			return n, fmt.Errorf("lifting %d deleted decisions: %w", len(batch), err)
		}
		n += len(batch)
	}
	return n, nil
}

// Sweep forgets decisions that have expired, in the set and in the store, and
// returns how many. It looks at no more than about limit places, see Set.Sweep; call it
// every few seconds.
func (l *Log) Sweep(ctx context.Context, limit int) (int, error) {
	if err := l.write(ctx); err != nil {
		return 0, err
	}
	defer l.unlock()
	gone := l.set.toSweep(l.now(), limit)
	if len(gone) == 0 && len(l.expired) == 0 {
		return 0, nil
	}
	b := &Batch{State: l.state}
	for _, e := range gone {
		b.Drop = append(b.Drop, e.seq)
	}
	n := len(gone) + len(l.expired)
	if err := l.commit(ctx, b); err != nil {
		return 0, fmt.Errorf("forgetting %d expired decisions: %w", n, err)
	}
	return n, l.set.drop(gone)
}

// Position is how far somebody has followed the log. The zero Position asks for a snapshot.
type Position struct {
	After uint64 // sequence of the last change seen
	// Snapshot is where the log stood when a snapshot began that is still being
	// taken; 0 when none is. Deletions up to it do not matter to who takes it.
	Snapshot uint64
}

// Page is a part of the log.
type Page struct {
	Changes []Change
	Next    Position // ask from here
	More    bool     // there is more already
}

// Since returns the changes after a position, limit at most. Apply them in order; a
// deletion of what one does not have is nothing. The error is ErrBehind when
// deletions may have been missed, and when the position lies ahead of the log, which was then set back to a backup.
func (l *Log) Since(ctx context.Context, from Position, limit int) (Page, error) {
	if err := l.write(ctx); err != nil {
		return Page{}, err
	}
	start := l.state
	l.unlock()

	if max(from.After, from.Snapshot) > start.Last {
		return Page{}, ErrBehind
	}
	if from.After == 0 {
		from.Snapshot = start.Last
	}
	p := Page{Next: from}
	err := l.store.Changes(ctx, from.After, func(c Change) bool {
		if len(p.Changes) == limit {
			p.More = true
			return false
		}
		if c.Decision != nil {
			d := *c.Decision
			c.Decision = &d
		}
		p.Changes = append(p.Changes, c)
		p.Next.After = c.Sequence
		return true
	})
	if err != nil {
		return Page{}, fmt.Errorf("reading decision changes after %d: %w", from.After, err)
	}
	if !p.More {
		// What was dropped without a trace lies behind now.
		p.Next.After = max(p.Next.After, start.Last)
	}
	if p.Next.After >= p.Next.Snapshot {
		p.Next.Snapshot = 0
	}

	// Deletions may have been forgotten while the changes were read: ask afterwards.
	if err := l.write(ctx); err != nil {
		return Page{}, err
	}
	floor := l.state.Floor
	l.unlock()
	if max(from.After, from.Snapshot) < floor {
		return Page{}, ErrBehind
	}
	return p, nil
}

// exportPage is how many decisions Export holds in memory.
const exportPage = 1000

// Export writes the decisions in force as NDJSON, one defense.Decision a line, in
// the order of their sequences. Import reads it back.
func (l *Log) Export(ctx context.Context, w io.Writer) error {
	enc := json.NewEncoder(w)
	now := l.now()
	for at := (Position{}); ; {
		p, err := l.Since(ctx, at, exportPage)
		if err != nil {
			return fmt.Errorf("exporting decisions: %w", err)
		}
		for _, c := range p.Changes {
			if d := c.Decision; d != nil && (d.Expires.IsZero() || d.Expires.After(now)) {
				if err := enc.Encode(d); err != nil {
					return fmt.Errorf("exporting decisions: %w", err)
				}
			}
		}
		if !p.More {
			return nil
		}
		at = p.Next
	}
}
