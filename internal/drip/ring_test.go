package drip

import (
	"math/rand/v2"
	"testing"
	"time"
)

// take counts the streams that are due, by when they were to be.
func take(r *ring, now time.Duration) (n int, all []*held) {
	for h := r.due(now); h != nil; h = h.next {
		n++
		all = append(all, h)
	}
	return n, all
}

func TestEachStreamIsDueOnceAndAtItsTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r ring
	now := time.Duration(0)
	waiting := 0
	for range 20000 {
		for range rng.IntN(3) {
			at := now + time.Duration(rng.IntN(int(longestWait)))
			r.put(&held{end: at}, now, at)
			waiting++
		}
		now += time.Duration(rng.IntN(int(150 * time.Millisecond)))
		if rng.IntN(500) == 0 {
			now += time.Duration(rng.IntN(int(60 * time.Second))) // the machine slept
		}
		n, all := take(&r, now)
		waiting -= n
		for _, h := range all {
			if h.end > now+tick {
				t.Fatalf("due at %v, came at %v", h.end, now)
			}
		}
		if r.held != waiting {
			t.Fatalf("the ring counts %d, there are %d", r.held, waiting)
		}
	}
	if n, _ := take(&r, now+longestWait+tick); n != waiting {
		t.Errorf("%d came at last, want %d", n, waiting)
	}
}

func TestOldGenerationsAreTakenOutAlone(t *testing.T) {
	var r ring
	for i := range 1000 {
		r.put(&held{generation: uint32(i % 3)}, 0, time.Duration(i)*5*time.Millisecond)
	}
	n := 0
	for h := r.before(2); h != nil; h = h.next {
		if h.generation == 2 {
			t.Fatal("a young one is among them")
		}
		n++
	}
	left, _ := take(&r, longestWait)
	if n != 667 || left != 333 || r.held != 0 {
		t.Errorf("%d taken out, %d left, count %d", n, left, r.held)
	}
}
