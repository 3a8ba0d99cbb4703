package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Archive is where acknowledged events end up.
type Archive interface {
	Append(ctx context.Context, events []*defense.Event) (duplicates int, err error)
	// AddCountersOnce adds counters unless a batch with that id was added before.
	AddCountersOnce(ctx context.Context, id string, counters []record.Counter) error
}

// History is what a restarted intake learns from. It may be nil.
type History interface {
	Events(ctx context.Context, f record.Filter) (record.Page, error)
}

// Judge is the escalation engine, in this process or another. What it returns is not changed.
type Judge interface {
	Judge(ctx context.Context, c *defense.Case) (*defense.Judgement, error)
}

// Decisions is the decision log.
type Decisions interface {
	Add(ctx context.Context, ds []defense.Decision, o decision.AddOptions) ([]defense.Decision, error)
	Get(id string) (defense.Decision, bool)
}

// Alerter tells the owner. Raise must not block.
type Alerter interface{ Raise(a alert.Alert) }

// Options are the parts of a Service. Cases, History and Archive may be nil: cases are then not kept, nothing is
// learnt from before a restart, and events are looked at and forgotten.
type Options struct {
	Queue     queue.Queue
	Archive   Archive
	Cases     casebook.Store
	History   History
	Book      *casebook.Book
	Judge     Judge
	Decisions Decisions
	Alerts    Alerter
	Judges    int                  // cases judged at once; 0: 4
	OnCase    func(c defense.Case) // called for each judged case; may be nil
	Now       func() time.Time
	NewID     func() string // ULIDs
	Log       *slog.Logger
}

// Service is the intake. Accept and Observe may be called from when New returns; once Run has ended Accept says ErrBusy
// and Observe forgets.
type Service struct {
	o     Options
	codec *codec
	seed  maphash.Seed

	observe chan *lot
	judge   chan defense.Case
	judged  chan verdict
	ask     chan func(*casebook.Book) // run by the casebook's goroutine

	memory   memory
	bodies   bodies
	standing standing
	cases    caseWriter
	stats    stats
	ended    atomic.Bool
	over     chan struct{} // closed when Run has ended
	states   struct{ taking, queue, archive, judge, cases, decisions *telemetry.State }
	refused  atomic.Int64 // when events could not be taken last, in Unix nanoseconds

	postures map[string]posture // by edge; owned by the casebook's goroutine
}

type stats struct {
	accepted, duplicate, rejected, transient, unobserved, archived, buried, counters atomic.Uint64
	judged, decided, refused                                                         atomic.Uint64
	lastLag                                                                          atomic.Int64 // nanoseconds
}

// Stats is what has happened since the start, and what is waiting.
type Stats struct {
	Accepted, Duplicate, Rejected, Transient, Unobserved, Archived, Buried, CounterBatches uint64
	Judged, Decided, Refused                                                               uint64
	Lag                                                                                    time.Duration // from acceptance to the archive, of the latest batch
}

// verdict is a case that was judged.
type verdict struct {
	c       defense.Case
	j       *defense.Judgement // as it was carried out; nil when the engine could not be asked
	decided []string
	err     error // what Run cannot go on with
}

