package cloud_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
)

const (
	providerKey = "sk-provider-0123456789abcdef"
	routerKey   = "router-key-0123456789abcdef"
)

// serve mounts the API as the service does.
func serve(t *testing.T, o cloud.Options) http.Handler {
	t.Helper()
	o.Log, o.Now = slog.New(slog.DiscardHandler), time.Now
	a, err := cloud.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	callers, err := auth.New(auth.Key{Caller: auth.PromptRouter, Key: routerKey})
	if err != nil {
		t.Fatal(err)
	}
	return callers.Handler(auth.Group{API: a, Callers: []string{auth.PromptRouter}})
}

func ask(h http.Handler, method, path, key string) *httptest.ResponseRecorder {
	q := httptest.NewRequest(method, path, strings.NewReader(`{"model":"m","messages":[]}`))
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+key)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w
}

func TestOnlyItsEndpointIsServedAndOnlyToCallers(t *testing.T) {
	t.Parallel()
	var got []string
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		got = append(got, q.Method+" "+q.RequestURI+" "+q.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}))
	defer p.Close()
	h := serve(t, cloud.Options{ProviderURL: p.URL + "/v1", ProviderKey: providerKey})
	tests := []struct {
		method, path, key string
		want              int
	}{
		{"POST", "/v1/chat/completions", "", 401},
		{"POST", "/v1/chat/completions", providerKey, 401},
		{"POST", "/v1/models", routerKey, 404},
		{"POST", "/v1/chat/completions/../../admin", routerKey, 404},
		{"POST", "/v1/chat/completions?key=x", routerKey, 200},
	}
	for _, tt := range tests {
		w := ask(h, tt.method, tt.path, tt.key)
		if w.Code != tt.want {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, w.Code, w.Body, tt.want)
		}
	}
	if want := "POST /v1/chat/completions Bearer " + providerKey; len(got) != 1 || got[0] != want {
		t.Errorf("the provider saw %q, want %q alone", got, want)
	}
}

func TestWithoutAKeyNothingIsAsked(t *testing.T) {
	t.Parallel()
	p := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the provider was asked") }))
	defer p.Close()
	w := ask(serve(t, cloud.Options{ProviderURL: p.URL}), "POST", "/v1/chat/completions", routerKey)
	if w.Code != 503 || w.Header().Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(w.Body.String(), "no provider key: set QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY or QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY_FILE") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestTheKeyGoesOverTLSOrStaysOnTheMachine(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, want string }{
		{"https://api.openai.com/v1", ""},
		{"https://10.0.0.7:8443/v1", ""},
		{"http://127.0.0.1:11434/v1", ""},
		{"http://127.9.9.9/v1", ""},
		{"http://[::1]:8000/v1", ""},
		{"http://localhost:8000/v1", ""},
		{"http://api.openai.com/v1", "use https"},
		{"http://10.0.0.7/v1", "use https"},
		{"http://127.0.0.1.example.com/v1", "use https"},
		{"http://localhost.example.com/v1", "use https"},
		{"http://127.0.0.1@api.example.com/v1", "use https"},
		{"HTTP://api.openai.com/v1", "use https"},
		{"", "base"},
		{"api.openai.com/v1", "base"},
		{"https://api.example.com/v1?key=" + providerKey, "base"},
		{"https://" + providerKey + "\x7f", "provider URL"},
	}
	for _, tt := range tests {
		_, err := cloud.New(cloud.Options{ProviderURL: tt.url, ProviderKey: providerKey, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.url, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: %v, want %q", tt.url, err, tt.want)
		case err != nil && strings.Contains(err.Error(), providerKey):
			t.Errorf("%q: the error shows a key: %v", tt.url, err)
		}
	}
}

func TestACertificateThatNobodyKnowsIsRefused(t *testing.T) {
	t.Parallel()
	p := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"protocol":"`+q.Proto+`"}`)
	}))
	p.EnableHTTP2 = true
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	p.StartTLS()
	defer p.Close()
	o := cloud.Options{ProviderURL: p.URL, ProviderKey: providerKey}
	if w := ask(serve(t, o), "POST", "/v1/chat/completions", routerKey); w.Code != 502 {
		t.Errorf("a stranger's certificate: %d %s", w.Code, w.Body)
	}
	o.HTTP = p.Client()
	if w := ask(serve(t, o), "POST", "/v1/chat/completions", routerKey); w.Code != 200 || !bytes.Contains(w.Body.Bytes(), []byte("HTTP/2.0")) {
		t.Errorf("a known certificate: %d %s", w.Code, w.Body)
	}
}
