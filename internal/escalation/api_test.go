package escalation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/private"
)

const key = "0123456789abcdef0123456789abcdef"

// serve serves an engine to who sends the key, as its service does.
func serve(t *testing.T, e *Engine) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	(&API{e}).Register(mux)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key {
			private.Problem(w, http.StatusUnauthorized, "no key")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestTheClientGetsWhatTheEngineSays(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	c := &Client{Base: serve(t, e).URL + "/", Key: key}
	for i, k := range []*defense.Case{client("192.0.2.1", scraper()), campaign("pattern:9f2c41d07b3ea865", 600, quietCrowd()), client("192.0.2.1", reader())} {
		k.Revision = uint64(i)
		want := judge(t, e, k)
		got, err := c.Judge(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheClientSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t, newEngine(t))
	var problem *ProblemError
	if err := (&Client{Base: s.URL, Key: "wrong"}).Ready(t.Context()); !errors.As(err, &problem) || problem.Status != 401 {
		t.Errorf("wrong key: %v", err)
	}
	if _, err := (&Client{Base: s.URL, Key: "wrong"}).Judge(t.Context(), client("192.0.2.1", nil)); !errors.As(err, &problem) || problem.Status != 401 {
		t.Errorf("wrong key: %v", err)
	}
	var invalid *InvalidError
	if _, err := (&Client{Base: s.URL, Key: key}).Judge(t.Context(), &defense.Case{}); !errors.As(err, &invalid) {
		t.Errorf("no case: %v", err)
	}
	if err := (&Client{Base: "http://[::1"}).Ready(t.Context()); err == nil {
		t.Error("no URL")
	}
}

func TestRequestsThatNobodyWouldSendAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, newEngine(t))
	small, err := json.Marshal(client("192.0.2.1", nil))
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{
		`{"case":` + string(small) + `}`: 200,
		`{"case":null}`:                  400,
		`{}`:                             400,
		`{"case":{}}`:                    400,
		`{"case":{"id":7}}`:              400,
		`{"case":{},"other":1}`:          400,
		`[`:                              400,
		``:                               400,
		`{"case":{"key":"` + strings.Repeat("x", 1<<20) + `"}}`:     413,
		`{"case":{"id":"a","kind":"person","key":"192.0.2.1"}}`:     400,
		`{"case":{"id":"a","kind":"client","key":"x","posture":9}}`: 400,
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/judge", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%.60s: %d, want %d", body, resp.StatusCode, want)
		}
		if want != 200 && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.60s: %s", body, resp.Header.Get("Content-Type"))
		}
	}
}

func TestTheClientAsksAgainWhereThatIsSafeAndOfUse(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	k := client("192.0.2.1", nil)
	good, err := json.Marshal(judge(t, e, k))
	if err != nil {
		t.Fatal(err)
	}
	cut := func(w http.ResponseWriter) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	}
	tests := []struct {
		name  string
		serve func(n int32, w http.ResponseWriter)
		asked int32
		ok    bool
	}{
		{"the connection breaks twice", func(n int32, w http.ResponseWriter) {
			if n < 3 {
				cut(w)
				return
			}
			_, _ = w.Write(good)
		}, 3, true},
		{"the connection always breaks", func(_ int32, w http.ResponseWriter) { cut(w) }, 3, false},
		{"the answer breaks off", func(n int32, w http.ResponseWriter) {
			if n == 1 {
				w.Header().Set("Content-Length", "5000")
				_, _ = w.Write(good[:20])
				return
			}
			_, _ = w.Write(good)
		}, 2, true},
		{"the engine is about to end", func(n int32, w http.ResponseWriter) {
			if n == 1 {
				private.Problem(w, 503, "draining")
				return
			}
			_, _ = w.Write(good)
		}, 2, true},
		{"the engine does not like the case", func(_ int32, w http.ResponseWriter) { private.Problem(w, 400, "case.key: no") }, 1, false},
		{"the engine has a bug", func(_ int32, w http.ResponseWriter) { private.Problem(w, 500, "bug") }, 1, false},
		{"somebody else answers", func(_ int32, w http.ResponseWriter) { fmt.Fprint(w, `{"caseId":"other","revision":1}`) }, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.serve(asked.Add(1), w) }))
			defer s.Close()
			// Each on a fresh connection: net/http asks again by itself when a kept one turns out to be dead.
			h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			c := &Client{Base: s.URL, HTTP: h, Backoff: time.Millisecond}
			j, err := c.Judge(t.Context(), k)
			if (err == nil) != tt.ok || (j != nil) != tt.ok || asked.Load() != tt.asked {
				t.Errorf("%v after %d questions, want %d", err, asked.Load(), tt.asked)
			}
		})
	}
}

func TestTheClientDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &Client{Base: "http://" + l.Addr().String(), Timeout: 20 * time.Millisecond}
	if _, err := c.Judge(t.Context(), client("192.0.2.1", nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
