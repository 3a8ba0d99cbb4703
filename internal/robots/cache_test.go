package robots

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_790_000_000, 0).Add(time.Duration(c.at.Load())) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func newCache(t *testing.T, c *clock, h http.Handler) *Cache {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cache, err := New(Options{Sites: []Site{{Name: "wiki", Base: s.URL + "/", Host: "wiki.example"}}, Client: s.Client(), Now: c.now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

const file = "User-agent: *\nDisallow: /w/\n"

func TestWhatIsKnownFollowsFromTheAnswer(t *testing.T) {
	for _, c := range []struct {
		name              string
		answer            http.HandlerFunc
		known, disallowed bool
	}{
		{"a file is used", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, file) }, true, true},
		{"no file allows everything", http.NotFound, true, false},
		{"nor does one that is forbidden disallow anything", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, true, false},
		{"a server that fails says nothing", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, false, false},
		{"nor one that has too much to do", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) }, false, false},
		{"nor one that breaks off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "User-agent: *\n")
		}, false, false},
		{"redirects are followed", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/robots.txt" {
				http.Redirect(w, r, "/5", http.StatusFound)
			} else if n := r.URL.Path[1] - '0'; n > 1 {
				http.Redirect(w, r, "/"+string('0'+n-1), http.StatusFound)
			} else {
				io.WriteString(w, file)
			}
		}, true, true},
		{"but no more than five", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/robots.txt", http.StatusFound) }, false, false},
		{"and only to the web", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, false, false},
		{"a file without end is cut", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, file)
			for range 2 * MaxBytes / 1024 {
				io.WriteString(w, strings.Repeat("#", 1023)+"\n")
			}
		}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := newCache(t, new(clock), c.answer)
			if _, known := cache.Disallowed("wiki", curl, "/w/a"); known {
				t.Error("something is known before it was fetched")
			}
			cache.Refresh(t.Context())
			disallowed, known := cache.Disallowed("wiki", curl, "/w/a")
			if known != c.known || disallowed != c.disallowed {
				t.Errorf("known %v, disallowed %v; want %v, %v", known, disallowed, c.known, c.disallowed)
			}
			if s := cache.Status()[0]; s.Known != c.known || (s.Problem == "") != c.known {
				t.Errorf("status %+v", s)
			}
			if _, known := cache.Disallowed("another", curl, "/w/a"); known {
				t.Error("a site that is not configured is known")
			}
		})
	}
}

func TestAnOldFileCountsForADayWhenItCannotBeFetched(t *testing.T) {
	var c clock
	var down atomic.Bool
	var asked atomic.Int32
	cache := newCache(t, &c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Host != "wiki.example" || r.UserAgent() != "quickthorn" {
			t.Errorf("asked as %q for %q", r.UserAgent(), r.Host)
		}
		if down.Load() {
			w.WriteHeader(500)
			return
		}
		io.WriteString(w, file)
	}))
	known := func() bool { _, known := cache.Disallowed("wiki", curl, "/w/"); return known }
	cache.Refresh(t.Context())
	cache.Refresh(t.Context())
	if n := asked.Load(); n != 1 {
		t.Fatalf("asked %d times within a moment", n)
	}
	down.Store(true)
	c.advance(5 * time.Hour)
	cache.Refresh(t.Context())
	c.advance(time.Hour)
	cache.Refresh(t.Context())
	if n := asked.Load(); n != 3 || !known() {
		t.Fatalf("asked %d times, want 3; known %v", n, known())
	}
	c.advance(20 * time.Hour)
	if known() {
		t.Error("a file of yesterday still counts")
	}
	down.Store(false)
	cache.Refresh(t.Context())
	if !known() {
		t.Error("the new file does not count")
	}
}

func TestRunFetchesUntilItsContextEnds(t *testing.T) {
	fetched := make(chan struct{}, 1)
	cache := newCache(t, new(clock), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, file)
		select {
		case fetched <- struct{}{}:
		default:
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- cache.Run(ctx) }()
	<-fetched
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func TestSitesThatCannotBeFetchedAreRefused(t *testing.T) {
	for _, sites := range [][]Site{{{Name: "a", Base: "ftp://x"}}, {{Name: "a", Base: "://"}}, {{Name: "a", Base: "http://x"}, {Name: "a", Base: "http://y"}}} {
		if _, err := New(Options{Sites: sites, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}); err == nil || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%v: error %v", sites, err)
		}
	}
}
