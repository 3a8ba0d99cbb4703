package policy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reloader holds the policy in force and swaps it for a new one when its files
// change, or when asked. A policy that is wrong never replaces one that works.
type Reloader struct {
	load    func() (*Policy, error)
	log     *slog.Logger
	current atomic.Pointer[Policy]
	stale   atomic.Bool

	mu     sync.Mutex // one reload at a time
	broken string     // the error that was last said, "" when the last reload went well
	loaded []fileState
}

// NewReloader loads the first policy; without one there is nothing to fall back
// on, so that its error is the caller's to refuse to start with. load is called
// again for each reload.
func NewReloader(load func() (*Policy, error), log *slog.Logger) (*Reloader, error) {
	r := &Reloader{load: load, log: log}
	p, state, err := r.read(nil)
	if err != nil {
		return nil, err
	}
	r.loaded = state
	r.current.Store(p)
	return r, nil
}

// Current returns the policy in force. It never waits.
func (r *Reloader) Current() *Policy { return r.current.Load() }

// Stale reports whether the policy on disk was found wrong, so that an older one is in force. It never waits.
func (r *Reloader) Stale() bool { return r.stale.Load() }

// Reload loads the policy anew, for example on SIGHUP. On an error the old
// policy stays in force; the error is returned each time and logged once.
func (r *Reloader) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reload()
}

func (r *Reloader) reload() error {
	old := r.current.Load()
	p, state, err := r.read(old.Files())
	r.loaded = state
	r.stale.Store(err != nil)
	if err != nil {
		if r.broken != err.Error() {
			r.broken = err.Error()
			r.log.Error("the policy is wrong; the old one stays in force", "policy", old.Name(), "hash", old.Hash(), "error", err.Error())
		}
		return fmt.Errorf("reloading the policy (the old one stays in force): %w", err)
	}
	if r.broken != "" || p.Hash() != old.Hash() {
		r.log.Info("the policy was reloaded", "policy", p.Name(), "hash", p.Hash(), "previous", old.Hash(), "warnings", len(p.Warnings()))
	}
	r.broken = ""
	r.current.Store(p)
	return nil
}

// read loads the policy and returns the state of its files from before they were
// read, so that a change in between is seen next time. Which files those are is
// known only afterwards; when they are not the expected ones it reads again.
func (r *Reloader) read(files []string) (*Policy, []fileState, error) {
	state := statFiles(files)
	p, err := r.load()
	if err == nil && !slices.Equal(p.Files(), files) {
		state = statFiles(p.Files())
		p, err = r.load()
	}
	return p, state, err
}

// Watch looks at the policy's files every interval until ctx ends and reloads
// when they changed: their time, size or identity, symbolic links followed, so
// that an editor's rename and Kubernetes' swapped links are seen. A change is
// acted on when it has been stable for one interval, lest a half-written file be
// read; while the policy is wrong it is tried again each time, as a missing
// import may appear. It returns ctx's error.
func (r *Reloader) Watch(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last []fileState
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			last = r.poll(last)
		}
	}
}

// poll reloads when the files differ from those of the last load and are the
// same as one interval ago, which last holds. It returns their state now.
func (r *Reloader) poll(last []fileState) []fileState {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := statFiles(r.current.Load().Files())
	changed := !sameState(now, r.loaded)
	if changed && sameState(now, last) || !changed && r.broken != "" {
		// The error was logged; the next interval tries again.
		_ = r.reload()
	}
	return now
}

// fileState tells two versions of a file apart without reading it.
type fileState struct {
	name string
	info os.FileInfo // nil when the file cannot be looked at
}

func statFiles(names []string) []fileState {
	out := make([]fileState, len(names))
	for i, name := range names {
		out[i].name = name
		if info, err := os.Stat(name); err == nil {
			out[i].info = info
		}
	}
	return out
}

func sameState(a, b []fileState) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i].info, b[i].info
		switch {
		case a[i].name != b[i].name:
			return false
		case x == nil && y == nil:
		case x == nil || y == nil, !os.SameFile(x, y), x.Size() != y.Size(), !x.ModTime().Equal(y.ModTime()):
			return false
		}
	}
	return true
}
