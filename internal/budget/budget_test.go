package budget

import (
	"encoding/binary"
	"math"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/race"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func client(i int) Key {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(i))
	return Key{Limit: "per-client", Client: netip.PrefixFrom(netip.AddrFrom4(a), 32)}
}

// passes counts how many of n requests at the same time pass.
func passes(s *Store, k Key, rate, burst float64, n int, now time.Time) int {
	passed := 0
	for range n {
		if ok, _ := s.Take(k, rate, burst, 1, now); ok {
			passed++
		}
	}
	return passed
}

func TestBurstPassesWholeThenRateHolds(t *testing.T) {
	for _, rate := range []float64{0.001, 1.0 / 3, 1, 3, 7, 1e6} {
		for _, burst := range []float64{1, 3, 10, 100} {
			s := New(1000)
			k := client(1)
			if got := passes(s, k, rate, burst, 200, noon); got != int(burst) {
				t.Errorf("rate %g, burst %g: %d passed at once", rate, burst, got)
			}
			ok, retry := s.Take(k, rate, burst, 1, noon)
			if ok || retry <= 0 || retry > time.Duration(1e9/rate)+1 {
				t.Errorf("rate %g, burst %g: %v, retry after %v", rate, burst, ok, retry)
			}
			if ok, _ := s.Take(k, rate, burst, 1, noon.Add(retry)); !ok {
				t.Errorf("rate %g, burst %g: refused at the time it was told", rate, burst)
			}
		}
	}
}

func TestRefusedRequestsCostNothing(t *testing.T) {
	s := New(1000)
	k := client(1)
	passes(s, k, 1, 5, 1000, noon)
	if got := passes(s, k, 1, 5, 10, noon.Add(2*time.Second)); got != 2 {
		t.Errorf("%d passed after two seconds", got)
	}
}

func TestIdleBucketFillsNoFurtherThanBurst(t *testing.T) {
	s := New(1000)
	k := client(1)
	passes(s, k, 1, 5, 5, noon)
	if got := passes(s, k, 1, 5, 100, noon.Add(24*time.Hour)); got != 5 {
		t.Errorf("%d passed after a day", got)
	}
}

func TestCost(t *testing.T) {
	s := New(1000)
	if ok, _ := s.Take(client(1), 1, 10, 7, noon); !ok {
		t.Fatal("7 of 10 refused")
	}
	ok, retry := s.Take(client(1), 1, 10, 7, noon)
	if ok || retry != 4*time.Second {
		t.Errorf("7 of 3: %v, %v", ok, retry)
	}
	if ok, _ := s.Take(client(2), 1, 10, 50, noon); !ok {
		t.Error("a cost above the burst can never be paid")
	}
	if ok, retry := s.Take(client(2), 1, 10, 50, noon); ok || retry != 10*time.Second {
		t.Errorf("second: %v, %v", ok, retry)
	}
}

func TestKeysHaveBucketsOfTheirOwn(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
	keys := []Key{
		{Limit: "a"}, {Limit: "b"}, {Site: "a"}, {Class: "a"}, {Limit: "a", Site: "a"}, {Limit: "a", Class: "a"},
		{Limit: "ab", Site: "c"}, {Limit: "a", Site: "bc"},
		{Limit: "a", Client: v4}, {Limit: "a", Client: v6}, {Limit: "b", Client: v4},
		{Limit: "a", Client: netip.MustParsePrefix("192.0.2.0/24")}, {Limit: "a", Client: netip.MustParsePrefix("192.0.2.1/24")},
		{Limit: "a", Client: netip.MustParsePrefix("2001:db8::/48")},
		{Limit: "a", Client: netip.MustParsePrefix("::ffff:192.0.2.1/128")}, {Limit: "a", Client: netip.MustParsePrefix("0.0.0.0/0")}, {Limit: "a", Client: netip.MustParsePrefix("::/0")},
	}
	s := New(1000)
	for _, k := range keys {
		if ok, _ := s.Take(k, 1, 1, 1, noon); !ok {
			t.Errorf("%+v shares a bucket", k)
		}
	}
	for _, k := range keys {
		if ok, _ := s.Take(k, 1, 1, 1, noon); ok {
			t.Errorf("%+v was forgotten", k)
		}
	}
	if st := s.Stats(); st.Entries != uint64(len(keys)) {
		t.Errorf("%+v for %d keys", st, len(keys))
	}
}

