package decision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Listener hears the bell that is rung after changes of the log, see store.Bell.
type Listener interface {
	// Listen calls fn after rings, some of which may be missed, until ctx ends.
	Listen(ctx context.Context, fn func()) error
}

// FollowerOptions are the settings of a Follower. Log is required; the zero value of any other field takes what
// its comment says.
type FollowerOptions struct {
	// Snapshot is the file in which what is known survives a restart; "": nothing does, and who starts while the
	// log is away starts without decisions.
	Snapshot string
	Wait     time.Duration // for a change, in one request; at most a minute; 0: 25 s
	Resync   time.Duration // between comparisons with the whole log, which repair any difference; 0: 1 h
	Save     time.Duration // shortest time between two writes of the snapshot; 0: 3 s
	Bell     Listener      // nil: changes are learnt of by the waiting request alone
	Log      *slog.Logger
	Now      func() time.Time   // nil: time.Now
	OnMode   func(defense.Mode) // called from Load and Run when the mode in force is another than before; must return soon; nil: nobody asks
}

// Bounds of following.
const (
	followPage = 5000             // changes asked for at once
	askTime    = 30 * time.Second // for an answer, beyond the wait
	minBackoff = 250 * time.Millisecond
	maxBackoff = 10 * time.Second
	hasty      = time.Second // an empty answer that comes sooner did not wait
	maxRefused = 10_000      // refused decisions that are told apart
)

// Follower keeps a Set in step with a Log in another process. While the log is away the set stays
// as it is, and decisions end when they expire. What the set is told to refuse (a ban of this edge's own trusted
// proxy) is left out and said.
//
// A follower holds as many decisions as the log has: bound them there, by LogOptions.MaxEntries.
type Follower struct {
	set    *Set
	client Client
	o      FollowerOptions
	rung   chan struct{} // holds one ring

	// Owned by Load and then by Run.
	at        Position
	waiting   bool            // the set is in step as of at: the next request may wait
	doomed    map[string]bool // deleted, to be removed when all pages have come
	postponed map[string]item // agents for which there was no room until then
	refused   map[string]bool
	whole     *comparison // under way; nil: none is
	compared  time.Time   // when the next one is due

	mu    sync.Mutex
	known known     // what a snapshot may say
	heard time.Time // the latest moment as of which the set was known to be in step

	dirty     chan struct{} // holds one wish to save
	saved     known         // what the file says; owned by who saves
	connected atomic.Bool
	stats     struct{ changes, comparisons, repaired, failures, refused, saves atomic.Uint64 }

	asking, saving, refusing *telemetry.State
}

// known is a consistent state of the set.
type known struct {
	after   uint64
	mode    defense.Mode
	hasMode bool
	synced  bool // the set was in step with the log since the start, or as a snapshot says
	repairs uint64
}

// comparison is what a walk over the whole log has seen so far.
type comparison struct {
	sequences []uint64 // of decisions, ascending
}

