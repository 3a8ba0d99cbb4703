package intake

import (
	"slices"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// standing knows the engine's decisions that are in force, of whatever case. Among decisions of one origin on one subject the latest
// one counts: so the milder is not made while the harder stands, and none is made anew that says nothing new.
type standing struct {
	mu    sync.Mutex // held while decisions are made, so that what is known is what is in force
	by    map[subject][]string
	ids   int
	swept int // how many there were when those that ended were last forgotten
}

// subject is whom decisions are about.
type subject struct {
	scope defense.Scope
	value string
}

// add remembers a decision. The caller holds the lock.
func (s *standing) add(d *defense.Decision, get func(id string) (defense.Decision, bool), now time.Time) {
	if s.by == nil {
		s.by = map[subject][]string{}
	}
	who := subject{d.Scope, d.Value}
	if !slices.Contains(s.by[who], d.ID) {
		s.by[who] = append(s.by[who], d.ID)
		s.ids++
	}
	if s.ids > 2*s.swept+1024 {
		for who := range s.by {
			s.sweep(who, get, now)
		}
		s.swept = s.ids
	}
}

// sweep forgets those of a subject's decisions that are not in force, and returns the others. The caller holds the lock.
func (s *standing) sweep(who subject, get func(id string) (defense.Decision, bool), now time.Time) []defense.Decision {
	var list []defense.Decision
	ids := s.by[who][:0]
	for _, id := range s.by[who] {
		if d, ok := get(id); ok && inForce(&d, now) {
			list, ids = append(list, d), append(ids, id)
		}
	}
	s.ids -= len(s.by[who]) - len(ids)
	if len(ids) == 0 {
		delete(s.by, who)
	} else {
		s.by[who] = ids
	}
	return list
}

func inForce(d *defense.Decision, now time.Time) bool {
	return d.Expires.IsZero() || d.Expires.After(now)
}

// covers returns the decision in force that makes another one needless, nil if there is none: one that is harder and meets the same
// requests, or one that says the same for at least half as long. Then the log is not written to again: a case that is judged
// every minute would be its noise.
func covers(list []defense.Decision, d *defense.Decision, now time.Time) *defense.Decision {
	for i := range list {
		x := &list[i]
		switch {
		case x.Action > d.Action && (x.Site == "" || d.Site == "" || x.Site == d.Site):
			return x
		case x.Action == d.Action && (x.Site == "" || x.Site == d.Site) && (x.Expires.IsZero() || 2*x.Expires.Sub(now) >= d.Expires.Sub(now)):
			return x
		}
	}
	return nil
}

// maxStanding is how many of the decisions of before a restart are looked at.
const maxStanding = 100_000

// learnStanding takes over the engine's decisions of before a restart.
func (s *Service) learnStanding() {
	log, ok := s.o.Decisions.(interface{ Set() *decision.Set })
	if !ok {
		return
	}
	now := s.o.Now()
	s.standing.mu.Lock()
	defer s.standing.mu.Unlock()
	for _, d := range log.Set().List(decision.Filter{Origin: originEngine}, now, maxStanding) {
		s.standing.add(&d, s.o.Decisions.Get, now)
	}
}
