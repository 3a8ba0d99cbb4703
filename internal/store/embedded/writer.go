package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
)

// errClosed is what is said to who uses a queue after Close.
var errClosed = errors.New("the queue is closed")

// Bounds of one transaction of a writer: what is changed is held in memory until it is on disk.
const (
	maxGroupBytes = 16 << 20
	maxGroupOps   = 1024
)

// op is a change of a file.
type op struct {
	size int // about how many bytes it writes
	// do makes the change. It may be called again after a transaction that failed for another
	// op's error. What is merely not there is no error: an error makes the whole group start anew.
	do func(*bbolt.Tx) error
	// after is called once the change is on disk, before its caller hears of it; nil for nothing.
	after func()
	// report is called with the outcome, at the end.
	report func(error)
}

// writer carries out the changes that several callers ask for at once in one transaction, so that they
// share the wait for the disk. It does not wait for more to come.
type writer struct {
	file *file
	ops  chan *op
	kick chan struct{} // asks for a transaction though there is no op
	// extra, if not nil, is asked for an op to go along with each transaction; nil for none.
	extra func() *op
	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

func newWriter(f *file, extra func() *op) *writer {
	w := &writer{file: f, ops: make(chan *op), kick: make(chan struct{}, 1), extra: extra, stop: make(chan struct{})}
	w.ended.Go(w.run)
	return w
}

// close waits for the transaction under way; ops that wait for their turn fail.
func (w *writer) close() {
	w.once.Do(func() { close(w.stop) })
	w.ended.Wait()
}

// write makes a change and waits until it is on disk. When ctx ends before the change's turn has come
// nothing has happened; after that write waits for the outcome, so that it is known.
func (w *writer) write(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	result := make(chan error, 1)
	o.report = func(err error) { result <- err }
	select {
	case w.ops <- o:
		return <-result
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk: %w", context.Cause(ctx))
	case <-w.stop:
		return errClosed
	}
}

// wake asks for a transaction soon.
func (w *writer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *writer) run() {
	for {
		select {
		case o := <-w.ops:
			w.commit(w.gather(o))
		case <-w.kick:
			w.commit(w.gather(nil))
		case <-w.stop:
			w.commit(w.gather(nil)) // what only waited to go along
			return
		}
	}
}

// gather returns first and what else is waiting.
func (w *writer) gather(first *op) []*op {
	var group []*op
	size := 0
	if first != nil {
		group, size = append(group, first), first.size
	}
more:
	for size < maxGroupBytes && len(group) < maxGroupOps {
		select {
		case o := <-w.ops:
			group, size = append(group, o), size+o.size
		default:
			break more
		}
	}
	if w.extra != nil {
		if o := w.extra(); o != nil {
			group = append(group, o)
		}
	}
	return group
}

// commit carries out a group in one transaction; without those whose change fails by itself.
func (w *writer) commit(group []*op) {
	for len(group) > 0 {
		bad := -1
		err := w.file.update(context.Background(), func(tx *bbolt.Tx) error {
			for i, o := range group {
				bad = i // also when it panics
				if err := o.do(tx); err != nil {
					return err
				}
			}
			bad = -1
			return nil
		})
		if err != nil && bad >= 0 {
			group[bad].report(err)
			group = append(group[:bad:bad], group[bad+1:]...)
			continue
		}
		for _, o := range group {
			if err == nil && o.after != nil {
				o.after()
			}
			o.report(err)
		}
		return
	}
}
