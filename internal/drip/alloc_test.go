package drip

import (
	"io"
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/quickthorn/quickthorn/internal/race"
)

// connected returns a stream on a connection, and its client.
func connected(tb testing.TB) (*Wheel, *held, net.Conn) {
	tb.Helper()
	w, err := New(Options{Connections: 1})
	if err != nil {
		tb.Fatal(err)
	}
	w.running = true // by hand: steps are made here
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	conn, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	h := w.enter(&Stream{Chunked: true, Next: letters(), Max: time.Hour}, false)
	w.hold(h, conn)
	w.ring.before(h.generation + 1) // the ring is emptied
	return w, h, client
}

// turnOnce makes a step, takes the stream out of the ring again and lets the client read.
func turnOnce(tb testing.TB, w *Wheel, h *held, b *scratch, client net.Conn) {
	before := h.bytes
	w.step(h, b)
	w.ring.before(h.generation + 1)
	if _, err := io.ReadFull(client, b.out); err != nil || h.bytes-before != int64(len(b.out)) {
		tb.Fatalf("%d of %d bytes were written, %v", h.bytes-before, len(b.out), err)
	}
}

func TestAStepAllocatesNothing(t *testing.T) {
	race.SkipAllocations(t)
	w, h, client := connected(t)
	if !h.direct {
		t.Skip("sockets cannot be written to directly here")
	}
	var b scratch
	if n := testing.AllocsPerRun(200, func() { turnOnce(t, w, h, &b, client) }); n != 0 {
		t.Errorf("%v allocations for a piece", n)
	}
}

func TestAStreamNeedsFewBytesOfOurs(t *testing.T) {
	if n := unsafe.Sizeof(held{}); n > 300 {
		t.Errorf("%d bytes for each stream", n)
	}
}

func BenchmarkStep(b *testing.B) {
	w, h, client := connected(b)
	if !h.direct {
		b.Skip("sockets cannot be written to directly here")
	}
	var s scratch
	b.ReportAllocs()
	for b.Loop() {
		turnOnce(b, w, h, &s, client)
	}
}
