package replay

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestTallyKeepsTheFrequentWhenFull(t *testing.T) {
	ta := newTally[string](100)
	for i := range 10000 {
		ta.at("frequent").add(defense.Deny, 1)
		ta.at(fmt.Sprint("once-", i)).add(defense.Allow, 1)
	}
	top := ta.top(1, func(c *count) uint64 { return c.total }, cmp.Compare[string])
	if top[0].key != "frequent" || top[0].total != 10000 || len(ta.m) > 100 || ta.dropped == 0 {
		t.Fatalf("top %+v, %d keys, %d dropped", top[0], len(ta.m), ta.dropped)
	}
}

func TestTimelineFoldsToAReadableNumberOfBuckets(t *testing.T) {
	tl := newTimeline()
	const day = 86400
	start := int64(1_700_000_000)
	for i := range int64(30 * 24) { // an event each hour for 30 days
		tl.add(start+i*3600, defense.Allow, 10)
	}
	at, list := tl.fold(60)
	var total uint64
	for _, c := range list {
		total += c.total
	}
	if len(list) > 60 || total != 30*24 || at > start || start-at >= tl.width || day%tl.width != 0 {
		t.Fatalf("%d buckets of %d s from %d, %d events", len(list), tl.width, at, total)
	}
}

func TestTimelineSurvivesAbsurdTimes(t *testing.T) {
	tl := newTimeline()
	for i := range int64(20000) {
		tl.add((i-10000)*1_000_000, defense.Deny, 0)
	}
	_, list := tl.fold(60)
	var total uint64
	for _, c := range list {
		total += c.total
	}
	if len(list) > 60 || total != 20000 {
		t.Fatalf("%d buckets, %d events", len(list), total)
	}
}
