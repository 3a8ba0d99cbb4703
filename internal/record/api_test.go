package record_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// serve returns the API over an archive of n events, the nth n minutes before noon, every tenth of them denied.
func serve(t *testing.T, n int) http.Handler {
	t.Helper()
	a, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "archive.db"), sqlite.Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	var events []*defense.Event
	for i := range n {
		e := &defense.Event{
			Schema: 1, Kind: "request", ID: fmt.Sprintf("e%04d", i), Time: noon.Add(-time.Duration(i) * time.Minute),
			Client:  defense.EventClient{Address: fmt.Sprintf("192.0.2.%d", i%200)},
			Request: defense.EventRequest{Method: "GET", Host: "example.org", Path: "/\x1b[31m", Agent: "Mozilla/5.0", Family: defense.AgentBrowser},
			Verdict: defense.EventVerdict{Action: defense.Observe, Intended: defense.Challenge, Rule: "threshold:50"},
		}
		if i%10 == 0 {
			e.Verdict.Action, e.Verdict.Intended = defense.Deny, defense.Deny
		}
		events = append(events, e)
	}
	if _, err := a.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if err := a.AddCounters(t.Context(), []record.Counter{{Hour: noon.Add(-time.Hour), Site: "wiki", Count: 5000}}); err != nil {
		t.Fatal(err)
	}
	return handler(a)
}

func handler(a record.Reader) http.Handler {
	mux := http.NewServeMux()
	api := &record.API{Archive: a, Now: func() time.Time { return noon.Add(time.Second) }, Log: slog.New(slog.DiscardHandler)}
	api.Register(mux)
	return mux
}

func do(t *testing.T, h http.Handler, method, target, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(t *testing.T, h http.Handler, target string, v any) {
	t.Helper()
	w := do(t, h, "GET", target, "*/*")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %d %v\n%s", target, w.Code, w.Header(), w.Body)
	}
	if bytes.ContainsRune(w.Body.Bytes(), '\x1b') {
		t.Errorf("%s: the answer has an escape byte in it", target)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatal(err)
	}
}

func TestEventsArePagedAsJSON(t *testing.T) {
	h := serve(t, 150)
	var first, second record.Page
	get(t, h, "/v1/events", &first)
	if len(first.Events) != 100 || first.Next == "" || first.Events[0].ID != "e0000" {
		t.Fatalf("%d events, next %q", len(first.Events), first.Next)
	}
	get(t, h, "/v1/events?before="+url.QueryEscape(first.Next), &second)
	if len(second.Events) != 50 || second.Next != "" || second.Events[0].ID != "e0100" {
		t.Errorf("%d events, next %q", len(second.Events), second.Next)
	}
	var denied record.Page
	get(t, h, "/v1/events?action=deny&since=1h&client=192.0.2.0/28", &denied)
	if len(denied.Events) != 2 {
		t.Errorf("%d denied within the hour, want e0000 and e0010", len(denied.Events))
	}
}

func TestAllEventsStreamAsNDJSON(t *testing.T) {
	h := serve(t, 2500)
	for target, want := range map[string]int{"/v1/events": 2500, "/v1/events?limit=1500": 1500, "/v1/events?action=deny": 250, "/v1/events?site=none": 0} {
		w := do(t, h, "GET", target, "application/x-ndjson")
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" {
			t.Fatalf("%s: %d %v", target, w.Code, w.Header())
		}
		seen := map[string]bool{}
		for lines := bufio.NewScanner(w.Body); lines.Scan(); {
			var e defense.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatalf("%s: %v", lines.Bytes(), err)
			}
			seen[e.ID] = true
		}
		if len(seen) != want {
			t.Errorf("%s: %d events, want %d", target, len(seen), want)
		}
	}
}

func TestReportShowsExactCountsAndHarm(t *testing.T) {
	h := serve(t, 100)
	var got struct {
		Summary record.Summary
		Harm    record.Harm
	}
	get(t, h, "/v1/report", &got)
	if got.Summary.Requests != 5000 || got.Summary.Events != 100 || !got.Summary.Since.Equal(noon.Add(time.Second-24*time.Hour)) {
		t.Errorf("summary %+v", got.Summary)
	}
	if got.Harm.Events != 100 || len(got.Harm.Groups) != 2 || got.Harm.Groups[0].Held != 90 || got.Harm.Groups[1].Stopped != 10 {
		t.Errorf("harm %+v", got.Harm)
	}
	get(t, h, "/v1/report?since=30m", &got)
	if got.Summary.Events != 30 {
		t.Errorf("%d events in half an hour, want 30", got.Summary.Events)
	}
}

