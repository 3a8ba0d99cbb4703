package policy

import (
	"sync"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Per says who shares a budget's bucket.
type Per uint8

// The sharers of a bucket. Prefix is the client's neighbourhood (/24, /48),
// class everybody who asks for the same path class of a site.
const (
	PerClient Per = iota
	PerPrefix
	PerClass
	PerSite
)

var perNames = [...]string{"client", "prefix", "class", "site"}

// String returns the name as written in policies.
func (p Per) String() string { return perNames[min(int(p), len(perNames)-1)] }

// Budget limits how fast requests may come; what exceeds it is throttled. A
// bucket holds at most Burst tokens, gains Rate tokens a second, and each
// request to which the budget applies takes one.
type Budget struct {
	Name    string
	Per     Per
	Class   string          // only requests of this path class; "" for all
	Kinds   []defense.Kind  // only these kinds; empty for all
	Rate    float64         // tokens a second, above 0
	Burst   float64         // tokens, at least 1
	Posture defense.Posture // the least posture in which it counts
	Basis   defense.Basis
	Reason  string // one sentence for people

	shadow bool
	when   *condition
	envs   *envPool
	kinds  uint32 // Kinds as bits; 0 for all
}

// Shadow reports whether the budget only reports what it would have throttled.
func (b *Budget) Shadow() bool { return b.shadow }

// Covers reports whether a request, whose Class has been set, counts against
// the budget. Whether the posture is tense enough for Posture is the caller's to ask.
func (b *Budget) Covers(p *defense.Profile) bool {
	if b.Class != "" && b.Class != p.Class || b.kinds != 0 && b.kinds>>p.Kind&1 == 0 {
		return false
	}
	if b.when == nil {
		return true
	}
	e := b.envs.get(p)
	defer b.envs.put(e)
	return b.when.eval(e) == yes
}

// envPool keeps environments for conditions that are asked outside Evaluate:
// a condition's closures make its argument escape.
type envPool struct{ pool sync.Pool }

func (ep *envPool) get(p *defense.Profile) *env {
	e, ok := ep.pool.Get().(*env)
	if !ok {
		e = new(env)
	}
	*e = env{p: p}
	return e
}

func (ep *envPool) put(e *env) {
	*e = env{}
	ep.pool.Put(e)
}

func kindSet(kinds []defense.Kind) uint32 {
	var set uint32
	for _, k := range kinds {
		set |= 1 << k
	}
	return set
}
