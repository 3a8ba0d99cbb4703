package redis

import (
	"sync"
	"testing"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// BenchmarkWorkThrough30KB takes batches in and out again, with a server that writes each change to disk.
func BenchmarkWorkThrough30KB(b *testing.B) {
	s := open(b, Options{Options: redisconn.Options{Addresses: []string{testserver.Redis(b).Address}}, QueueBytes: 1 << 40, QueueBatches: 1 << 30})
	body := make([]byte, 30<<10)
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	var wg sync.WaitGroup
	const writers = 8
	for range writers {
		wg.Go(func() {
			for range b.N / writers {
				if err := s.Queue().Append(b.Context(), queue.Batch{Body: body}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for n := 0; n < b.N/writers*writers; {
		bs, err := s.Queue().Next(b.Context(), 32)
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]string, len(bs))
		for i := range bs {
			ids[i] = bs[i].ID
		}
		if err := s.Queue().Ack(b.Context(), ids...); err != nil {
			b.Fatal(err)
		}
		n += len(bs)
	}
	wg.Wait()
}

// BenchmarkLoad100k loads a log of 100,000 decisions.
func BenchmarkLoad100k(b *testing.B) {
	s := open(b, Options{Options: redisconn.Options{Addresses: []string{testserver.Redis(b).Address}}})
	l := load(b, s)
	for i := 0; i < 100_000; i += decision.MaxBatch {
		ds := numbered(i)
		for j := 1; j < decision.MaxBatch; j++ {
			ds = append(ds, numbered(i+j)...)
		}
		if _, err := l.Add(b.Context(), ds, decision.AddOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if n := load(b, s).Set().Len(); n != 100_000 {
			b.Fatal(n)
		}
	}
}

// BenchmarkAddOne adds decisions one by one.
func BenchmarkAddOne(b *testing.B) {
	l := load(b, open(b, Options{Options: redisconn.Options{Addresses: []string{testserver.Redis(b).Address}}}))
	i := 0
	for b.Loop() {
		if _, err := l.Add(b.Context(), numbered(i), decision.AddOptions{}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