// New returns a service; Run makes it work.
func New(o Options) (*Service, error) {
	if o.Judges <= 0 {
		o.Judges = 4
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	s := &Service{
		o: o, codec: c, seed: maphash.MakeSeed(),
		observe: make(chan *lot, observing), judge: make(chan defense.Case), judged: make(chan verdict, o.Judges),
		ask: make(chan func(*casebook.Book)), over: make(chan struct{}),
		memory: newMemory(), bodies: newBodies(), postures: map[string]posture{},
	}
	state := func(bad, good string) *telemetry.State { return telemetry.NewState(o.Log, bad, good, o.Now) }
	s.states.taking = state("events cannot be taken; edges keep theirs and try again", "events are taken again")
	s.states.queue = state("the queue of events cannot be read", "the queue of events is read again")
	s.states.archive = state("events cannot be archived; they wait in the queue", "events are archived again")
	s.states.judge = state("cases cannot be judged; edges go on with what they know", "cases are judged again")
	s.states.cases = state("cases cannot be stored; they are kept in memory", "cases are stored again")
	s.states.decisions = state("decisions cannot be made", "decisions are made again")
	return s, nil
}

// Receipt is the answer to a batch.
type Receipt struct {
	Accepted  int        `json:"accepted"`
	Duplicate int        `json:"duplicate"`
	Rejected  []Rejected `json:"rejected"` // the first hundred
}

// ErrBusy is wrapped by Accept's error when events cannot be taken now: try again later.
var ErrBusy = errors.New("events cannot be taken now")

// appendTime bounds the wait for the queue to keep one batch.
const appendTime = 10 * time.Second

// Accept makes events durable and has them looked at. Those that were accepted lately, by id, are counted as
// duplicates; those that are no events are rejected. packed, if not nil, is the queue's body of exactly these
// events, which were then checked already. When the error is nil, the events and their slice belong to the service from then on.
// When it is not, nothing is acknowledged: send the same again.
func (s *Service) Accept(ctx context.Context, source string, events []*defense.Event, packed []byte) (Receipt, error) {
	if packed != nil {
		return s.accept(ctx, source, events, packed)
	}
	good, rejected := events, []Rejected(nil)
	latest := s.o.Now().Add(maxAhead)
	for i, e := range events {
		problem := checkEvent(e)
		if problem == "" {
			problem = checkAhead(e, latest)
		}
		switch {
		case problem != "" && rejected == nil:
			good = append(make([]*defense.Event, 0, len(events)), events[:i]...) // the slice is the caller's until we have accepted
			fallthrough
		case problem != "":
			rejected = append(rejected, Rejected{i, problem})
		case rejected != nil:
			good = append(good, e)
		}
	}
	r, err := s.accept(ctx, source, good, nil)
	if err != nil {
		return r, err
	}
	s.reject(&r, rejected)
	return r, nil
}

// reject notes what was rejected of an accepted batch.
func (s *Service) reject(r *Receipt, rejected []Rejected) {
	s.stats.rejected.Add(uint64(len(rejected)))
	r.Rejected = rejected[:min(len(rejected), maxRejected)]
}

// accept is Accept for events that were checked.
func (s *Service) accept(ctx context.Context, source string, events []*defense.Event, packed []byte) (Receipt, error) {
	if s.ended.Load() {
		return Receipt{}, fmt.Errorf("%w: shutting down", ErrBusy)
	}
	fresh := s.memory.fresh(events)
	r := Receipt{Accepted: len(fresh), Duplicate: len(events) - len(fresh)}
	if len(fresh) > 0 {
		parcels := []parcel{{packed, fresh}}
		if packed == nil || len(fresh) != len(events) {
			var err error
			if parcels, err = s.codec.pack(fresh); err != nil {
				return Receipt{}, err
			}
		}
		now := s.o.Now()
		for i := range parcels {
			p := &parcels[i]
			err := s.append(ctx, queue.Batch{Source: source, At: now, Events: len(p.events), Body: p.body})
			if err != nil {
				if ctx.Err() == nil { // the defence must not go blind because the disk is full
					s.showRefused(s.key(p.body), p.events)
				}
				return Receipt{}, err
			}
			s.stats.accepted.Add(uint64(len(p.events)))
			s.kept(s.key(p.body), p.events)
		}
	}
	s.stats.duplicate.Add(uint64(r.Duplicate))
	return r, nil
}

// Observe has transient events of this process's own edge looked at. They are not kept, so none is waited for: what
// does not fit is counted and forgotten. The events and their slice belong to the service from then on.
func (s *Service) Observe(events []*defense.Event) {
	s.stats.transient.Add(uint64(len(events)))
	if s.ended.Load() || !s.offer(&lot{show: events, weight: weigh(events)}) {
		s.stats.unobserved.Add(uint64(len(events)))
	}
}

// CounterBatch is the body of POST /v1/counters: exact counts of an edge's verdicts. The id makes it safe to send again.
type CounterBatch struct {
	ID       string           `json:"id"` // ULID
	Edge     string           `json:"edge"`
	Counters []record.Counter `json:"counters"`
}

// maxCounters bounds one batch of counters: an hour of a thousand sites.
const maxCounters = 50_000

// check says what is wrong with a batch: what no archive would take must not be acknowledged.
func (b *CounterBatch) check() error {
	if _, err := ulid.ParseStrict(b.ID); err != nil {
		return errors.New("id: is not a ULID")
	}
	if len(b.Edge) > queue.MaxSource || !utf8.ValidString(b.Edge) {
		return fmt.Errorf("edge: want at most %d bytes of UTF-8", queue.MaxSource)
	}
	if len(b.Counters) > maxCounters {
		return fmt.Errorf("%w: at most %d counters", errTooMuch, maxCounters)
	}
	for i := range b.Counters {
		c := &b.Counters[i]
		problem := ""
		switch {
		case !plausible(c.Hour):
			problem = "hour: lies before 2000 or after 2200"
		case len(c.Site) > 128 || !utf8.ValidString(c.Site) || strings.IndexByte(c.Site, 0) >= 0:
			problem = "site: want at most 128 bytes of UTF-8 without NUL"
		case c.Count > math.MaxInt64:
			problem = "count: is too large"
		default:
			continue
		}
		return fmt.Errorf("counters[%d].%s", i, problem)
	}
	return nil
}

// AcceptCounters makes counters durable. The error wraps ErrBusy when the same may be sent again; any other says what is wrong with them.
func (s *Service) AcceptCounters(ctx context.Context, b CounterBatch) error {
	if err := b.check(); err != nil {
		return err
	}
	if s.ended.Load() {
		return fmt.Errorf("%w: shutting down", ErrBusy)
	}
	if len(b.Counters) == 0 {
		return nil
	}
	body, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("counters %s: %w", b.ID, err)
	}
	if len(body) >= queue.MaxBody {
		return fmt.Errorf("%w: the counters take %d bytes, at most %d", errTooMuch, len(body), queue.MaxBody-1)
	}
	if err := s.append(ctx, queue.Batch{Source: b.Edge, At: s.o.Now(), Body: append([]byte{bodyCounters}, body...)}); err != nil {
		return err
	}
	s.stats.counters.Add(1)
	return nil
}

