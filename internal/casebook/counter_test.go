package casebook

import (
	"math"
	"testing"
)

func TestACounterIsExactAndThenEstimates(t *testing.T) {
	for _, n := range []int{0, 1, exactly, exactly + 1, 1000, 20_000} {
		var w window
		for range 2 {
			for i := range n {
				w.add(uint32(i*2654435761) | 1)
			}
		}
		w.estimate = 0 // as if it were due
		got, tolerance := float64(w.count()), 0.08*float64(n)
		if n <= exactly {
			tolerance = 0
		}
		if math.Abs(got-float64(n)) > tolerance {
			t.Errorf("%d things are counted as %v", n, got)
		}
	}
}

func TestAWindowIsTheUnionOfItsHalves(t *testing.T) {
	for _, size := range []int{50, 3000} {
		var w window
		for i := range size {
			w.add(uint32(i))
		}
		w.turn()
		for i := size / 2; i < size+size/2; i++ {
			w.add(uint32(i))
		}
		w.estimate = 0
		if got, want := float64(w.count()), 1.5*float64(size); math.Abs(got-want) > 0.08*want || size == 50 && got != want {
			t.Errorf("the union is counted as %v, want %v", got, want)
		}
		w.turn()
		w.turn()
		if got := w.count(); got != 0 {
			t.Errorf("what has fallen out of the window is counted: %d", got)
		}
	}
}

func TestWhatIsTakenBackDoesNotCount(t *testing.T) {
	var w window
	w.add(1)
	w.add(2)
	w.turn()
	w.add(2)
	w.add(3)
	for _, step := range []struct {
		tag  uint32
		want uint64
	}{{9, 3}, {2, 2}, {3, 1}, {1, 0}} {
		if w.remove(step.tag); w.count() != step.want {
			t.Errorf("without %d there are %d, want %d", step.tag, w.count(), step.want)
		}
	}
}
