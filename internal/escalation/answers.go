package escalation

import (
	"container/list"
	"slices"
	"sync"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// answers remembers the latest judgements, the least recently used go first.
type answers struct {
	size int
	mu   sync.Mutex
	byID map[answerID]*list.Element
	used list.List // of *defense.Judgement, the latest first
}

type answerID struct {
	id       string
	revision uint64
}

func newAnswers(size int) *answers {
	return &answers{size: size, byID: make(map[answerID]*list.Element)}
}

func (a *answers) get(id string, revision uint64) *defense.Judgement {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byID[answerID{id, revision}]
	if e == nil {
		return nil
	}
	a.used.MoveToFront(e)
	return copied(e.Value.(*defense.Judgement))
}

func (a *answers) put(j *defense.Judgement) {
	if a.size == 0 {
		return
	}
	key := answerID{j.CaseID, j.Revision}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.byID[key]; e != nil {
		a.used.MoveToFront(e) // two asked at once: the first answer stays
		return
	}
	a.byID[key] = a.used.PushFront(copied(j))
	if a.used.Len() > a.size {
		old := a.used.Remove(a.used.Back()).(*defense.Judgement)
		delete(a.byID, answerID{old.CaseID, old.Revision})
	}
}

// copied is a judgement that shares nothing with j that a caller might change.
func copied(j *defense.Judgement) *defense.Judgement {
	c := *j
	c.Proposals = slices.Clone(j.Proposals)
	c.Stages = slices.Clone(j.Stages)
	for i := range c.Stages {
		c.Stages[i].Contributions = slices.Clone(c.Stages[i].Contributions)
	}
	return &c
}