// NewFollower returns a follower that fills set, which must be empty, with the decisions of the log
// that client speaks to. Nothing but the follower, and Set.Sweep, may change the set. Call Load, if there is a snapshot file, and then Run.
func NewFollower(set *Set, client *Client, o FollowerOptions) *Follower {
	if o.Wait <= 0 {
		o.Wait = 25 * time.Second
	}
	o.Wait = min(o.Wait, maxWait)
	if o.Resync <= 0 {
		o.Resync = time.Hour
	}
	if o.Save <= 0 {
		o.Save = 3 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Follower{
		set: set, client: *client, o: o, rung: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		doomed: map[string]bool{}, postponed: map[string]item{}, refused: map[string]bool{},
		asking: telemetry.NewState(o.Log, "the decision log cannot be reached; serving goes on with the decisions that are known",
			"the decision log is reached again", o.Now),
		saving: telemetry.NewState(o.Log, "decisions cannot be kept over a restart", "decisions are kept over a restart again", o.Now),
		refusing: telemetry.NewState(o.Log, "decisions of the log cannot be put in force here", "all decisions of the log are in force here again",
			o.Now),
	}
	if h := client.HTTP; h != nil && h.Timeout > 0 {
		own := *h
		own.Timeout = 0 // every request has a deadline of its own, and some are meant to wait
		f.client.HTTP = &own
	}
	return f
}

// Run follows the log until ctx ends, and returns what went wrong with the last snapshot. It must be called once.
func (f *Follower) Run(ctx context.Context) error {
	var background sync.WaitGroup
	if f.o.Bell != nil {
		background.Go(func() { f.listen(ctx) })
	}
	if f.o.Snapshot != "" {
		background.Go(func() { f.keepSaving(ctx) })
	}
	f.follow(ctx)
	f.connected.Store(false)
	background.Wait()
	if f.o.Snapshot == "" {
		return nil
	}
	return f.save()
}

// listen turns the bell's rings into f.rung.
func (f *Follower) listen(ctx context.Context) {
	state := telemetry.NewState(f.o.Log, "announcements of decisions cannot be heard; the waiting request goes on", "announcements of decisions are heard again", f.o.Now)
	ring := func() {
		state.Report(nil)
		poke(f.rung)
	}
	for ctx.Err() == nil {
		err := f.o.Bell.Listen(ctx, ring)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the bell has stopped listening")
		}
		state.Report(err)
		pause(ctx, jittered(maxBackoff), nil)
	}
}

// poke leaves a token if there is none.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follow asks for changes and applies them until ctx ends.
func (f *Follower) follow(ctx context.Context) {
	backoff := minBackoff
	if f.at.After == 0 {
		f.compare()
	} else {
		f.compared = f.nextComparison()
	}
	for ctx.Err() == nil {
		if f.whole == nil && !f.o.Now().Before(f.compared) {
			f.compare()
		}
		err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.asking.Report(nil)
			backoff = minBackoff
			continue
		case errors.Is(err, errRung):
			continue
		case errors.Is(err, ErrBehind):
			f.o.Log.Info("the decision log cannot tell what has changed since; all of it is compared", "sequence", f.at.After)
			f.compare()
			pause(ctx, jittered(backoff), nil)
			backoff = min(2*backoff, maxBackoff)
			continue
		default:
			f.waiting = false // ask without waiting first: there may be much to catch up with
		}
		f.connected.Store(false)
		f.stats.failures.Add(1)
		f.asking.Report(err)
		pause(ctx, jittered(backoff), f.rung)
		backoff = min(2*backoff, maxBackoff)
	}
}

// compare begins to walk over the whole log. The set stays as it is until that has ended.
func (f *Follower) compare() {
	f.at, f.waiting, f.whole = Position{}, false, &comparison{}
	clear(f.doomed)
	clear(f.postponed)
	clear(f.refused)
	f.stats.comparisons.Add(1)
}

// nextComparison is not the same for all who were started together.
func (f *Follower) nextComparison() time.Time {
	return f.o.Now().Add(f.o.Resync - time.Duration(rand.Int64N(int64(f.o.Resync)/5+1)))
}

var errRung = errors.New("the bell was rung")

// step asks once and applies the answer.
func (f *Follower) step(ctx context.Context) error {
	o := SinceOptions{Limit: followPage}
	now := f.currently()
	if f.waiting && now.hasMode {
		o.Mode = &now.mode
	}
	if f.waiting {
		o.Wait = f.o.Wait
		select {
		case <-f.rung:
			o.Wait = 0
		default:
		}
	}
	began := time.Now()
	page, mode, err := f.ask(ctx, o)
	if err != nil {
		return err
	}
	if page.More && page.Next.After <= f.at.After {
		return errors.New("the decision log does not get on: it answers with the changes that it was asked to leave out")
	}
	// A server that is shutting down, or does not know how to wait, answers at once.
	idle := o.Wait > 0 && len(page.Changes) == 0 && page.Next == f.at && (mode == nil || now.hasMode && *mode == now.mode) && time.Since(began) < min(hasty, o.Wait/2)
	if err := f.apply(&page); err != nil {
		f.compare() // some of it may be in the set
		return err
	}
	if mode != nil {
		f.setMode(*mode)
	}
	f.connected.Store(true)
	if idle {
		pause(ctx, jittered(hasty), f.rung)
	}
	return nil
}

