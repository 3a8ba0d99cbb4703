package id

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

func TestIdentifiersAreULIDsOfTheirTime(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, int(7*time.Millisecond), time.UTC)
	s := New(func() time.Time { return now }, rand.Uint64)
	got := s.Next()
	u, err := ulid.ParseStrict(got)
	if err != nil {
		t.Fatalf("%q: %v", got, err)
	}
	if !u.Timestamp().Equal(now) {
		t.Errorf("%q says %v, want %v", got, u.Timestamp(), now)
	}
}

func TestIdentifiersIncreaseWithinAMillisecondAndOverASmallStepBack(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	s := New(func() time.Time { return now }, rand.Uint64)
	last := ""
	for i := range 200_000 { // more than the sequence of one millisecond holds
		if i == 100_000 {
			now = now.Add(-500 * time.Millisecond)
		}
		next := s.Next()
		if next <= last {
			t.Fatalf("identifier %d: %s does not follow %s", i, next, last)
		}
		last = next
	}
}

func TestACorrectedClockIsFollowed(t *testing.T) {
	now := time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	s := New(func() time.Time { return now }, rand.Uint64)
	s.Next()
	now = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	if u := ulid.MustParse(s.Next()); !u.Timestamp().Equal(now) {
		t.Fatalf("still in the future: %v", u.Timestamp())
	}
}

func TestConcurrentIdentifiersAreDistinct(t *testing.T) {
	// Without randomness the sequence alone must keep them apart.
	s := New(time.Now, func() uint64 { return 0 })
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]bool{}
	)
	for range 8 {
		wg.Go(func() {
			ids := make([]string, 2000)
			for i := range ids {
				ids[i] = s.Next()
			}
			mu.Lock()
			defer mu.Unlock()
			for _, v := range ids {
				seen[v] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != 16000 {
		t.Fatalf("%d distinct of 16000", len(seen))
	}
}

func BenchmarkNext(b *testing.B) {
	s := New(time.Now, rand.Uint64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Next()
		}
	})
}
