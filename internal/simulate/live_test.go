package simulate

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// fast plays ten minutes in a few seconds at most; the bounds are for when something hangs.
func fast(url string) LiveOptions {
	return LiveOptions{Scenario: "campaign", URL: url, Speed: 900, Duration: time.Minute, MaxConcurrency: 16}
}

func TestLiveClientsArriveWithTheirAddressesAndHeaders(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{}
	site := NewSite(1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Header.Get("X-Forwarded-For")]++
		mu.Unlock()
		if r.Host != "wiki.example.org" || r.Header.Get("X-Forwarded-Proto") != "https" || !strings.HasPrefix(r.UserAgent(), "Mozilla/5.0") && !strings.Contains(r.UserAgent(), "ynx") && !strings.HasPrefix(r.UserAgent(), "w3m") {
			t.Errorf("%s %s: %v", r.Host, r.URL, r.Header)
		}
		site.ServeHTTP(w, r)
	}))
	defer srv.Close()
	actors := build(t, "campaign", Options{Seed: 1, Scale: 0.02})
	r, err := Live(t.Context(), fast(srv.URL), actors)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for addr, n := range seen {
		total += n
		if _, ok := Labels(actors)[netip.MustParseAddr(addr)]; !ok {
			t.Errorf("unknown client %q", addr)
		}
	}
	if r.Ended != "" || r.Requests != total || r.Group(Campaign).All.Requests != 200 || r.Group(Reader).Clients.Total != 40 || r.Group(Reader).All.Failed != 0 {
		t.Errorf("%d requests at the server, %q, %+v", total, r.Ended, r.Groups)
	}
	if len(seen) < 70 {
		t.Errorf("only %d clients", len(seen))
	}
}

func TestLiveClientsCanHaveSourceAddresses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	site := NewSite(1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		seen[host] = true
		mu.Unlock()
		if r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("X-Forwarded-Proto") != "" {
			t.Errorf("headers of a proxy: %v", r.Header)
		}
		site.ServeHTTP(w, r)
	}))
	defer srv.Close()
	o := fast(srv.URL)
	o.SourceAddresses = true
	actors := build(t, "git", Options{Seed: 1, Scale: 0.05, Origin: srv.URL})
	r, err := Live(t.Context(), o, actors)
	if err != nil {
		t.Fatal(err)
	}
	want := len(Labels(actors))
	if len(seen) != want || r.Group(GitClient).All.Failed > 0 {
		t.Errorf("%d addresses, want %d; %+v", len(seen), want, r.Groups)
	}
	for host := range seen {
		if !strings.HasPrefix(host, "127.1.") {
			t.Errorf("a client at %s", host)
		}
	}
}

func TestLivePlayRefusesWhatIsNotThisComputer(t *testing.T) {
	t.Parallel()
	actors := build(t, "git", Options{Scale: 0.05})
	for _, url := range []string{"http://192.0.2.1", "http://[2001:db8::1]:8080", "https://10.0.0.1", "http://[::ffff:192.0.2.1]/"} {
		_, err := Live(t.Context(), LiveOptions{URL: url}, actors)
		var remote *RemoteError
		if !errors.As(err, &remote) || !strings.Contains(err.Error(), "not this computer") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://a:b@127.0.0.1", "http://127.0.0.1/path", "http://127.0.0.1/?q", "http://127.0.0.1:99999999"} {
		if _, err := Live(t.Context(), LiveOptions{URL: url}, actors); err == nil {
			t.Errorf("%q is accepted", url)
		}
	}
	for _, o := range []LiveOptions{{Speed: -1}, {Speed: 1e6}, {MaxRequests: -1}, {MaxConcurrency: 1 << 20}, {Duration: -1}, {Timeout: -1}} {
		o.URL = "http://127.0.0.1:1"
		if _, err := Live(t.Context(), o, actors); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := Live(t.Context(), LiveOptions{URL: "http://127.0.0.1:1"}, nil); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody: %v", err)
	}
}

func TestLivePlayIsBounded(t *testing.T) {
	t.Parallel()
	var now, most, all atomic.Int64
	site := NewSite(1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all.Add(1)
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		site.ServeHTTP(w, r)
		now.Add(-1)
	}))
	defer srv.Close()
	o := fast(srv.URL)
	o.MaxRequests, o.MaxConcurrency = 150, 3
	r, err := Live(t.Context(), o, build(t, "readers", Options{Seed: 1, Scale: 0.05}))
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 150 || all.Load() != 150 || !strings.Contains(r.Ended, "150 requests") || most.Load() > 3 {
		t.Errorf("%d counted, %d sent, %d at once, %q", r.Requests, all.Load(), most.Load(), r.Ended)
	}
}

func TestLivePlayEndsInTimeAndWhenTold(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 1000)
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(hang)
	o := fast(srv.URL)
	o.Duration, o.MaxConcurrency = 50*time.Millisecond, 4
	r, err := Live(t.Context(), o, build(t, "readers", Options{Seed: 1, Scale: 0.1}))
	if err != nil || r.Ended == "" || r.Requests != 0 {
		t.Errorf("%v, ended %q after %d", err, r.Ended, r.Requests)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for len(reached) > 0 {
		<-reached
	}
	go func() { <-reached; cancel() }()
	o.Duration = time.Minute
	if _, err := Live(ctx, o, build(t, "readers", Options{Seed: 1, Scale: 0.1})); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestUnreachableEdgeCountsAsFailure(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	r, err := Live(t.Context(), fast(url), build(t, "git", Options{Seed: 1, Scale: 0.05}))
	if err != nil {
		t.Fatal(err)
	}
	if g := r.Group(GitClient); g.All.Requests != 3 || g.All.Failed != 3 || g.Clients.Harmed != 0 {
		t.Errorf("%+v", g)
	}
}

func TestCompressedAnswersAreRead(t *testing.T) {
	t.Parallel()
	const text = `<a href="/next">next</a>`
	for coding, encode := range map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			e, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
	} {
		var b bytes.Buffer
		w := encode(&b)
		io.WriteString(w, text)
		w.Close()
		got, err := readBody(&http.Response{Header: http.Header{"Content-Encoding": {coding}}, Body: io.NopCloser(&b)})
		if err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", coding, got, err)
		}
		var bomb bytes.Buffer
		w = encode(&bomb)
		for range 4 {
			w.Write(make([]byte, 1<<20))
		}
		w.Close()
		if got := decode(coding, bomb.Bytes()); len(got) > MaxBody {
			t.Errorf("%s: %d bytes of a bomb", coding, len(got))
		}
		decode(coding, []byte("junk"))
	}
	got, err := readBody(&http.Response{Header: http.Header{"Content-Encoding": {"br"}}, Body: io.NopCloser(strings.NewReader("\x01"))})
	if err != nil || len(got) != 0 {
		t.Errorf("brotli: %q, %v", got, err)
	}
}
