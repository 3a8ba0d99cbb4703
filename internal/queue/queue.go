// Package queue is the durable queue between who accepts events and who works on them.
//
// What Append has taken survives a crash; it is handed out until it is acknowledged (at least
// once), and what cannot be worked on is kept aside as a dead letter, visible and replayable. Package store/embedded
// keeps it in a file, store/redis in a stream.
package queue

import (
	"context"
	"errors"
	"time"
)

// MaxBody is the largest Body of a Batch, in bytes.
const MaxBody = 8 << 20

// ErrFull is wrapped by Append's error when the queue has reached its bound.
var ErrFull = errors.New("the queue is full")

// ErrUnknown is wrapped when a named batch or dead letter is not there.
var ErrUnknown = errors.New("no such entry")

// Batch is a number of events on their way.
type Batch struct {
	ID       string    // where it lies; assigned by the queue, in order of arrival
	Source   string    // who sent it: an edge's or a webhook source's name, at most 128 bytes
	At       time.Time // when it was accepted
	Events   int       // how many events it holds
	Body     []byte    // what they are; the queue does not look at it
	Attempts int       // how often it was handed out before
}

// DeadLetter is a batch that could not be worked on.
type DeadLetter struct {
	Batch
	Reason   string // at most 1,024 bytes
	BuriedAt time.Time
}

// Depth is what a queue holds.
type Depth struct {
	Batches int
	Events  int
	Bytes   int64
	Oldest  time.Time // zero when it is empty
	Dead    int       // dead letters
}

// Queue is a durable queue with one consumer. It is safe for concurrent use.
type Queue interface {
	// Append adds a batch at the end. When it returns nil the batch is kept, whatever happens next.
	Append(ctx context.Context, b Batch) error
	// Next returns up to limit batches, the oldest first, that were neither acknowledged nor handed
	// out since the queue was opened or [Queue.Release] was called. It waits for the first one until ctx ends,
	// and then returns ctx's error.
	Next(ctx context.Context, limit int) ([]Batch, error)
	// Ack removes batches that have been worked on. Those that are not there are ignored.
	Ack(ctx context.Context, ids ...string) error
	// Release makes batches that were handed out available again, as after a failure.
	Release(ctx context.Context, ids ...string) error
	// Bury moves a batch to the dead letters.
	Bury(ctx context.Context, id, reason string) error
	// Dead returns dead letters, the oldest first, after the one with id after ("" from the beginning).
	Dead(ctx context.Context, after string, limit int) ([]DeadLetter, error)
	// Replay puts dead letters back at the end of the queue and returns how many there were; no ids: all.
	Replay(ctx context.Context, ids ...string) (int, error)
	// Discard removes dead letters for good and returns how many there were; no ids: all.
	Discard(ctx context.Context, ids ...string) (int, error)
	// Depth returns what the queue holds.
	Depth(ctx context.Context) (Depth, error)
}
