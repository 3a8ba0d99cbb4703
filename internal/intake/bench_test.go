package intake

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

// typical makes the nth event as an edge sends it, of now, with what a browser sends.
func typical(n int, at time.Time) *defense.Event {
	e := storetest.Varied(n)
	e.Time = at
	r := &e.Request
	r.Referrer = fmt.Sprintf("https://wiki.example.org/wiki/Page_%d", n%5000)
	r.Headers = defense.EventHeaders{Shape: fmt.Sprintf("%016x", 0x9f2c41d07b3ea865+uint64(n%40)), Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", AcceptLanguage: "en-NZ,en;q=0.9"}
	r.TLS = &defense.EventTLS{Version: "1.3", JA4: "t13d1516h2_8daaf6152771_02713d6af862"}
	e.Client.Prefix = "192.0.2.0/24"
	return e
}

// bodies makes zstd bodies of 500 events each, from the nth event on.
func packedBodies(n, count int, at time.Time) [][]byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(err)
	}
	list := make([][]byte, count)
	for i := range list {
		var b bytes.Buffer
		for k := range 500 {
			b.Write(ndjson(typical(n+i*500+k, at)))
		}
		list[i] = enc.EncodeAll(b.Bytes(), nil)
	}
	return list
}

func postBody(h http.Handler, body []byte) int {
	r := httptest.NewRequest(http.MethodPost, "/v1/events", bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+proxyKey)
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Content-Encoding", "zstd")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// discardQueue takes everything and keeps nothing.
type discardQueue struct{ queue.Queue }

func (discardQueue) Append(context.Context, queue.Batch) error { return nil }

// BenchmarkAccept reports events a second from an HTTP body of 500 events to the queue's door, of one sender.
func BenchmarkAccept(b *testing.B) {
	p := newParts(b, time.Now, func(o *Options) { o.Queue = discardQueue{} })
	h, err := handlerOf(p.s)
	if err != nil {
		b.Fatal(err)
	}
	const distinct = 64
	list := packedBodies(0, distinct, time.Now())
	b.ReportAllocs()
	b.SetBytes(int64(len(list[0])))
	n := 0
	for b.Loop() {
		if n%distinct == 0 { // else they would be known
			b.StopTimer()
			p.s.memory = newMemory()
			b.StartTimer()
		}
		if code := postBody(h, list[n%distinct]); code != http.StatusAccepted {
			b.Fatal(code)
		}
		n++
	}
	b.ReportMetric(float64(n*500)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkIntake reports events a second from HTTP through the queue on disk to the SQLite archive, with the casebook
// looking on; four senders.
func BenchmarkIntake(b *testing.B) {
	r := newRig(b, b.TempDir(), func(o *Options) {
		o.Book = casebook.New(casebook.Options{NewID: newIDs(), Now: time.Now})
	})
	stop := run(b, r.s)
	const batches = 200 // of 500 events
	n := 0
	for b.Loop() {
		b.StopTimer()
		list := packedBodies(n, batches, time.Now())
		n += batches * 500
		b.StartTimer()
		var at atomic.Int64
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				for i := at.Add(1) - 1; i < batches; i = at.Add(1) - 1 {
					if code := postBody(r.handler, list[i]); code != http.StatusAccepted {
						b.Error(code)
						return
					}
				}
			})
		}
		senders.Wait()
		for r.s.Stats().Archived < uint64(n) {
			time.Sleep(time.Millisecond)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	b.StopTimer()
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	if got := r.s.Stats().Accepted; got != uint64(n) {
		b.Errorf("%d events accepted of %d", got, n)
	}
}
