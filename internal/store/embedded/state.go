package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redemption"
	"github.com/quickthorn/quickthorn/internal/store"
	"go.etcd.io/bbolt"
)

// StateOptions are a State's optional parts.
type StateOptions struct {
	// QueueBytes bounds what the queue holds, dead letters included, in bytes; 0: DefaultQueueBytes. Each batch counts 256 bytes beside its body. The
	// file may take about half as much again.
	QueueBytes int64
	Now        func() time.Time // nil: time.Now
	Log        *slog.Logger     // nil: nothing is logged
}

// State is everything that one machine keeps, as store.State wants it. Its bell and its leases work within the
// process: no other one can have the files open.
type State struct {
	db     *DB
	queue  *Queue
	bell   bell
	leases leases
	// In memory only: a restart that forgets them costs less than a write to the disk for each reader who passes.
	redemptions *redemption.Memory
	closed      atomic.Bool
}

var _ store.State = (*State)(nil)

// OpenState opens the files in the directory, which must exist, and makes those that are not there. Errors wrap
// ErrInUse, ErrCorrupt, ErrQueueCorrupt, ErrNewer or the file system's. Close the State when done.
func OpenState(ctx context.Context, dir string, o StateOptions) (*State, error) {
	if o.QueueBytes < 0 {
		return nil, fmt.Errorf("a queue of %d bytes", o.QueueBytes)
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	db, err := Open(ctx, filepath.Join(dir, FileName)) // first: its lock guards both
	if err != nil {
		return nil, err
	}
	q, err := openQueue(ctx, filepath.Join(dir, QueueFileName), o.QueueBytes, o.Now, o.Log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &State{db: db, queue: q, bell: bell{listeners: map[chan struct{}]bool{}}, leases: leases{held: map[string]chan struct{}{}}, redemptions: redemption.NewMemory(1 << 17)}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// DB returns the state file, as for a backup. Closing the State closes it.
func (s *State) DB() *DB { return s.db }

// Commit makes the batch durable, all of it or none.
func (s *State) Commit(ctx context.Context, b *decision.Batch) error { return s.db.Commit(ctx, b) }

// State returns what the latest batch said.
func (s *State) State(ctx context.Context) (decision.State, error) { return s.db.State(ctx) }

// Changes calls fn for the changes after a sequence, in order, until it returns
// false. fn must not write to the State.
func (s *State) Changes(ctx context.Context, after uint64, fn func(decision.Change) bool) error {
	return s.db.Changes(ctx, after, fn)
}

// Settings returns the state file's settings.
func (s *State) Settings() store.Settings { return s.db.Settings() }

// Queue returns the queue.
func (s *State) Queue() queue.Queue { return s.queue }

// Redeem notes a redemption. It is remembered for redemption.Keep, whatever keep is, and until the process ends.
func (s *State) Redeem(_ context.Context, r defense.Redemption, _ time.Duration) (first defense.Redemption, known bool, err error) {
	if s.closed.Load() {
		return first, false, errors.New("noting a redemption: the state is closed")
	}
	first, known = s.redemptions.Note(r)
	return first, known, nil
}

// Ping is nil while both files can be read.
func (s *State) Ping(ctx context.Context) error {
	_, err := s.db.State(ctx)
	return errors.Join(err, s.queue.file.view(ctx, func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketWaiting) == nil {
			return fmt.Errorf("%w: no bucket %q", ErrQueueCorrupt, bucketWaiting)
		}
		return nil
	}))
}

// Close waits for what is being written and closes the files.
func (s *State) Close() error {
	s.closed.Store(true)
	return errors.Join(s.queue.close(), s.db.Close())
}

// bell is a store.Bell within a process.
type bell struct {
	mu        sync.Mutex
	listeners map[chan struct{}]bool
}

// Ring tells all who listen.
func (s *State) Ring(context.Context) error {
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	for l := range s.bell.listeners {
		select {
		case l <- struct{}{}:
		default: // it has not yet begun with an earlier ring
		}
	}
	return nil
}

// Listen calls fn at once and after rings until ctx ends, and returns its error.
func (s *State) Listen(ctx context.Context, fn func()) error {
	l := make(chan struct{}, 1)
	l <- struct{}{} // what was rung before is missed
	s.bell.mu.Lock()
	s.bell.listeners[l] = true
	s.bell.mu.Unlock()
	defer func() {
		s.bell.mu.Lock()
		delete(s.bell.listeners, l)
		s.bell.mu.Unlock()
	}()
	for {
		select {
		case <-l:
			fn()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leases are a store.Lease within a process.
type leases struct {
	mu   sync.Mutex
	held map[string]chan struct{} // full while somebody holds it
}

func (l *leases) of(name string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] == nil {
		l.held[name] = make(chan struct{}, 1)
	}
	return l.held[name]
}

// Hold calls fn while nobody else in this process holds the named lease, as store.Lease says. It is never lost, and ttl means nothing:
// a process that was killed has let go of the files.
func (s *State) Hold(ctx context.Context, name string, _ time.Duration, waiting func(holder string), fn func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lease := s.leases.of(name)
	select {
	case lease <- struct{}{}:
	default:
		if waiting != nil {
			waiting("this process")
		}
		select {
		case lease <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lease %q: %w", name, context.Cause(ctx))
		}
	}
	defer func() { <-lease }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return fn(ctx)
}