func TestOnePersonsEventsAreErased(t *testing.T) {
	h := serve(t, 400)
	w := do(t, h, "DELETE", "/v1/events?client=192.0.2.7", "*/*")
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"erased":2}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var page record.Page
	get(t, h, "/v1/events?client=192.0.2.7", &page)
	if len(page.Events) != 0 {
		t.Errorf("%d left", len(page.Events))
	}
}

func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	h := serve(t, 1)
	for _, tt := range []struct{ method, target, want string }{
		{"GET", "/v1/events?clinet=192.0.2.1", "unknown parameter"},
		{"GET", "/v1/events?client=192.0.2.1&client=192.0.2.2", "client: given 2 times"},
		{"GET", "/v1/events?client=example.org", "client:"},
		{"GET", "/v1/events?action=block", "use one of allow, observe"},
		{"GET", "/v1/events?intended=block", "intended:"},
		{"GET", "/v1/events?kind=page", "kind:"},
		{"GET", "/v1/events?limit=0", "limit:"},
		{"GET", "/v1/events?limit=1e3", "limit:"},
		{"GET", "/v1/events?limit=1001", "x-ndjson"},
		{"GET", "/v1/events?before=zzz", "before:"},
		{"GET", "/v1/events?since=yesterday", "such as 24h or 7d"},
		{"GET", "/v1/events?since=-1h", "since:"},
		{"GET", "/v1/events?since=99999999999999d", "since:"},
		{"GET", "/v1/events?since=1h&until=2h", "not before until"},
		{"GET", "/v1/events?path=" + strings.Repeat("x", 600), "path: 600 bytes"},
		{"GET", "/v1/report?action=deny", "unknown parameter"},
		{"GET", "/v1/report?since=2027-01-01T00:00:00Z", "future"},
		{"DELETE", "/v1/events", "client:"},
		{"DELETE", "/v1/events?since=1h", "unknown parameter"},
	} {
		w := do(t, h, tt.method, tt.target, "*/*")
		var p struct {
			Status int
			Detail string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Errorf("%s %s: %v\n%s", tt.method, tt.target, err, w.Body)
			continue
		}
		if w.Code != 400 || p.Status != 400 || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(p.Detail, tt.want) {
			t.Errorf("%s %.60s: %d %q, want 400 with %q", tt.method, tt.target, w.Code, p.Detail, tt.want)
		}
	}
}

// broken is an archive that cannot be read, or only its first page.
type broken struct{ pages int }

func (b *broken) Events(context.Context, record.Filter) (record.Page, error) {
	if b.pages--; b.pages < 0 {
		return record.Page{}, errors.New("disk I/O error at /secret/place")
	}
	return record.Page{Events: make([]defense.Event, 1), Next: "1.x"}, nil
}
func (b *broken) Summary(context.Context, time.Time, time.Time) (record.Summary, error) {
	return record.Summary{}, context.DeadlineExceeded
}
func (b *broken) Harm(context.Context, time.Time, time.Time) (record.Harm, error) {
	return record.Harm{}, errors.New("not reached")
}
func (b *broken) Erase(context.Context, netip.Prefix) (int, error) { return 0, errors.New("read-only") }

func TestAnArchiveThatCannotBeReadIsAProblemNotASecret(t *testing.T) {
	for _, tt := range []struct{ method, target, accept, want string }{
		{"GET", "/v1/events", "*/*", "cannot be read now"},
		{"GET", "/v1/events", "application/x-ndjson", "cannot be read now"},
		{"DELETE", "/v1/events?client=192.0.2.1", "*/*", "cannot be read now"},
		{"GET", "/v1/report", "*/*", "shorter period"},
	} {
		w := do(t, handler(&broken{}), tt.method, tt.target, tt.accept)
		if w.Code != 503 || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), tt.want) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s %s: %d %v %s", tt.method, tt.target, w.Code, w.Header(), w.Body)
		}
	}
}

func TestAnExportThatFailsHalfWayIsCutOff(t *testing.T) {
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("the handler ended with %v; the client would take the part for the whole", got)
		}
	}()
	do(t, handler(&broken{pages: 2}), "GET", "/v1/events", "application/x-ndjson")
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"since=24h&until=1h&action=deny&client=192.0.2.0/24", "since=7d&kind=feed&limit=10", "since=2026-11-25T12:00:00Z&agent=%ff", "before=1.x&id=y", "since=106751d", "until=9999-12-31T23:59:59Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		got, err := record.ParseFilter(q, noon)
		if err != nil {
			return
		}
		if got.Limit < 0 || !got.Until.IsZero() && !got.Since.Before(got.Until) || got.Since.After(noon.AddDate(10000, 0, 0)) {
			t.Errorf("%q gave %+v", s, got)
		}
	})
}