// ask sends one request. A ring ends one that waits: its answer may be held up on the way.
func (f *Follower) ask(ctx context.Context, o SinceOptions) (Page, *defense.Mode, error) {
	within, cancel := context.WithTimeoutCause(ctx, o.Wait+askTime, errors.New("no answer in time"))
	defer cancel()
	if o.Wait == 0 || f.o.Bell == nil {
		return f.client.Since(within, f.at, o)
	}
	within, interrupt := context.WithCancelCause(within)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-f.rung:
			interrupt(errRung)
			poke(f.rung) // for the next step
		case <-within.Done():
		}
	})
	page, mode, err := f.client.Since(within, f.at, o)
	interrupt(nil)
	watch.Wait()
	if err != nil && errors.Is(context.Cause(within), errRung) {
		err = errRung
	}
	return page, mode, err
}

// apply brings the set on by one page. New decisions take effect at once, deletions when the last page has
// come: a decision that was changed is deleted and put again, and must not be missing in between.
func (f *Follower) apply(p *Page) error {
	items := make([]item, 0, len(p.Changes))
	last := f.at.After
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Sequence <= last {
			return fmt.Errorf("the decision log answers out of order: %d after %d", c.Sequence, last)
		}
		last = c.Sequence
		if c.Decision == nil {
			f.doomed[c.Deleted] = true
			delete(f.postponed, c.Deleted)
			delete(f.refused, c.Deleted)
			continue
		}
		d := *c.Decision
		d.Sequence = c.Sequence
		it, err := f.set.check(d)
		if err == nil && (d.ID == "" || len(d.ID) > maxID) {
			err = &InvalidError{"id", fmt.Sprintf("%d bytes, want 1 to %d", len(d.ID), maxID)}
		}
		if err != nil {
			f.refuse(d.ID, fmt.Errorf("decision %s: %w", quote(d.ID), err))
			f.doomed[d.ID] = true // an older form of it must not stay
			continue
		}
		delete(f.doomed, d.ID)
		delete(f.refused, d.ID)
		items = append(items, it)
		if f.whole != nil {
			f.whole.sequences = append(f.whole.sequences, c.Sequence)
		}
	}
	if p.Next.After < last {
		return fmt.Errorf("the decision log goes back from %d to %d", last, p.Next.After)
	}
	f.stats.changes.Add(uint64(len(p.Changes)))
	if err := f.put(items); err != nil {
		return err
	}
	f.at, f.waiting = p.Next, !p.More
	if p.More {
		return nil
	}
	return f.settle()
}

// put puts items in force; agents for which there is no room have to wait for deletions.
func (f *Follower) put(items []item) error {
	err := f.set.put(items)
	if !errors.Is(err, ErrTooManyAgents) {
		return err
	}
	rest := make([]item, 0, len(items))
	for i := range items {
		if items[i].Scope == defense.ScopeAgent {
			f.postponed[items[i].ID] = items[i]
		} else {
			rest = append(rest, items[i])
		}
	}
	return f.set.put(rest)
}

// settle does what had to wait for the last page.
func (f *Follower) settle() error {
	if len(f.doomed) > 0 {
		ids := make([]string, 0, len(f.doomed))
		for id := range f.doomed {
			ids = append(ids, id)
		}
		if _, err := f.set.Remove(ids...); err != nil {
			return err
		}
		clear(f.doomed)
	}
	if f.whole != nil {
		strange := f.set.strangers(f.whole.sequences)
		if err := f.set.drop(strange); err != nil {
			return err
		}
		f.stats.repaired.Add(uint64(len(strange)))
		f.whole, f.compared = nil, f.nextComparison()
	}
	f.putPostponed()
	if len(f.refused) == 0 {
		f.refusing.Report(nil)
	}
	f.stats.refused.Store(uint64(len(f.refused)))
	f.mu.Lock()
	f.known.after, f.known.synced, f.heard = f.at.After, true, f.o.Now()
	f.known.repairs = f.stats.repaired.Load()
	f.mu.Unlock()
	poke(f.dirty)
	return nil
}

