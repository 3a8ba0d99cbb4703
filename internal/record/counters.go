package record

import (
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

const actions = int(defense.Charge) + 1

// cells are a site's counters: one for each pair of action and intention.
type cells [actions * actions]atomic.Uint64

// counters count requests without a lock: the set of sites is fixed.
type counters map[string]*cells

func newCounters(sites []string) counters {
	c := counters{"": new(cells)}
	for _, s := range sites {
		c[s] = new(cells)
	}
	return c
}

// add counts one verdict; a site that is not known is counted under no name.
func (c counters) add(v *defense.Verdict, site string) {
	s, ok := c[site]
	if !ok {
		s = c[""]
	}
	if i := int(v.Action)*actions + int(v.Intended); i < len(s) {
		s[i].Add(1)
	}
}

type counterKey struct {
	hour             time.Time
	site             string
	action, intended defense.Action
}

// take moves the counts into pending, under the hour of now.
func (c counters) take(pending map[counterKey]uint64, now time.Time) {
	hour := now.UTC().Truncate(time.Hour)
	for site, s := range c {
		for i := range s {
			if s[i].Load() == 0 {
				continue
			}
			k := counterKey{hour, site, defense.Action(i / actions), defense.Action(i % actions)}
			pending[k] += s[i].Swap(0)
		}
	}
}
