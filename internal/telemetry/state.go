package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// State logs a condition that lasts: once when it begins and once when it ends.
// It is safe for concurrent use, and reporting that all is well costs one atomic read.
type State struct {
	log       *slog.Logger
	bad, good string
	now       func() time.Time

	failing  atomic.Bool
	mu       sync.Mutex
	since    time.Time
	failures uint64
	err      error // the last one; nil when all is well
}

// NewState returns a State that begins well. The two messages are logged at
// level error and info, such as "events cannot be stored" and "events are stored again".
func NewState(log *slog.Logger, bad, good string, now func() time.Time) *State {
	return &State{log: log, bad: bad, good: good, now: now}
}

// Report says how an attempt went. Only the first error after a success, and the
// first success after an error, are logged; the latter with the number of
// failures and how long they lasted.
func (s *State) Report(err error) {
	if err == nil && !s.failing.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.failing.Load()
	s.err = err
	switch {
	case err != nil && was:
		s.failures++
	case err != nil:
		s.since, s.failures = s.now(), 1
		s.failing.Store(true)
		s.log.LogAttrs(context.Background(), slog.LevelError, s.bad, slog.Any("error", err))
	case was:
		s.failing.Store(false)
		s.log.LogAttrs(context.Background(), slog.LevelInfo, s.good, slog.Uint64("failures", s.failures), slog.Duration("after", s.now().Sub(s.since)))
	}
}

// Failing reports whether the last attempt failed.
func (s *State) Failing() bool { return s.failing.Load() }

// Err returns why the last attempt failed, nil when it did not.
func (s *State) Err() error {
	if !s.failing.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
