package router_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
	"github.com/quickthorn/quickthorn/internal/llm/router"
)

const (
	providerKey = "sk-provider-0123456789abcdef"
	routerKey   = "router-key-0123456789abcdef"
	engineKey   = "engine-key-0123456789abcdef"
	question    = `{"model":"m","messages":[]}`
)

// guard mounts an API for one caller.
func guard(t *testing.T, api interface{ Register(*http.ServeMux) }, caller, key string) http.Handler {
	t.Helper()
	callers, err := auth.New(auth.Key{Caller: caller, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return callers.Handler(auth.Group{API: api, Callers: []string{caller}})
}

// newRouter returns a router, mounted as the service does, and its log.
func newRouter(t *testing.T, o router.Options) (http.Handler, *router.API, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	o.Log, o.Now = slog.New(slog.NewTextHandler(log, nil)), time.Now
	a, err := router.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return guard(t, a, auth.EscalationEngine, engineKey), a, log
}

// newCloud starts a cloud-proxy in front of a provider.
func newCloud(t *testing.T, key string, provider http.HandlerFunc) *httptest.Server {
	t.Helper()
	p := httptest.NewServer(provider)
	t.Cleanup(p.Close)
	a, err := cloud.New(cloud.Options{ProviderURL: p.URL + "/v1", ProviderKey: key, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(guard(t, a, auth.PromptRouter, routerKey))
	t.Cleanup(func() {
		s.Close()
		a.Close()
	})
	return s
}

func ask(h http.Handler, key string) *httptest.ResponseRecorder {
	q := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(question))
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+key)
	q.Header.Set("X-Request-Id", "abc-1")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w
}

// model answers who it is and what it was sent.
func model(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		const form = `{"by":"%s","at":"%s","authorization":"%s","id":"%s"}`
		fmt.Fprintf(w, form, name, q.RequestURI, q.Header.Get("Authorization"), q.Header.Get("X-Request-Id"))
	}
}

func TestALocalModelIsPreferred(t *testing.T) {
	t.Parallel()
	local := httptest.NewServer(model("local"))
	t.Cleanup(local.Close)
	c := newCloud(t, providerKey, model("provider"))
	masked := strings.Repeat("*", len(providerKey))
	tests := []struct {
		name   string
		o      router.Options
		want   string
		target string
	}{
		{
			"both", router.Options{LocalURL: local.URL + "/v1", CloudURL: c.URL, CloudKey: routerKey},
			`{"by":"local","at":"/v1/chat/completions","authorization":"","id":"abc-1"}`, "local",
		},
		{
			"cloud only", router.Options{CloudURL: c.URL + "/", CloudKey: routerKey},
			`{"by":"provider","at":"/v1/chat/completions","authorization":"Bearer ` + masked + `","id":"abc-1"}`, "cloud",
		},
	}
	for _, tt := range tests {
		h, a, log := newRouter(t, tt.o)
		if w := ask(h, engineKey); w.Code != 200 || w.Body.String() != tt.want {
			t.Errorf("%s: %d %s, want %s", tt.name, w.Code, w.Body, tt.want)
		}
		if w := ask(h, routerKey); w.Code != 401 {
			t.Errorf("%s: a stranger: %d", tt.name, w.Code)
		}
		if !strings.Contains(log.String(), "target="+tt.target) {
			t.Errorf("%s: the log does not say where calls go: %s", tt.name, log)
		}
		r := prometheus.NewRegistry()
		r.MustRegister(a)
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counted := false
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if !strings.Contains(m.String(), `name:"target"`) || !strings.Contains(m.String(), `value:"`+tt.target+`"`) {
					t.Errorf("%s: %s is not about %s: %s", tt.name, f.GetName(), tt.target, m)
				}
				counted = counted || f.GetName() == "quickthorn_llm_requests_total" && m.GetCounter().GetValue() == 1
			}
		}
		if !counted {
			t.Errorf("%s: the call was not counted", tt.name)
		}
	}
}

func TestAStreamPassesThroughBoth(t *testing.T) {
	t.Parallel()
	next := make(chan struct{}, 1)
	c := newCloud(t, providerKey, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []string{"data: {\"a\":1}\n\n", "data: [DONE]\n\n"} {
			select {
			case <-next:
			case <-q.Context().Done():
				return
			}
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	h, _, _ := newRouter(t, router.Options{CloudURL: c.URL, CloudKey: routerKey})
	s := httptest.NewServer(h)
	defer s.Close()
	q, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v1/chat/completions", strings.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	q.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + engineKey}}
	next <- struct{}{}
	resp, err := s.Client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len("data: {\"a\":1}\n\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "data: {\"a\":1}\n\n" {
		t.Fatalf("%q %v", first, err)
	}
	next <- struct{}{}
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "data: [DONE]\n\n" {
		t.Errorf("%q %v", rest, err)
	}
}

func TestWhatIsWrongWithTheTargetIsSaid(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(nil)
	away.Close()
	stranger := newCloud(t, providerKey, func(http.ResponseWriter, *http.Request) { t.Error("the provider was asked") })
	keyless := newCloud(t, "", func(http.ResponseWriter, *http.Request) { t.Error("the provider was asked") })
	tests := []struct {
		name   string
		o      router.Options
		status int
		want   string
	}{
		{"the local model is away", router.Options{LocalURL: away.URL + "/v1", CloudURL: stranger.URL, CloudKey: routerKey}, 502, "the local model cannot be reached"},
		{"cloud-proxy is away", router.Options{CloudURL: away.URL, CloudKey: routerKey}, 502, "cloud-proxy cannot be reached"},
		{"another key", router.Options{CloudURL: stranger.URL, CloudKey: engineKey}, 502, "cloud-proxy refuses this service's key"},
		{"no key", router.Options{CloudURL: stranger.URL}, 502, "cloud-proxy refuses this service's key"},
		{"no provider key", router.Options{CloudURL: keyless.URL, CloudKey: routerKey}, 503, cloud.NoKey},
	}
	for _, tt := range tests {
		h, _, log := newRouter(t, tt.o)
		w := ask(h, engineKey)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d with %q", tt.name, w.Code, w.Body, tt.status, tt.want)
		}
		for _, key := range []string{providerKey, routerKey, engineKey} {
			if strings.Contains(w.Body.String()+log.String(), key) {
				t.Errorf("%s: a key is shown: %s %s", tt.name, w.Body, log)
			}
		}
	}
}

func TestWrongOptionsAreNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    router.Options
		want string
	}{
		{"nowhere to go", router.Options{}, "set QUICKTHORN_PROMPT_ROUTER_LOCAL_URL"},
		{"a key without an address", router.Options{CloudKey: routerKey}, "set QUICKTHORN_PROMPT_ROUTER_LOCAL_URL"},
		{"a local URL without a scheme", router.Options{LocalURL: "ollama:11434"}, "the local model: base"},
		{"a cloud URL with a query", router.Options{CloudURL: "http://cloud-proxy:8008?x=1"}, "cloud-proxy: base"},
		{"a broken key", router.Options{CloudURL: "http://cloud-proxy:8008", CloudKey: "a\nb"}, "cloud-proxy: key"},
		{"a negative time-out", router.Options{LocalURL: "http://ollama:11434/v1", Timeout: -1}, "timeout"},
	}
	for _, tt := range tests {
		tt.o.Log, tt.o.Now = slog.New(slog.DiscardHandler), time.Now
		if _, err := router.New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
