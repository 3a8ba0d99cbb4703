package reputation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// service answers every question with one status and body.
type service struct {
	*httptest.Server
	asked atomic.Int32
	last  atomic.Pointer[http.Request]
}

func newService(t *testing.T, status int, body string) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.last.Store(r)
		if status/100 == 3 {
			w.Header().Set("Location", "/elsewhere?ip=1")
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) source(t *testing.T, c *clock, o HTTPOptions) *HTTPSource {
	t.Helper()
	o.Name = "svc"
	if o.URL == "" {
		o.URL = s.URL + "/check?secret=s3cr3t&ip={address}"
	}
	if o.Field == "" {
		o.Field = "data.score"
	}
	src, err := NewHTTPSource(o, c.now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestServiceIsAskedWithAddressAndKey(t *testing.T) {
	t.Parallel()
	s := newService(t, 200, `{"data":{"score":90}}`)
	src := s.source(t, newClock(), HTTPOptions{KeyHeader: "Key", Key: "k1"})
	f, err := src.Check(t.Context(), client("2001:db8::/64"))
	if err != nil || !f.Listed || f.Score != 0.9 || f.Detail != "90 %" {
		t.Errorf("%+v %v", f, err)
	}
	r := s.last.Load()
	if r.URL.Query().Get("ip") != "2001:db8::" || r.Header.Get("Key") != "k1" || r.Method != "GET" {
		t.Errorf("asked %s %s with key %q", r.Method, r.URL, r.Header.Get("Key"))
	}
}

func TestAnswersOfAService(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		o      HTTPOptions
		want   Finding
		err    string
	}{
		{"low", 200, `{"data":{"score":10}}`, HTTPOptions{}, Finding{}, ""},
		{"high", 200, `{"data":{"score":100}}`, HTTPOptions{}, Finding{true, 1, "100 %"}, ""},
		{"share", 200, `[{"r":0.75}]`, HTTPOptions{Field: "0.r", Scale: 1}, Finding{true, 0.75, "75 %"}, ""},
		{"number in a string", 200, `{"data":{"score":"60"}}`, HTTPOptions{}, Finding{true, 0.6, "60 %"}, ""},
		{"own threshold", 200, `{"data":{"score":60}}`, HTTPOptions{Listed: 0.8}, Finding{}, ""},
		{"unknown to it", 404, `{}`, HTTPOptions{}, Finding{}, ""},
		{"null", 200, `{"data":{"score":null}}`, HTTPOptions{}, Finding{}, ""},
		{"null above", 200, `{"data":null}`, HTTPOptions{}, Finding{}, ""},
		{"no such field", 200, `{"data":{}}`, HTTPOptions{}, Finding{}, "no data.score"},
		{"no object", 200, `{"data":7}`, HTTPOptions{}, Finding{}, "no data.score"},
		{"beyond the array", 200, `[]`, HTTPOptions{Field: "0.r"}, Finding{}, "no 0"},
		{"beyond the scale", 200, `{"data":{"score":101}}`, HTTPOptions{}, Finding{}, "not between"},
		{"not a number", 200, `{"data":{"score":"NaN"}}`, HTTPOptions{}, Finding{}, "not between"},
		{"a list", 200, `{"data":{"score":[1]}}`, HTTPOptions{}, Finding{}, "not a number"},
		{"not JSON", 200, `<html>`, HTTPOptions{}, Finding{}, "not JSON"},
		{"too much", 200, `{"data":{"score":90},"x":"` + strings.Repeat("x", 1000) + `"}`, HTTPOptions{MaxBody: 1000}, Finding{}, "larger"},
		{"refused", 429, `{"data":{"score":90}}`, HTTPOptions{}, Finding{}, "answers 429"},
		{"a redirect is not followed", 302, `{"data":{"score":90}}`, HTTPOptions{}, Finding{}, "answers 302"},
	}
	for _, tt := range tests {
		s := newService(t, tt.status, tt.body)
		f, err := s.source(t, newClock(), tt.o).Check(t.Context(), client("198.51.100.7"))
		if f != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %+v %v", tt.name, f, err)
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times", tt.name, n)
		}
	}
}

func TestKeysAreInNoError(t *testing.T) {
	t.Parallel()
	s := newService(t, 200, "")
	src := s.source(t, newClock(), HTTPOptions{KeyHeader: "Key", Key: "k3y"})
	s.Close()
	_, err := src.Check(t.Context(), client("198.51.100.7"))
	if err == nil || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "k3y") {
		t.Errorf("got %v", err)
	}
	if _, err := NewHTTPSource(HTTPOptions{URL: "https://a.example/%zz?k=s3cr3t&{address}", Field: "x"}, time.Now, quiet()); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("got %v", err)
	}
}

func TestServiceIsAskedOncePerClientAndDay(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newService(t, 200, `{"data":{"score":90}}`)
	src := s.source(t, c, HTTPOptions{PerDay: 2, TTL: time.Hour})
	ask := func(a string, asked int32) error {
		t.Helper()
		_, err := src.Check(t.Context(), client(a))
		if n := s.asked.Load(); n != asked {
			t.Errorf("%s: asked %d times, want %d", a, n, asked)
		}
		return err
	}
	for range 3 {
		if err := ask("198.51.100.1", 1); err != nil {
			t.Error(err)
		}
	}
	if err := ask("198.51.100.2", 2); err != nil {
		t.Error(err)
	}
	for range 10 {
		if err := ask("198.51.100.3", 2); !errors.Is(err, ErrSpent) {
			t.Errorf("over budget: %v", err)
		}
	}
	if err := ask("198.51.100.1", 2); err != nil {
		t.Errorf("what is remembered costs nothing: %v", err)
	}
	c.advance(24 * time.Hour)
	if err := ask("198.51.100.3", 3); err != nil {
		t.Error(err)
	}
}

func TestServiceThatFailsIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	s := newService(t, 500, "")
	src := s.source(t, newClock(), HTTPOptions{})
	for range 20 {
		if _, err := src.Check(t.Context(), client("198.51.100.7")); err == nil {
			t.Fatal("no error")
		}
	}
	if n := s.asked.Load(); n != 6 || !src.state.Failing() {
		t.Errorf("asked %d times, failing %v", n, src.state.Failing())
	}
}

func TestServiceThatHangsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	h := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() {
		close(release)
		h.Close()
	})
	s := &service{Server: h}
	src := s.source(t, newClock(), HTTPOptions{Timeout: 20 * time.Millisecond, MaxInFlight: 1})
	if _, err := src.Check(t.Context(), client("198.51.100.7")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzScoreAt(f *testing.F) {
	f.Add(`{"data":{"score":9}}`, "data.score")
	f.Add(`[[1,"2"]]`, "0.1")
	f.Add(`{"a":null}`, "a.b.c")
	f.Fuzz(func(t *testing.T, body, path string) {
		v, known, err := scoreAt([]byte(body), strings.Split(path, "."))
		if (err != nil || !known) && v != 0 {
			t.Fatalf("%v %v %v", v, known, err)
		}
	})
}
