//go:build unix

package drip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/race"
)

// filesAllowed has the process be allowed so many open files if that can be, and returns how many are.
func filesAllowed(t *testing.T, n uint64) uint64 {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= n {
		return limit.Cur
	}
	for _, want := range []syscall.Rlimit{{Cur: n, Max: max(limit.Max, n)}, {Cur: limit.Max, Max: limit.Max}} {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err == nil {
			return want.Cur
		}
	}
	return limit.Cur
}

// heap is what the process holds when all that is not held is gone.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one found to have a finalizer
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// processor is the time that the process has had of it.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestClientsOfAnotherTest is no test: it is the process of clients that crowd starts.
func TestClientsOfAnotherTest(t *testing.T) {
	address, number, ok := strings.Cut(os.Getenv("QUICKTHORN_DRIP_CLIENTS"), " ")
	if !ok {
		t.SkipNow()
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	filesAllowed(t, uint64(n)+100)
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test that started it
}

// crowd lets n clients ask servers at several loopback addresses, each of which hands its connection to the wheel. The clients are
// processes of their own, so that what they need is not counted as ours.
func crowd(t *testing.T, w *Wheel, n int, done func(Stay)) {
	t.Helper()
	const perAddress = 5000 // two addresses can have 28,000 connections between them
	var seed atomic.Uint64
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !w.Hijack(rw, Stream{Head: []byte(chunkedHead), Chunked: true, Next: letters(), Seed: seed.Add(1), Max: time.Hour, Done: done}) {
			t.Error("there is no place")
		}
	})}
	t.Cleanup(func() { server.Close() })
	for i := range (n + perAddress - 1) / perAddress {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", i+1))
		if err != nil {
			t.Skipf("there is no other loopback address: %v", err)
		}
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		clients := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClientsOfAnotherTest$")
		clients.Env = append(os.Environ(), fmt.Sprintf("QUICKTHORN_DRIP_CLIENTS=%s %d", l.Addr(), min(perAddress, n-i*perAddress)))
		if _, err := clients.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := clients.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = clients.Wait() }) // it was killed
	}
	for w.Stats().Held < n {
		if t.Failed() {
			t.FailNow()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestManyConnectionsNeedLittleMemory(t *testing.T) {
	n, measured := 2000, 3*time.Second
	if os.Getenv("QUICKTHORN_LONG") != "" {
		n, measured = 20000, 20*time.Second
	}
	if most := int(filesAllowed(t, uint64(n+100))) - 100; most < n {
		t.Logf("only %d connections: no more files may be open", most)
		n = most
	}
	w, _ := running(t, Options{Connections: n})
	goroutines, before := runtime.NumGoroutine(), heap()
	ends := make(chan Reason, n)
	crowd(t, w, n, func(s Stay) { ends <- s.Reason })
	time.Sleep(2 * time.Second) // the server's goroutines end, and each has its head and some of its text
	grown := int64(heap()) - int64(before)
	t.Logf("%d connections: %d bytes each; %d goroutines more", n, grown/int64(n), runtime.NumGoroutine()-goroutines)
	if !race.Enabled && grown > int64(n)*8<<10 {
		t.Errorf("%d bytes for each connection", grown/int64(n))
	}
	if more := runtime.NumGoroutine() - goroutines; more > 50 {
		t.Errorf("%d goroutines more for %d connections", more, n)
	}
	if w.Stats().Held != n {
		t.Fatalf("%+v", w.Stats())
	}

	began, bytes, cpu := time.Now(), w.Stats().Bytes, processor(t)
	time.Sleep(measured)
	took := time.Since(began)
	t.Logf("%d streams took %.1f %% of a processor for %.0f bytes a second", n, 100*(processor(t)-cpu).Seconds()/took.Seconds(),
		float64(w.Stats().Bytes-bytes)/took.Seconds())
	w.SetOff(true)
	for range n {
		if r := <-ends; r != Ended {
			t.Fatalf("a stream ended as %v", r)
		}
	}
}
