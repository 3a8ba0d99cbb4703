package sqlite

import (
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

// BenchmarkAppend reports events a second in batches of 500, as the recorder writes them, and their size on disk.
func BenchmarkAppend(b *testing.B) {
	a := newArchive(b)
	batch := make([]*defense.Event, 500)
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
	if err := a.shrink(b.Context()); err != nil {
		b.Fatal(err)
	}
	size, err := a.Size()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/float64(n), "disk-B/event")
}

// BenchmarkSummary reports the time of an owner's report over 100,000 events.
func BenchmarkSummary(b *testing.B) {
	a := newArchive(b)
	for n := 0; n < 100_000; n += 500 {
		batch := make([]*defense.Event, 500)
		for i := range batch {
			batch[i] = storetest.Varied(n + i)
		}
		appendAll(b, a, batch...)
	}
	b.ResetTimer()
	for b.Loop() {
		if _, err := a.Summary(b.Context(), noon, noon.Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
		if _, err := a.Harm(b.Context(), noon, noon.Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewest reports the time of the first page of the newest events.
func BenchmarkNewest(b *testing.B) {
	a := newArchive(b)
	for n := 0; n < 20_000; n += 500 {
		batch := make([]*defense.Event, 500)
		for i := range batch {
			batch[i] = storetest.Varied(n + i)
		}
		appendAll(b, a, batch...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := a.Events(b.Context(), record.Filter{Action: new(defense.Observe)}); err != nil {
			b.Fatal(err)
		}
	}
}
