package private_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/private"
)

type memory struct {
	mode defense.Mode
	err  error
}

func (m *memory) Mode() defense.Mode { return m.mode }
func (m *memory) SetMode(n defense.Mode) error {
	if m.err == nil {
		m.mode = n
	}
	return m.err
}

const key = "0123456789abcdef0123456789abcdef"

func operators(t *testing.T) *auth.Callers {
	t.Helper()
	c, err := auth.New(auth.Key{Caller: auth.Operator, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(h http.Handler, method, path, auth, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAPINeedsTheKeyAndHealthDoesNot(t *testing.T) {
	m := &memory{}
	var notReady error
	h := private.Handler(private.Options{
		Metrics: http.NotFoundHandler(), Ready: func() error { return notReady },
		API: operators(t).Handler(auth.Group{API: &private.ModeAPI{Switch: m}}),
	})
	tests := []struct {
		method, path, auth, body string
		want                     int
	}{
		{"GET", "/healthz", "", "", 200},
		{"GET", "/readyz", "", "", 200},
		{"GET", "/v1/mode", "", "", 401},
		{"GET", "/v1/mode", "Bearer ", "", 401},
		{"GET", "/v1/mode", "Bearer " + key + "x", "", 401},
		{"GET", "/v1/mode", "Basic " + key, "", 401},
		{"GET", "/v1/mode", "Bearer " + key, "", 200},
		{"GET", "/v1/none", "", "", 401},
		{"GET", "/v1/none", "Bearer " + key, "", 404},
		{"DELETE", "/v1/mode", "Bearer " + key, "", 405},
		{"GET", "/debug/pprof/", "Bearer " + key, "", 404},
		{"PUT", "/v1/mode", "Bearer " + key, `{"mode":"enforce"}`, 200},
		{"PUT", "/v1/mode", "Bearer " + key, `{"mode":"angry"}`, 400},
		{"PUT", "/v1/mode", "Bearer " + key, `{"mode":"off","x":1}`, 400},
		{"PUT", "/v1/mode", "Bearer " + key, `{"mode":"` + strings.Repeat("x", 2<<20), 400},
	}
	for _, tt := range tests {
		if w := request(h, tt.method, tt.path, tt.auth, tt.body); w.Code != tt.want {
			t.Errorf("%s %s %q %.40s: %d, want %d", tt.method, tt.path, tt.auth, tt.body, w.Code, tt.want)
		}
	}
	if m.mode != defense.ModeEnforce {
		t.Errorf("mode is %v", m.mode)
	}
	notReady, m.err = errors.New("draining"), errors.New("disk full")
	if w := request(h, "GET", "/readyz", "", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "draining") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	if w := request(h, "PUT", "/v1/mode", "Bearer "+key, `{"mode":"off"}`); w.Code != 500 || !strings.Contains(w.Body.String(), "disk full") {
		t.Errorf("a mode that was not kept: %d %s", w.Code, w.Body)
	}
}

func TestPprofNeedsTheKeyToo(t *testing.T) {
	h := private.Handler(private.Options{Metrics: http.NotFoundHandler(), Debug: func(next http.Handler) http.Handler { return operators(t).Guard(next) }})
	if w := request(h, "GET", "/debug/pprof/", "", ""); w.Code != 401 {
		t.Errorf("without key: %d", w.Code)
	}
	if w := request(h, "GET", "/debug/pprof/", "Bearer "+key, ""); w.Code != 200 {
		t.Errorf("with key: %d", w.Code)
	}
}

func TestKeyIsMadeOnceForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	if _, err := private.ReadKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no key yet: %v", err)
	}
	a, err := private.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := private.LoadKey(dir); err != nil || a != b {
		t.Fatalf("second load: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(dir, private.KeyFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", fi.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, private.KeyFile), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := private.LoadKey(dir); err == nil {
		t.Fatal("a short key was accepted")
	}
}