func TestBucketSurvivesANewLimit(t *testing.T) {
	s := New(1000)
	k := client(1)
	passes(s, k, 1, 10, 10, noon)
	if got := passes(s, k, 2, 10, 100, noon); got != 0 {
		t.Errorf("a spent bucket gave %d by the new limit", got)
	}
	if got := passes(s, k, 2, 10, 100, noon.Add(time.Second)); got != 2 {
		t.Errorf("%d passed in a second of the new rate", got)
	}
	if ok, retry := s.Take(k, 1, 2, 1, noon.Add(time.Second)); ok || retry > 2*time.Second {
		t.Errorf("a smaller bucket: %v, wait %v: more than it takes to fill", ok, retry)
	}
}

func TestTimeMayRunBackwards(t *testing.T) {
	k := client(1)
	t.Run("a little: as if it stood still", func(t *testing.T) {
		s := New(1000)
		passes(s, k, 1, 10, 4, noon)
		if got := passes(s, k, 1, 10, 100, noon.Add(-8*time.Second)); got != 6 {
			t.Errorf("%d passed, want the 6 that were left", got)
		}
		if got := passes(s, k, 1, 10, 100, noon.Add(3*time.Second)); got != 3 {
			t.Errorf("%d passed three seconds later", got)
		}
	})
	t.Run("a lot: nobody waits for the old time to come again", func(t *testing.T) {
		s := New(1000)
		passes(s, k, 1, 10, 10, noon)
		back := noon.Add(-6 * time.Hour)
		ok, retry := s.Take(k, 1, 10, 1, back)
		if ok || retry != time.Second {
			t.Errorf("%v, wait %v", ok, retry)
		}
		if got := passes(s, k, 1, 10, 100, back.Add(10*time.Second)); got != 10 {
			t.Errorf("%d passed once the bucket was full again", got)
		}
	})
	t.Run("a lot, to and fro: what is left is left", func(t *testing.T) {
		s := New(1000)
		got := 0
		for i := range 20 { // two logs an hour apart, read in turn
			got += passes(s, k, 0.001, 5, 1, noon.Add(time.Duration(i%2)*-time.Hour))
		}
		if got < 5 {
			t.Errorf("%d passed, want at least the burst", got)
		}
	})
	t.Run("absurd times", func(t *testing.T) {
		s := New(16)
		for _, now := range []time.Time{{}, time.Unix(0, math.MaxInt64), time.Unix(0, math.MinInt64), time.Unix(1<<50, 0), noon} {
			s.Take(k, 1, 10, 1, now)
		}
		if ok, _ := s.Take(k, 1, 10, 1, noon.Add(20*time.Second)); !ok {
			t.Error("refused after the clock was mended")
		}
	})
}

func TestSenselessLimitsStopNobody(t *testing.T) {
	s := New(1000)
	nan, inf := math.NaN(), math.Inf(1)
	for _, l := range [][3]float64{{0, 1, 1}, {-1, 1, 1}, {1, 0, 1}, {nan, 1, 1}, {1, nan, 1}, {1, 1, nan}, {1, 1, 0}, {1, 1, -5}, {inf, 1, 1}, {1e300, 1, 1}} {
		for range 3 {
			if ok, retry := s.Take(client(1), l[0], l[1], l[2], noon); !ok || retry != 0 {
				t.Errorf("%v refused", l)
			}
		}
	}
	// Slow beyond measure is still a limit.
	if got := passes(s, client(2), 1e-300, 1, 3, noon); got != 1 {
		t.Errorf("%d passed", got)
	}
}