// putPostponed puts the agents in force that had to wait for room, as many as there is room for.
func (f *Follower) putPostponed() {
	if len(f.postponed) == 0 {
		return
	}
	items := slices.SortedFunc(maps.Values(f.postponed), func(a, b item) int { return cmp.Compare(a.Sequence, b.Sequence) })
	clear(f.postponed)
	fit := min(len(items), f.set.roomForAgents())
	err := f.set.put(items[:fit])
	if err != nil {
		fit = 0
	} else if fit < len(items) {
		err = ErrTooManyAgents
	}
	for _, it := range items[fit:] {
		f.refuse(it.ID, fmt.Errorf("decision %s: %w", quote(it.ID), err))
	}
}

func (f *Follower) refuse(id string, err error) {
	if len(f.refused) < maxRefused {
		f.refused[id] = true
	}
	f.refusing.Report(err)
}

// roomForAgents returns how many more agent decisions there may be.
func (s *Set) roomForAgents() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, MaxAgents-len(s.words))
}

// strangers returns the entries whose sequence is not among those, which ascend.
func (s *Set) strangers(sequences []uint64) []*entry {
	var out []*entry
	s.each(func(e *entry) bool {
		_, found := slices.BinarySearchFunc(sequences, e.seq, cmp.Compare[uint64])
		return !found
	}, func(e *entry) { out = append(out, e) })
	return out
}

func (f *Follower) currently() known {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

func (f *Follower) setMode(m defense.Mode) {
	f.mu.Lock()
	same := f.known.hasMode && f.known.mode == m
	f.known.mode, f.known.hasMode = m, true
	f.mu.Unlock()
	if same {
		return
	}
	poke(f.dirty)
	if f.o.OnMode != nil {
		f.o.OnMode(m)
	}
}

// FollowerStats is how well a set is in step. The counts are since the start.
type FollowerStats struct {
	Synced    bool          // the set was in step with the log once, or as a snapshot says
	Connected bool          // the latest request was answered
	Last      uint64        // sequence of the log up to which the set is in step
	Lag       time.Duration // since when changes may have been missed: 0 while connected
	Decisions int           // held, expired ones included until they are swept
	Refused   uint64        // decisions of the log that are not in force here, at present

	Changes     uint64 // received
	Comparisons uint64 // with the whole log that were begun
	Repaired    uint64 // decisions that such a comparison found to be in the set only
	Failures    uint64 // requests
	Saves       uint64 // snapshots written
	Err         error  // why the log cannot be reached, decisions not put in force or the snapshot not written; nil when all is well
}

// Stats returns the present state.
func (f *Follower) Stats() FollowerStats {
	f.mu.Lock()
	k, heard := f.known, f.heard
	f.mu.Unlock()
	s := FollowerStats{
		Synced: k.synced, Connected: f.connected.Load(), Last: k.after, Decisions: f.set.Len(),
		Refused: f.stats.refused.Load(), Changes: f.stats.changes.Load(), Comparisons: f.stats.comparisons.Load(), Repaired: f.stats.repaired.Load(),
		Failures: f.stats.failures.Load(), Saves: f.stats.saves.Load(),
		Err: cmp.Or(f.asking.Err(), f.refusing.Err(), f.saving.Err()),
	}
	if !s.Connected && !heard.IsZero() {
		s.Lag = max(0, f.o.Now().Sub(heard))
	}
	return s
}

// jittered returns between half of d and d, so that many who failed together do not come back together.
func jittered(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// pause waits for d, or less when ctx ends or there is something to take from early, which may be nil.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
}
