package decision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// serve returns a client of f's API and the authorization that it last sent.
func serve(t *testing.T, f *fixture) (*decision.Client, *atomic.Value) {
	t.Helper()
	mux := http.NewServeMux()
	decision.NewAPI(f.Log, f.clock).Register(mux)
	var key atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key.Store(r.Header.Get("Authorization"))
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return &decision.Client{Base: srv.URL + "/", HTTP: srv.Client(), Key: "k3y"}, &key
}

// ask sends a request and returns status, content type and body.
func ask(t *testing.T, c *decision.Client, method, path, body string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(c.Base, "/")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

func TestClientAddsListsAndDeletes(t *testing.T) {
	f := newLog(t)
	c, key := serve(t, f)
	ctx := t.Context()
	bot := defense.Decision{Scope: defense.ScopeAgent, Value: "BadBot", Action: defense.Tarpit, Origin: "operator", Reason: "lies", Site: "wiki", Expires: noon.Add(time.Hour)}
	got, err := c.Add(ctx, []defense.Decision{deny("192.0.2.1"), {Scope: defense.ScopeRange, Value: "192.0.2.7/24", Action: defense.Allow}, bot}, decision.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got[1].Value != "192.0.2.0/24" || got[1].Origin != "operator" || got[2].Expires != bot.Expires || got[2].Sequence != 3 || got[2].Created != noon {
		t.Errorf("%+v", got)
	}
	list, err := c.List(ctx, decision.Filter{}, 2)
	if err != nil || len(list.Decisions) != 2 || list.Before != 2 {
		t.Fatal(list, err)
	}
	if diff := cmp.Diff([]defense.Decision{got[2], got[1]}, list.Decisions); diff != "" {
		t.Error(diff)
	}
	list, err = c.List(ctx, decision.Filter{Before: list.Before}, 0)
	if err != nil || len(list.Decisions) != 1 || list.Before != 0 {
		t.Error(list, err)
	}
	list, err = c.List(ctx, decision.Filter{Client: netip.MustParseAddr("192.0.2.1"), Action: new(defense.Deny), Origin: "operator", Value: "192.0.2.1"}, 0)
	if err != nil || len(list.Decisions) != 1 {
		t.Error(list, err)
	}
	if err := c.Delete(ctx, got[0].ID); err != nil {
		t.Error(err)
	}
	var p *decision.Problem
	if err := c.Delete(ctx, got[0].ID); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("deleting it again: %v", err)
	}
	if err := c.Delete(ctx, "../../x"); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("a strange id: %v", err)
	}
	if n, err := c.DeleteWhere(ctx, decision.Filter{Value: "badbot"}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := c.DeleteWhere(ctx, decision.Filter{}); !errors.As(err, &p) || p.Status != http.StatusBadRequest {
		t.Errorf("deleting everything: %v", err)
	}
	if n := f.Set().Len(); n != 1 {
		t.Errorf("%d left", n)
	}
	if key.Load() != "Bearer k3y" {
		t.Errorf("authorization %q", key.Load())
	}
}

func TestClientForcesWhatIsMeant(t *testing.T) {
	c, _ := serve(t, newLog(t))
	_, err := c.Add(t.Context(), []defense.Decision{deny("0.0.0.0/0")}, decision.AddOptions{})
	var p *decision.Problem
	if !errors.As(err, &p) || p.Status != http.StatusConflict || p.Field != "value" || p.Index == nil || *p.Index != 0 || !strings.Contains(err.Error(), "force") {
		t.Errorf("%+v", err)
	}
	if _, err := c.Add(t.Context(), []defense.Decision{deny("0.0.0.0/0")}, decision.AddOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

func TestClientImportsAndExports(t *testing.T) {
	f := newLog(t)
	c, _ := serve(t, f)
	r, err := c.Import(t.Context(), strings.NewReader("192.0.2.1\nrubbish\n0.0.0.0/0\n"), decision.ImportOptions{
		Format: decision.FormatList, Origin: "list:x", Action: new(defense.Deny), Reason: "listed", Site: "wiki", Expires: noon.Add(time.Hour), Force: true})
	if err != nil || r.Added != 2 || r.Rejected != 1 || r.Problems[0].Line != 2 {
		t.Fatal(r, err)
	}
	var b bytes.Buffer
	if err := c.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	var d defense.Decision
	if err := json.Unmarshal(b.Bytes()[:bytes.IndexByte(b.Bytes(), '\n')], &d); err != nil || d.Value != "192.0.2.1" || d.Action != defense.Deny || d.Site != "wiki" || d.Reason != "listed" || d.Expires != noon.Add(time.Hour) {
		t.Errorf("%+v, %v", d, err)
	}
	f.fail = errors.New("no space left on device")
	r, err = c.Import(t.Context(), strings.NewReader("192.0.2.9\n"), decision.ImportOptions{})
	var p *decision.Problem
	if !errors.As(err, &p) || p.Status != http.StatusInternalServerError || r.Lines != 1 || r.Added != 0 || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestImportThatTheClientBreaksOffKeepsTheServerUp(t *testing.T) {
	f := newLog(t)
	c, _ := serve(t, f)
	broken := errors.New("pipe broke")
	if _, err := c.Import(t.Context(), io.MultiReader(strings.NewReader("192.0.2.1\n"), iotest.ErrReader(broken)), decision.ImportOptions{}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := c.List(t.Context(), decision.Filter{}, 1); err != nil {
		t.Error(err)
	}
}

func TestExportThatFailsOnTheWayIsSeenToBeCutShort(t *testing.T) {
	f := newLog(t)
	var in strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&in, "10.0.%d.%d,%s\n", i>>8, i&255, strings.Repeat("a reason ", 20))
	}
	if _, err := f.Import(t.Context(), strings.NewReader(in.String()), decision.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	store := &breaking{Store: f.db, good: 2}
	log := decision.NewLog(decision.NewSet(nil), store, decision.LogOptions{Now: f.clock})
	if _, err := log.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	decision.NewAPI(log, f.clock).Register(mux)
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = nil
	srv.Start()
	defer srv.Close()
	c := &decision.Client{Base: srv.URL}
	if err := c.Export(t.Context(), io.Discard); err == nil {
		t.Error("half an export looks whole")
	}
	var p *decision.Problem
	if err := c.Export(t.Context(), io.Discard); !errors.As(err, &p) || p.Status != http.StatusInternalServerError {
		t.Errorf("failing before the first byte: %v", err)
	}
}

// breaking reads well a few times and then no more.
type breaking struct {
	decision.Store
	good int
}

func (b *breaking) Changes(ctx context.Context, after uint64, fn func(decision.Change) bool) error {
	if b.good--; b.good < 0 {
		return errors.New("input/output error")
	}
	return b.Store.Changes(ctx, after, fn)
}

func TestAPIRefusesWithAProblemThatNamesTheField(t *testing.T) {
	f := newLog(t)
	f.restart(t, netip.MustParsePrefix("10.0.0.0/8"))
	c, _ := serve(t, f)
	tests := []struct {
		method, path, body string
		status             int
		want               string // part of the body
	}{
		{"POST", "", ``, 400, "nothing was sent"},
		{"POST", "", `{`, 400, "ends early"},
		{"POST", "", `[1]`, 400, "must not be a JSON number"},
		{"POST", "", `[{"value":"192.0.2.1","action":"deny"`, 400, "byte"},
		{"POST", "", `{"value":"192.0.2.1"}`, 422, `"field":"action","index":0`},
		{"POST", "", `{"action":"deny"}`, 422, `"field":"value"`},
		{"POST", "", `{"value":"BadBot","action":"deny"}`, 422, "say scope agent"},
		{"POST", "", `[{"value":"192.0.2.1","action":"deny"},{"value":"192.0.2.1","action":"charge"}]`, 422, `"field":"action","index":1`},
		{"POST", "", `{"value":"192.0.2.1","action":"deny","ttl":5}`, 422, `"field":"ttl"`},
		{"POST", "", `{"value":"192.0.2.1","action":"deny","expires":"2020-01-01T00:00:00Z"}`, 422, `"field":"expires"`},
		{"POST", "", `{"value":"192.0.2.1","action":"deny","reason":"\u001b[2J"}`, 422, `"field":"reason"`},
		{"POST", "", `{"value":"10.1.2.3","action":"deny"}`, 409, "trusted proxy"},
		{"POST", "", `{"value":"192.0.2.0/24","action":"deny","origin":"engine"}`, 422, "more than one client"},
		{"POST", "?froce=true", `{}`, 400, "unknown parameter"},
		{"POST", "?force=perhaps", `{}`, 422, `"field":"force"`},
		{"POST", "", `[` + strings.Repeat(`{},`, 10_000) + `{}]`, 400, "import them"},
		{"POST", "", `{"reason":"` + strings.Repeat("x", 9<<20) + `"}`, 413, "more than 8388608 bytes"},
		{"POST", "/import?format=xml", ``, 422, `"field":"format"`},
		{"POST", "/import?expires=soon", ``, 422, `"field":"expires"`},
		{"POST", "/import?action=maim", ``, 422, `"field":"action"`},
		{"GET", "?client=example.org", ``, 422, `"field":"client"`},
		{"GET", "?client=fe80::1%25eth0", ``, 422, `"field":"client"`},
		{"GET", "?limit=-1", ``, 422, `"field":"limit"`},
		{"GET", "?limit=10001", ``, 422, `"field":"limit"`},
		{"GET", "?limit=1&limit=2", ``, 422, "more than once"},
		{"GET", "?since=x", ``, 422, `"field":"since"`},
		{"GET", "?colour=red", ``, 400, "client, value, action, origin, before, limit"},
		{"GET", "?%zz", ``, 400, "query"},
		{"GET", "/01ARZ3NDEKTSV4RRFFQ69G5FAV", ``, 404, "no decision"},
		{"DELETE", "?limit=1", ``, 400, "unknown parameter"},
	}
	for _, tt := range tests {
		status, kind, body := ask(t, c, tt.method, "/v1/decisions"+tt.path, tt.body)
		if status != tt.status || kind != "application/problem+json" || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s %.60s: %d %s %s", tt.method, tt.path, tt.body, status, kind, body)
		}
	}
	if n := f.Set().Len(); n != 0 {
		t.Errorf("%d decisions came in all the same", n)
	}
}

func TestAPIServesChangesInPagesToWhoFollows(t *testing.T) {
	f := newLog(t)
	c, _ := serve(t, f)
	ds := f.add(t, deny("192.0.2.1"), deny("192.0.2.2"), deny("192.0.2.3"))
	if _, err := f.Delete(t.Context(), ds[1].ID); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ query, want string }{
		{"since=0&limit=1", fmt.Sprintf(`{"changes":[{"sequence":1,"decision":{"id":"%s","scope":"address","value":"192.0.2.1","action":"deny","origin":"operator","created":"2026-03-01T12:00:00Z","sequence":1}}],"since":1,"snapshot":4,"more":true}`, ds[0].ID)},
		{"since=3&snapshot=4", fmt.Sprintf(`{"changes":[{"sequence":4,"deleted":"%s"}],"since":4,"more":false}`, ds[1].ID)},
		{"since=4", `{"changes":[],"since":4,"more":false}`},
	} {
		if status, _, body := ask(t, c, "GET", "/v1/decisions?"+tt.query, ""); status != 200 || body != tt.want+"\n" {
			t.Errorf("%s: %d %s", tt.query, status, body)
		}
	}
	status, _, body := ask(t, c, "GET", "/v1/decisions/"+ds[0].ID, "")
	if status != 200 || !strings.Contains(body, `"value":"192.0.2.1"`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestClientSaysWhatAnswersThatAreNotOurs(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "<h1>nope", http.StatusBadGateway) }))
	defer srv.Close()
	c := &decision.Client{Base: srv.URL}
	var p *decision.Problem
	if _, err := c.List(t.Context(), decision.Filter{}, 1); !errors.As(err, &p) || p.Status != 502 || !strings.Contains(err.Error(), "502 Bad Gateway") {
		t.Errorf("got %v", err)
	}
}