func TestFloodOfNewClientsDoesNotPushOutTheBusyOnes(t *testing.T) {
	s := New(4096)
	const busy = 20
	for i := range busy {
		passes(s, client(i), 1, 100, 100, noon) // spent
	}
	for i := range 200_000 {
		if ok, _ := s.Take(client(1000+i), 1, 100, 1, noon); !ok {
			t.Fatalf("new client %d refused", i)
		}
	}
	for i := range busy {
		if ok, _ := s.Take(client(i), 1, 100, 1, noon); ok {
			t.Errorf("client %d got a fresh budget out of the flood", i)
		}
	}
	st := s.Stats()
	if st.Entries != uint64(st.Capacity) || st.Evictions != 200_000+busy-st.Entries || st.Recycled != 0 {
		t.Errorf("%+v", st)
	}
}

func TestFullBucketsMakeRoomFirst(t *testing.T) {
	s := New(160)
	for i := range 10_000 {
		s.Take(client(i), 1, 5, 1, noon.Add(time.Duration(i)*2*time.Second)) // the one before is full again
	}
	if st := s.Stats(); st.Evictions != 0 || st.Recycled != 10_000-st.Entries {
		t.Errorf("%+v", st)
	}
}

func TestOneMillionClientsStayWithinCapacity(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const capacity = 100_000
	before := heap()
	s := New(capacity)
	for i := range 1_000_000 {
		if ok, _ := s.Take(client(i), 1, 10, 1, noon.Add(time.Duration(i)*time.Microsecond)); !ok {
			t.Fatalf("client %d refused", i)
		}
	}
	used := heap() - before
	st := s.Stats()
	if limit := uint64(capacity*20 + 64<<10); used > limit {
		t.Errorf("%d bytes for %d buckets, want at most %d", used, st.Capacity, limit)
	}
	if st.Entries > uint64(st.Capacity) || st.Capacity < capacity || st.Entries+st.Evictions+st.Recycled != 1_000_000 {
		t.Errorf("%+v", st)
	}
	runtime.KeepAlive(s)
}

func TestConcurrentTakesSpendEachTokenOnce(t *testing.T) {
	s := New(1000)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				if ok, _ := s.Take(Key{Limit: "site"}, 1, 500, 1, noon); ok {
					passed.Add(1)
				}
				s.Take(client(g*1000+i), 1, 10, 1, noon)
				if i%100 == 0 {
					s.Stats()
				}
			}
		})
	}
	wg.Wait()
	if got := passed.Load(); got != 500 {
		t.Errorf("%d of 500 tokens", got)
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	s := New(1000)
	k := Key{Limit: "per-class", Client: netip.MustParsePrefix("2001:db8::/64"), Site: "shop", Class: "search"}
	if n := testing.AllocsPerRun(100, func() { s.Take(k, 1, 10, 1, noon) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	const clients = 1 << 16
	keys := make([]Key, clients)
	for i := range keys {
		keys[i] = client(i)
	}
	for _, capacity := range []int{200_000, 10_000} {
		b.Run("capacity-"+strconv.Itoa(capacity), func(b *testing.B) {
			s := New(capacity)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Take(keys[i*7919%clients], 5, 50, 1, noon)
			}
		})
	}
	b.Run("one-key", func(b *testing.B) {
		s := New(200_000)
		b.ReportAllocs()
		for b.Loop() {
			s.Take(keys[0], 5, 50, 1, noon)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		s := New(200_000)
		b.ReportAllocs()
		var start atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for i := int(start.Add(1)) * 1000; pb.Next(); i++ {
				s.Take(keys[i*7919%clients], 5, 50, 1, noon)
			}
		})
	})
	b.Run("parallel-one-key", func(b *testing.B) {
		s := New(200_000)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s.Take(Key{Limit: "site", Site: "shop"}, 5, 50, 1, noon)
			}
		})
	})
}
