package decision

import (
	"context"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Store is what a Log keeps decisions in. One Log at a time writes to it.
type Store interface {
	// Commit makes the batch durable, all of it or none, before it returns nil.
	Commit(ctx context.Context, b *Batch) error
	// State returns what the latest batch said; zero for a new store.
	State(ctx context.Context) (State, error)
	// Changes calls fn for what is kept of the changes after a sequence, in the order
	// of their sequences, until fn returns false. Of a decision that changed several times
	// only the latest change is kept. A Change's Decision may be reused after fn returns.
	Changes(ctx context.Context, after uint64, fn func(Change) bool) error
}

// State is where a log stands.
type State struct {
	Last uint64 // sequence of the latest change
	// Floor is the highest sequence of a deletion that is no longer kept: who has
	// seen less than that may have missed it.
	Floor uint64
}

// Batch is a set of changes that belong together.
type Batch struct {
	State
	Put     []defense.Decision // to keep, under their sequences
	Drop    []uint64           // sequences of decisions to forget: replaced, deleted or expired
	Deleted []Deletion         // to keep, under their sequences; those of Floor and below are to be forgotten
}

// Deletion is that a decision was deleted.
type Deletion struct {
	Sequence uint64
	ID       string
}

// Change is one change of the log: a decision that was added or changed, or one that was deleted.
type Change struct {
	Sequence uint64            `json:"sequence"`
	Decision *defense.Decision `json:"decision,omitempty"`
	Deleted  string            `json:"deleted,omitempty"` // id
}
