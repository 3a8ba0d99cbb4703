package entry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// relayTo returns an edge that hands everybody to h, and what came of it.
func relayTo(t *testing.T, h http.HandlerFunc) (*httptest.Server, chan Stay, chan Refusal) {
	t.Helper()
	edge, stays, refusals, _ := relayBy(t, h)
	return edge, stays, refusals
}

func relayBy(t *testing.T, h http.HandlerFunc) (*httptest.Server, chan Stay, chan Refusal, *Relay) {
	t.Helper()
	pit := httptest.NewServer(h)
	t.Cleanup(pit.Close)
	u, err := url.Parse(pit.URL)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewRelay(RelayOptions{
		URL: u, Key: func() string { return key }, Connections: 2, Timeout: 5 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	stays, refusals := make(chan Stay, 8), make(chan Refusal, 8)
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := p.Enter(w, r, &guest, func(s Stay) { stays <- s })
		refusals <- got
		if got != Taken {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(edge.Close)
	return edge, stays, refusals, p
}

func TestTheTarpitsAnswerIsHandedOn(t *testing.T) {
	edge, stays, _ := relayTo(t, func(w http.ResponseWriter, r *http.Request) {
		g, err := Verify(r, []string{key}, time.Now())
		if err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodGet || r.Header.Get("Cookie") != "" || r.ContentLength > 0 {
			t.Errorf("%s with cookie %q and %d bytes: more than a tarpit needs", r.Method, r.Header.Get("Cookie"), r.ContentLength)
		}
		w.Header().Set(HeaderStay, "depth=7")
		w.Header().Set("X-Robots-Tag", "noindex")
		fmt.Fprintf(w, "%s %s %s", g.Address, r.Host, r.URL.RequestURI())
	})
	q, err := http.NewRequest(http.MethodPost, edge.URL+"/a%2Fb?c", strings.NewReader("form=1"))
	if err != nil {
		t.Fatal(err)
	}
	q.Host = "www.example.org"
	q.Header.Set("Cookie", "session=secret")
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := "203.0.113.7 www.example.org /a%2Fb?c"; string(body) != want {
		t.Errorf("got %q, want %q", body, want)
	}
	if res.Header.Get("X-Robots-Tag") != "noindex" || res.Header.Get(HeaderStay) != "" {
		t.Errorf("headers %v", res.Header)
	}
	if s := <-stays; s.Status != 200 || s.Bytes != int64(len(body)) || s.Depth != 7 || s.Held <= 0 {
		t.Errorf("stay %+v", s)
	}
}

func TestAStreamIsHandedOnAsItComes(t *testing.T) {
	next := make(chan string)
	edge, stays, _ := relayTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderStay, "depth=0")
		for line := range next {
			fmt.Fprint(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	})
	go func() { next <- "one\n" }()
	res, err := http.Get(edge.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for i, want := range []string{"one\n", "two\n"} {
		if i > 0 {
			next <- want
		}
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	close(next)
	if _, err := lines.ReadString('\n'); err != io.EOF {
		t.Errorf("the end is %v", err)
	}
	if s := <-stays; s.Bytes != 8 {
		t.Errorf("stay %+v", s)
	}
}

func TestAClientThatGoesEndsItsRelay(t *testing.T) {
	gone := make(chan struct{})
	edge, stays, _ := relayTo(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderStay, "depth=0")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, edge.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cancel()
	<-gone
	<-stays
}

func TestWhoIsHeldCanBeLetGo(t *testing.T) {
	edge, stays, _, relay := relayBy(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderStay, "depth=0")
		fmt.Fprint(w, "held\n")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/held" {
			<-r.Context().Done()
		}
	})
	res, err := http.Get(edge.URL + "/held")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	relay.Release()
	if _, err := lines.ReadString('\n'); err == nil || err == io.EOF {
		t.Errorf("the connection ends with %v", err)
	}
	<-stays
	res, err = http.Get(edge.URL) // who comes later is held as before
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "held\n" {
		t.Errorf("%q, %v", b, err)
	}
	<-stays
}

func TestATarpitThatTakesNobodyInLeavesTheAnswerToTheEdge(t *testing.T) {
	for note, want := range map[string]Refusal{"full": Full, "spent": Spent, "": Full} {
		t.Run(note, func(t *testing.T) {
			edge, stays, refusals := relayTo(t, func(w http.ResponseWriter, _ *http.Request) {
				if note != "" {
					w.Header().Set(HeaderStay, note)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			res, err := http.Get(edge.URL)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := <-refusals; got != want || res.StatusCode != http.StatusForbidden {
				t.Errorf("%v with status %d, want %v", got, res.StatusCode, want)
			}
			if len(stays) != 0 {
				t.Errorf("a stay without a guest: %+v", <-stays)
			}
		})
	}
}

func TestATarpitThatIsAwayIsNotAskedForEachRequest(t *testing.T) {
	u, err := url.Parse("http://127.0.0.1:1") // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewRelay(RelayOptions{
		URL: u, Key: func() string { return key }, Connections: 2, Timeout: time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := p.Enter(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), &guest, func(Stay) { t.Error("a stay") }); got != Full {
			t.Errorf("got %v", got)
		}
	}
	if n := p.Failures(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

func TestRelaysAreBounded(t *testing.T) {
	let := make(chan struct{})
	edge, stays, refusals := relayTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderStay, "depth=0")
		_ = http.NewResponseController(w).Flush()
		<-let
	})
	for range 2 {
		res, err := http.Get(edge.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	res, err := http.Get(edge.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := <-refusals; got != Full {
		t.Errorf("the third of two: %v", got)
	}
	close(let)
	<-stays
	<-stays
}
