package intake

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// caseWriter collects cases that are to be stored; the latest revision of each counts.
type caseWriter struct {
	mu      sync.Mutex
	pending map[string]defense.Case
}

const (
	// maxPendingCases bounds the cases that wait for a store that is away. One takes up to 10 KiB. Those that find no room
	// are stored when they are judged the next time.
	maxPendingCases = 4000
	casesAtOnce     = 250
	casesTime       = 30 * time.Second // to store those
	lastCasesTime   = 5 * time.Second  // to store the last ones at shutdown
)

// put has a case stored.
func (w *caseWriter) put(c defense.Case) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending == nil {
		w.pending = map[string]defense.Case{}
	}
	old, ok := w.pending[c.ID]
	if ok && newer(&old, &c) || !ok && len(w.pending) >= maxPendingCases {
		return
	}
	w.pending[c.ID] = c
}

func newer(a, b *defense.Case) bool {
	return a.Revision > b.Revision || a.Revision == b.Revision && a.JudgedAt.After(b.JudgedAt)
}

func (w *caseWriter) take(limit int) []defense.Case {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []defense.Case
	for id, c := range w.pending {
		if len(list) == limit {
			break
		}
		list = append(list, c)
		delete(w.pending, id)
	}
	return list
}

// writeCases stores cases each second until ctx ends.
func (s *Service) writeCases(ctx context.Context) error {
	if s.o.Cases == nil {
		return nil
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			err := s.flushCases(ctx)
			if ctx.Err() == nil {
				s.states.cases.Report(err)
			}
		}
	}
}

// lastCases stores what is left at the end.
func (s *Service) lastCases(ctx context.Context) {
	if s.o.Cases == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCasesTime)
	defer cancel()
	if err := s.flushCases(ctx); err != nil {
		s.o.Log.Error("the last cases cannot be stored", "error", err)
	}
}

// flushCases stores all that wait. A case that is refused while others are taken is given up: it would be in the way of all.
func (s *Service) flushCases(ctx context.Context) error {
	for {
		list := s.cases.take(casesAtOnce)
		if len(list) == 0 {
			return nil
		}
		err := s.putCases(ctx, list)
		if err == nil {
			continue
		}
		const enough = 3
		var failed []defense.Case
		stored := 0
		for i := range list {
			if ctx.Err() != nil || stored == 0 && len(failed) >= enough || len(list) == 1 {
				failed = append(failed, list[i:]...)
				break
			}
			if one := s.putCases(ctx, list[i:i+1]); one != nil {
				err = one
				failed = append(failed, list[i])
				continue
			}
			stored++
		}
		if stored > 0 && ctx.Err() == nil {
			for i := range failed {
				s.o.Log.Error("a case cannot be stored and is given up", "case", failed[i].ID, "error", err)
			}
			continue
		}
		for i := range failed {
			s.cases.put(failed[i])
		}
		return err
	}
}

func (s *Service) putCases(ctx context.Context, list []defense.Case) error {
	ctx, cancel := context.WithTimeoutCause(ctx, casesTime, fmt.Errorf("the store did not answer within %s", casesTime))
	defer cancel()
	return s.o.Cases.PutCases(ctx, list)
}
