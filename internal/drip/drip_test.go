package drip

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	chunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
	closedHead  = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
)

// letters is a generator that runs through the alphabet again and again.
func letters() func(dst []byte, n int) []byte {
	i := 0
	return func(dst []byte, n int) []byte {
		for range n {
			dst = append(dst, 'a'+byte(i%26))
			i++
		}
		return dst
	}
}

// isLetters reports whether a generator of letters made the text.
func isLetters(b []byte) bool { return bytes.Equal(b, letters()(nil, len(b))) }

// running returns a wheel that runs until the test ends or stop is called, which waits.
func running(t testing.TB, o Options) (w *Wheel, stop func()) {
	t.Helper()
	w, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != context.Canceled {
			t.Errorf("Run: %v", err)
		}
	}()
	for started := false; !started; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		started = w.running
		w.mu.Unlock()
	}
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return w, stop
}

// piped hands one end of a pipe to the wheel and returns the client's.
func piped(t *testing.T, w *Wheel, s Stream) (client net.Conn, stays chan Stay) {
	t.Helper()
	client, server := net.Pipe()
	stays = make(chan Stay, 2)
	s.Done = func(v Stay) { stays <- v }
	if !w.Hijacked(server, s) {
		t.Fatal("no place")
	}
	t.Cleanup(func() { client.Close() })
	return client, stays
}

// ended returns the one stay of a stream that is over.
func ended(t *testing.T, stays chan Stay, want Reason) Stay {
	t.Helper()
	s := <-stays
	if s.Reason != want {
		t.Errorf("ended as %v, want %v", s.Reason, want)
	}
	if len(stays) > 0 {
		t.Errorf("ended once more, as %v", (<-stays).Reason)
	}
	return s
}

func TestAStreamIsAValidAnswerThatComesSlowly(t *testing.T) {
	for _, c := range []struct {
		name, head string
		chunked    bool
	}{{"in chunks", chunkedHead, true}, {"until the connection ends", closedHead, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := running(t, Options{Connections: 1})
				client, stays := piped(t, w, Stream{Head: []byte(c.head), Chunked: c.chunked, Next: letters(), Max: 10 * time.Minute, Seed: 1})
				res, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				start, last := time.Now(), time.Now()
				var body []byte
				buffer := make([]byte, 4<<10)
				for {
					n, err := res.Body.Read(buffer)
					body = append(body, buffer[:n]...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					if gap := time.Since(last); gap >= 9*time.Second {
						t.Errorf("nothing came for %v: clients give up", gap)
					}
					last = time.Now()
				}
				if !isLetters(body) {
					t.Errorf("the text came wrong: %.100q", body)
				}
				lasted := time.Since(start)
				if rate := float64(len(body)) / lasted.Seconds(); rate < 14 || rate > 70 {
					t.Errorf("%d bytes in %v: %.1f a second", len(body), lasted, rate)
				}
				s := ended(t, stays, Finished)
				if s.Held < 10*time.Minute || s.Held > 10*time.Minute+2*tick {
					t.Errorf("held for %v", s.Held)
				}
				if s.Bytes < int64(len(body)+len(c.head)) {
					t.Errorf("%d bytes, of which %d are the body", s.Bytes, len(body))
				}
			})
		})
	}
}

func TestAStreamEndsWhenItsTextDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 1})
		left := 3
		client, stays := piped(t, w, Stream{Head: []byte(chunkedHead), Chunked: true, Next: func(dst []byte, _ int) []byte {
			if left--; left < 0 {
				return dst
			}
			return append(dst, "line\n"...)
		}})
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != "line\nline\nline\n" {
			t.Errorf("%q, %v", body, err)
		}
		ended(t, stays, Finished)
	})
}

func TestAGeneratorThatGivesTooMuchIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 1, MinRate: 1, MaxRate: 1, MaxWait: time.Second})
		client, _ := piped(t, w, Stream{Next: func(dst []byte, _ int) []byte { return append(dst, strings.Repeat("x", 1<<20)...) }, Max: 10 * time.Second})
		body, err := io.ReadAll(client)
		if err != nil || len(body) > 30 {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
}

func TestAClientThatGoesEndsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 1})
		client, stays := piped(t, w, Stream{Head: []byte(closedHead), Next: letters()})
		if _, err := io.ReadFull(client, make([]byte, len(closedHead))); err != nil {
			t.Fatal(err)
		}
		client.Close()
		ended(t, stays, Gone)
		if st := w.Stats(); st.Held != 0 || st.Ended != [Reasons]uint64{Gone: 1} {
			t.Errorf("%+v", st)
		}
	})
}

func TestClientsThatDoNotReadHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 101})
		var all []chan Stay
		for i := range 100 {
			_, stays := piped(t, w, Stream{Next: letters(), Seed: uint64(i)})
			all = append(all, stays)
		}
		client, _ := piped(t, w, Stream{Next: letters(), Seed: 7, Max: time.Minute})
		begin := time.Now()
		body, err := io.ReadAll(client)
		if err != nil || !isLetters(body) || len(body) < 10*60 {
			t.Errorf("%d bytes, %v, in %v", len(body), err, time.Since(begin))
		}
		for _, stays := range all {
			ended(t, stays, Stalled)
		}
	})
}

func TestSwitchedOffTheWheelEndsAllAndTakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 10})
		var all []chan Stay
		for i := range 5 {
			client, stays := piped(t, w, Stream{Next: letters(), Seed: uint64(i)})
			go io.Copy(io.Discard, client)
			all = append(all, stays)
		}
		time.Sleep(time.Minute)
		w.SetOff(true)
		at := time.Now()
		synctest.Wait()
		for _, stays := range all {
			ended(t, stays, Ended)
		}
		if time.Since(at) != 0 {
			t.Error("it took time")
		}
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		if w.Hijacked(b, Stream{Next: letters()}) {
			t.Error("a stream was taken")
		}
		w.SetOff(false)
		client, stays := piped(t, w, Stream{Next: letters(), Max: time.Minute})
		go io.Copy(io.Discard, client)
		ended(t, stays, Finished)
		if st := w.Stats(); st.Begun != 6 || st.Refused != 1 || st.Ended != [Reasons]uint64{Finished: 1, Ended: 5} {
			t.Errorf("%+v", st)
		}
	})
}

func TestDrainEndsWhatIsHeldOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 10})
		_, old := piped(t, w, Stream{Next: letters()})
		w.Drain()
		client, young := piped(t, w, Stream{Next: letters(), Max: time.Minute})
		go io.Copy(io.Discard, client)
		ended(t, old, Ended)
		ended(t, young, Finished)
	})
}

func TestWithoutRunNobodyIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		w, err := New(Options{Connections: 1})
		if err != nil {
			t.Fatal(err)
		}
		if w.Hijacked(b, Stream{Next: letters()}) {
			t.Error("before")
		}
		w, stop := running(t, Options{Connections: 1})
		if err := w.Run(t.Context()); err == nil || err == context.Canceled {
			t.Errorf("a second Run: %v", err)
		}
		client, stays := piped(t, w, Stream{Next: letters()})
		closed := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, client)
			closed <- err
		}()
		time.Sleep(time.Second)
		stop()
		ended(t, stays, Ended)
		if err := <-closed; err != nil {
			t.Errorf("the connection ended with %v", err)
		}
		if w.Hijacked(b, Stream{Next: letters()}) {
			t.Error("after")
		}
	})
}

func TestThereAreOnlySoManyPlaces(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want int
	}{
		{"connections", Options{Connections: 3}, 3},
		{"bandwidth", Options{Connections: 100, MinRate: 30, MaxRate: 30, Bandwidth: 5*30 + 5*overhead + 20}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := running(t, c.o)
				var clients []net.Conn
				took := func() bool {
					a, b := net.Pipe()
					t.Cleanup(func() { a.Close(); b.Close() })
					clients = append(clients, a)
					return w.Hijacked(b, Stream{Next: letters()})
				}
				n := 0
				for took() {
					n++
				}
				if n != c.want {
					t.Errorf("%d were taken, want %d", n, c.want)
				}
				clients[0].Close()
				time.Sleep(time.Minute)
				if !took() {
					t.Error("a place that became free is not given")
				}
			})
		})
	}
}

func TestNobodyGetsMoreThanTheBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 1, MaxRate: 16, Bandwidth: 100})
		head := strings.Repeat("h", 4000) // 40 s of the bandwidth
		client, _ := piped(t, w, Stream{Head: []byte(head), Next: letters()})
		if _, err := io.ReadFull(client, make([]byte, len(head)+1)); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		buffer := make([]byte, 1<<10) // the rest of the first piece
		if _, err := client.Read(buffer); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(buffer); err != nil {
			t.Fatal(err)
		}
		if wait := time.Since(at); wait < 38*time.Second {
			t.Errorf("the next piece came after %v", wait)
		}
	})
}

func TestTheSeedDecidesTheJitter(t *testing.T) {
	times := func(seed uint64) (out []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			w, _ := running(t, Options{Connections: 1})
			client, _ := piped(t, w, Stream{Next: letters(), Seed: seed})
			begin := time.Now()
			buffer := make([]byte, 4<<10)
			for range 20 {
				n, err := client.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, time.Since(begin).Truncate(tick), time.Duration(n))
			}
		})
		return out
	}
	same := func(a, b []time.Duration) int {
		n := 0
		for i := range a {
			if a[i] == b[i] {
				n++
			}
		}
		return n
	}
	a := times(1)
	if n := same(a, times(1)); n != len(a) {
		t.Errorf("only %d of %d times and sizes are the same with the same seed", n, len(a))
	}
	if n := same(a, times(2)); n > len(a)/2 {
		t.Errorf("%d of %d times and sizes are the same with another seed", n, len(a))
	}
}

func TestStatsCountTheTimeOfThoseStillHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 2})
		for i := range 2 {
			client, _ := piped(t, w, Stream{Next: letters(), Seed: uint64(i)})
			go io.Copy(io.Discard, client)
		}
		time.Sleep(5 * time.Minute)
		st := w.Stats()
		if st.Time != 10*time.Minute || st.Held != 2 || st.Bytes < 2*5*60*8 {
			t.Errorf("%+v", st)
		}
		w.Drain()
		time.Sleep(time.Hour)
		if st := w.Stats(); st.Time != 10*time.Minute || st.Held != 0 {
			t.Errorf("%+v after they ended", st)
		}
	})
}

func TestAWheelThatWasIdleGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := running(t, Options{Connections: 1})
		for range 3 {
			time.Sleep(1000 * time.Hour)
			client, stays := piped(t, w, Stream{Next: letters(), Max: time.Minute})
			go io.Copy(io.Discard, client)
			if s := ended(t, stays, Finished); s.Held > time.Minute+2*tick {
				t.Errorf("held for %v", s.Held)
			}
		}
	})
}

func TestSenselessOptionsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"no connections", Options{}, "connections"},
		{"rates the wrong way round", Options{Connections: 1, MinRate: 65}, "rates"},
		{"a rate too high", Options{Connections: 1, MaxRate: 5000}, "rates"},
		{"a negative rate", Options{Connections: 1, MinRate: -1}, "rates"},
		{"waits the wrong way round", Options{Connections: 1, MinWait: 2 * time.Second, MaxWait: time.Second}, "waits"},
		{"a wait that clients do not bear", Options{Connections: 1, MaxWait: 10 * time.Second}, "waits"},
		{"no wait to speak of", Options{Connections: 1, MinWait: time.Millisecond}, "waits"},
		{"negative bandwidth", Options{Connections: 1, Bandwidth: -1}, "bandwidth"},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		seen[Reason(r).String()] = true
	}
	if len(seen) != Reasons || seen["unknown"] || Reason(200).String() != "unknown" {
		t.Errorf("%v", seen)
	}
}
