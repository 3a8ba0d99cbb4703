package postgres

import (
	"fmt"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// BenchmarkAppend reports events a second on a server that waits for its disk, and their size there.
func BenchmarkAppend(b *testing.B) {
	s := testserver.Postgres(b, "fsync=on")
	for _, size := range []int{500, 2000} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			a := open(b, options(s.Database(b)))
			batch := make([]*defense.Event, size)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range batch {
					batch[i] = storetest.Varied(n)
					n++
				}
				b.StartTimer()
				if _, err := a.Append(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			disk, err := a.Size()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(disk)/float64(n), "disk-B/event")
		})
	}
}