// calm is how long events must have been taken without a failure until that is said: at the queue's bound some
// batches fit and some do not, several times a second.
const calm = 10 * time.Second

func (s *Service) append(ctx context.Context, b queue.Batch) error {
	if len(b.Source) > queue.MaxSource {
		b.Source = strings.ToValidUTF8(b.Source[:queue.MaxSource], "")
	}
	appending, cancel := context.WithTimeoutCause(ctx, appendTime, fmt.Errorf("the queue did not answer within %s", appendTime))
	defer cancel()
	err := s.o.Queue.Append(appending, b)
	now := s.o.Now().UnixNano()
	switch {
	case err == nil:
		if !s.states.taking.Failing() || now-s.refused.Load() >= int64(calm) {
			s.states.taking.Report(nil)
		}
		return nil
	case ctx.Err() == nil: // else the caller has given up, and the queue is not to blame
		s.refused.Store(now)
		s.states.taking.Report(err)
	}
	return fmt.Errorf("%w: %w", ErrBusy, err)
}

// key names a queue's body within this process.
func (s *Service) key(body []byte) uint64 { return maphash.Bytes(s.seed, body) }

// Run works until ctx ends: it archives what is queued, keeps the casebook, has cases judged and carries out what comes of it.
// At the end what was accepted is in the queue, for the next start. Run must be called once. An error before ctx ended
// wraps decision.ErrConflict: another process owns the decisions.
func (s *Service) Run(ctx context.Context) error {
	defer close(s.over)
	defer s.ended.Store(true)
	s.warmUp(ctx)
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return s.keep(running) })
	g.Go(func() error { return s.book(running) })
	g.Go(func() error { return s.writeCases(running) })
	for range s.o.Judges {
		g.Go(func() error { return s.judges(running) })
	}
	err := g.Wait()
	s.lastCases(ctx) // when nobody judges any more
	return err
}

// Stats returns what has happened.
func (s *Service) Stats() Stats {
	t := &s.stats
	return Stats{
		Accepted: t.accepted.Load(), Duplicate: t.duplicate.Load(), Rejected: t.rejected.Load(), Transient: t.transient.Load(),
		Unobserved: t.unobserved.Load(), Archived: t.archived.Load(), Buried: t.buried.Load(), CounterBatches: t.counters.Load(),
		Judged: t.judged.Load(), Decided: t.decided.Load(), Refused: t.refused.Load(), Lag: time.Duration(t.lastLag.Load()),
	}
}

// ArchiveFailing reports whether the latest attempt to archive events failed.
func (s *Service) ArchiveFailing() bool { return s.states.archive.Failing() }
