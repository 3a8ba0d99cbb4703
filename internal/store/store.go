// Package store names the two stores that quickthorn keeps things in: the state, which every decision
// depends on, and the archive, which the owner looks things up in. Packages named after what they speak to
// implement them: store/embedded and store/redis the state, store/sqlite and store/postgres the archive. One suite of
// tests, store/storetest, holds all four to the same behaviour.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/redemption"
)

// Errors that implementations wrap.
var (
	// ErrConflict says that another process has written to the decision log meanwhile: who gets it
	// is no longer the log's owner.
	ErrConflict = decision.ErrConflict
	// ErrLeaseLost is the cause of the end of a context that [Lease.Hold] handed out.
	ErrLeaseLost = errors.New("the lease was lost")
)

// State keeps decisions, settings and the queue of events. It is safe for concurrent use.
type State interface {
	decision.Store
	Settings() Settings
	Queue() queue.Queue
	Bell
	Lease
	redemption.Store
	// Ping is nil while the store can be used; the error says what is wrong.
	Ping(ctx context.Context) error
	Close() error
}

// MaxSetting is the size of the largest setting, in bytes.
const MaxSetting = 64 << 10

// Settings keeps small values over a restart.
type Settings interface {
	// Get returns the value of a setting; nil when it was never put.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put makes the value of a setting durable.
	Put(ctx context.Context, key string, value []byte) error
}

// Bell tells those who follow the decision log that there is something new. A ring may be lost: who
// listens also looks now and then.
type Bell interface {
	Ring(ctx context.Context) error
	// Listen calls fn after rings, and each time it has (re-)connected, since rings may have been missed before;
	// several rings may be one call. It returns when ctx ends, with its error; a broken connection it mends itself.
	Listen(ctx context.Context, fn func()) error
}

// Lease makes one process of several the owner of something.
type Lease interface {
	// Hold waits until the named lease is free, takes it, and calls fn with a context that ends, with the cause ErrLeaseLost, when the
	// lease cannot be renewed in time. It gives the lease back when fn returns, and returns fn's error. A process that was
	// killed loses its lease after ttl. waiting, if not nil, is called once with who holds the lease if it is not free at first.
	Hold(ctx context.Context, name string, ttl time.Duration, waiting func(holder string), fn func(ctx context.Context) error) error
}

// Archive keeps events, counters, cases and artifacts. It is safe for concurrent use.
type Archive interface {
	record.Archive
	record.Reader
	casebook.Store
	artifact.Store
	// AddCountersOnce is AddCounters for counters that may come again: a set with an id, a ULID, that was added within
	// the last week is not added again, whatever is in it.
	AddCountersOnce(ctx context.Context, id string, counters []record.Counter) error
	// Ping is nil while the store can be used; the error says what is wrong.
	Ping(ctx context.Context) error
	Close() error
}
