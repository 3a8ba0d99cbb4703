package auth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	operatorKey = "operator-operator-operator"
	proxyKey    = "proxy-proxy-proxy-proxy"
	oldProxyKey = "old-proxy-old-proxy-old"
	sourceKey   = "source-source-source-source"
)

func callers(t *testing.T) *Callers {
	t.Helper()
	c, err := New(Key{Caller: Operator, Key: operatorKey}, Key{Caller: Proxy, Key: proxyKey, Previous: oldProxyKey}, Key{Caller: SourcePrefix + "nginx", Key: sourceKey})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// echo answers with who called.
type echo string

func (e echo) Register(mux *http.ServeMux) {
	for _, method := range []string{"GET", "POST"} {
		mux.HandleFunc(method+" "+string(e), func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, Caller(r.Context())) })
	}
}

func TestEachEndpointHasItsCallers(t *testing.T) {
	h := callers(t).Handler(
		Group{API: echo("/v1/decisions"), Read: []string{Proxy}},
		Group{API: echo("/v1/events"), Callers: []string{Proxy}},
		Group{API: echo("/v1/webhook/{name}"), Callers: []string{AnySource}},
	)
	tests := []struct {
		method, path, key string
		want              int
		caller            string
	}{
		{"GET", "/v1/decisions", "", 401, ""},
		{"GET", "/v1/decisions", "wrong-wrong-wrong-wrong", 401, ""},
		{"GET", "/v1/decisions", proxyKey, 200, Proxy},
		{"GET", "/v1/decisions", oldProxyKey, 200, Proxy},
		{"HEAD", "/v1/decisions", proxyKey, 200, ""},
		{"POST", "/v1/decisions", proxyKey, 403, ""},
		{"POST", "/v1/decisions", operatorKey, 200, Operator},
		{"GET", "/v1/decisions", sourceKey, 403, ""},
		{"POST", "/v1/events", proxyKey, 200, Proxy},
		{"POST", "/v1/events", sourceKey, 403, ""},
		{"POST", "/v1/webhook/nginx", sourceKey, 200, SourcePrefix + "nginx"},
		{"POST", "/v1/webhook/nginx", proxyKey, 403, ""},
		{"PUT", "/v1/events", proxyKey, 405, ""},
		{"GET", "/v1/nothing", proxyKey, 404, ""},
		{"GET", "/v1/nothing", "", 401, ""},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.key != "" {
			r.Header.Set("Authorization", "Bearer "+tt.key)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want || tt.caller != "" && w.Body.String() != tt.caller {
			t.Errorf("%s %s with %q: %d %s, want %d %s", tt.method, tt.path, tt.key, w.Code, w.Body, tt.want, tt.caller)
		}
	}
}

func TestWhatIsNotReadyIsToldToThoseWhoMayCall(t *testing.T) {
	problem := errors.New("standing by")
	h := callers(t).Handler(Group{API: echo("/v1/decisions"), Read: []string{Proxy}, Ready: func() error { return problem }})
	ask := func(key string) (int, string) {
		r := httptest.NewRequest("GET", "/v1/decisions", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if again := w.Header().Get("Connection") == "close"; again != (w.Code == 503) {
			t.Errorf("%d, and the connection is closed: %t", w.Code, again)
		}
		return w.Code, w.Body.String()
	}
	if code, body := ask(proxyKey); code != 503 || !strings.Contains(body, "standing by") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := ask(sourceKey); code != 403 || strings.Contains(body, "standing by") {
		t.Errorf("who may not call: %d %s", code, body)
	}
	problem = nil
	if code, body := ask(proxyKey); code != 200 || body != Proxy {
		t.Errorf("when it is ready: %d %s", code, body)
	}
}

func TestWithoutKeysOnlyCertificatesAreGood(t *testing.T) {
	c, err := New(Key{Caller: Proxy})
	if err != nil {
		t.Fatal(err)
	}
	h := c.Handler(Group{API: echo("/v1/events"), Callers: []string{Proxy}})
	r := httptest.NewRequest("POST", "/v1/events", nil)
	for _, sent := range []string{"", "Bearer ", "Bearer " + proxyKey} {
		r.Header.Set("Authorization", sent)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 401 {
			t.Errorf("with %q: %d", sent, w.Code)
		}
	}
	r.Header.Del("Authorization")
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{DNSNames: []string{Proxy}}}}}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("with a certificate: %d", w.Code)
	}
}

func TestVerifiedCertificateNamesTheCaller(t *testing.T) {
	h := callers(t).Handler(Group{API: echo("/v1/events"), Callers: []string{Proxy}})
	for _, tt := range []struct {
		name  string
		chain [][]*x509.Certificate
		want  int
	}{
		{"by its DNS name", [][]*x509.Certificate{{{DNSNames: []string{"proxy"}}}}, 200},
		{"by its common name", [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "proxy"}}}}, 200},
		{"another service's", [][]*x509.Certificate{{{DNSNames: []string{"tarpit"}}}}, 403},
		{"shown but not verified", nil, 401},
		{"the operator is known by key alone", [][]*x509.Certificate{{{DNSNames: []string{"operator"}}}}, 401},
	} {
		r := httptest.NewRequest("POST", "/v1/events", nil)
		r.TLS = &tls.ConnectionState{VerifiedChains: tt.chain}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.want)
		}
	}
}

func TestKeysMustTellCallersApart(t *testing.T) {
	for want, keys := range map[string][]Key{
		"at least 16":  {{Caller: Proxy, Key: "short"}},
		"the same key": {{Caller: Proxy, Key: proxyKey}, {Caller: AIService, Key: proxyKey}},
		"previous key": {{Caller: Proxy, Previous: oldProxyKey}},
	} {
		if _, err := New(keys...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", keys, err, want)
		} else if strings.Contains(err.Error(), proxyKey) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if _, err := New(Key{Caller: Proxy, Key: proxyKey, Previous: proxyKey}); err != nil {
		t.Errorf("a previous key that is the key: %v", err)
	}
}

func TestAKeyIsKnownByItsHash(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(proxyKey))
	c, err := New(Key{Caller: ModelKeyPrefix + "blog", Hash: hex.EncodeToString(sum[:])}, Key{Caller: Operator, Key: operatorKey})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	for key, want := range map[string]string{proxyKey: "key:blog", operatorKey: Operator, proxyKey + "x": "", hex.EncodeToString(sum[:]): ""} {
		r.Header.Set("Authorization", "Bearer "+key)
		if got := c.identify(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for name, keys := range map[string][]Key{
		"is no SHA-256": {{Caller: "key:a", Hash: "abc"}},
		"the same key":  {{Caller: "key:a", Hash: hex.EncodeToString(sum[:])}, {Caller: "key:b", Hash: hex.EncodeToString(sum[:])}},
		"have the same": {{Caller: "key:a", Hash: hex.EncodeToString(sum[:])}, {Caller: Proxy, Key: proxyKey}},
	} {
		if _, err := New(keys...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !allowed("key:blog", []string{AnyModelKey}) || allowed("key:blog", []string{AnySource, PromptRouter}) {
		t.Error("who may do what")
	}
}
