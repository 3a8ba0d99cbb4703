//go:build services

package services

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/testserver"
)

func TestEachEndpointRefusesWhoMayNotCallItAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := newStack(t, embedded, newSite(t).URL).start()
	event, decision := ndjson(makeEvents(1)), []byte(`{"value":"203.0.113.5","action":"deny","origin":"operator"}`)
	for _, tt := range []struct {
		name              string
		method, url, path string
		key               string
		body              []byte
		want              int
		says              string
	}{
		{"events without a key", "POST", s.intake.url, "/v1/events", "", event, 401, "Authorization"},
		{"events with a key of nobody", "POST", s.intake.url, "/v1/events", "key-of-nobody-0123456789abcdef", event, 401, "Authorization"},
		{"events with the key of ai-service", "POST", s.intake.url, "/v1/events", judgeKey, event, 403, "ai-service"},
		{"events with the key of a proxy", "POST", s.intake.url, "/v1/events", proxyKey, event, 202, ""},
		{"a decision with the key of a proxy", "POST", s.intake.url, "/v1/decisions", proxyKey, decision, 403, "proxy"},
		{"the mode with the key of a proxy", "PUT", s.intake.url, "/v1/mode", proxyKey, []byte(`{"mode":"off"}`), 403, "proxy"},
		{"the archive with the key of a proxy", "GET", s.intake.url, "/v1/events", proxyKey, nil, 403, "proxy"},
		{"the cases with the key of a proxy", "GET", s.intake.url, "/v1/cases", proxyKey, nil, 403, "proxy"},
		{"decisions with the key of a proxy", "GET", s.intake.url, "/v1/decisions?since=0", proxyKey, nil, 200, ""},
		{"a judgement without a key", "POST", s.engine.url, "/v1/judge", "", []byte(`{}`), 401, "Authorization"},
		{"a judgement with the key of a proxy", "POST", s.engine.url, "/v1/judge", proxyKey, []byte(`{}`), 401, "Authorization"},
		{"a judgement of nothing", "POST", s.engine.url, "/v1/judge", judgeKey, []byte(`{}`), 400, "case"},
		{"what there is not", "GET", s.intake.url, "/v1/nothing", operatorKey, nil, 404, "nothing"},
		{"what there is not, without a key", "GET", s.intake.url, "/v1/nothing", "", nil, 401, "Authorization"},
	} {
		contentType := "application/json"
		if tt.path == "/v1/events" {
			contentType = "application/x-ndjson"
		}
		status, body, err := call(tt.method, tt.url+tt.path, tt.key, contentType, tt.body)
		if err != nil || status != tt.want {
			t.Errorf("%s: %d %s, %v; want %d", tt.name, status, body, err, tt.want)
			continue
		}
		if status < 400 {
			continue
		}
		if detail, err := problem(body); err != nil || !strings.Contains(detail, tt.says) {
			t.Errorf("%s: %q, %v; want it to say %q", tt.name, detail, err, tt.says)
		}
	}
}

func TestServicesWithoutTheirKeyRefuseToStartAndNameIt(t *testing.T) {
	t.Parallel()
	site := newSite(t).URL
	for _, tt := range []struct {
		name string
		args []string
		env  []string
		says []string
	}{
		{"proxy", []string{"proxy", "--upstream", site, "--set", "edge.listen=" + testserver.FreeAddress(t)}, nil, []string{"QUICKTHORN_AUTH_PROXY_KEY"}},
		{"ai-service", []string{"ai-service", "--set", "aiService.listen=" + testserver.FreeAddress(t)}, []string{"QUICKTHORN_AUTH_PROXY_KEY=" + proxyKey}, []string{"QUICKTHORN_AUTH_AI_SERVICE_KEY"}},
		{"escalation-engine", []string{"escalation-engine", "--set", "escalationEngine.listen=" + testserver.FreeAddress(t)}, nil, []string{"QUICKTHORN_AUTH_AI_SERVICE_KEY"}},
		{
			"an engine whose only key is the operator's", []string{"escalation-engine", "--set", "escalationEngine.listen=" + testserver.FreeAddress(t)},
			[]string{"QUICKTHORN_PRIVATE_KEY=" + operatorKey}, []string{"QUICKTHORN_AUTH_AI_SERVICE_KEY"},
		},
		{
			"a short key", []string{"proxy", "--upstream", site, "--set", "edge.listen=" + testserver.FreeAddress(t)},
			[]string{"QUICKTHORN_AUTH_PROXY_KEY=short"}, []string{"QUICKTHORN_AUTH_PROXY_KEY", "16"},
		},
		{
			"two callers with one key", []string{"ai-service", "--set", "aiService.listen=" + testserver.FreeAddress(t)},
			[]string{"QUICKTHORN_AUTH_PROXY_KEY=" + proxyKey, "QUICKTHORN_AUTH_AI_SERVICE_KEY=" + proxyKey}, []string{"same key"},
		},
	} {
		p := newProcess(t, strings.ReplaceAll(tt.name, " ", "-"), tt.args...).listen()
		p.env = append(p.env, tt.env...)
		if said := p.refuses(); !holds(said, tt.says...) || strings.Contains(said, proxyKey) {
			t.Errorf("%s says:\n%s\nwant it to name %q, and no key", tt.name, said, tt.says)
		}
	}
}

func TestWrongKeysBetweenServicesAreNamedWhileTheEdgeServes(t *testing.T) {
	t.Parallel()
	s := newStack(t, embedded, newSite(t).URL)
	s.engine.env = append(s.engine.env, "QUICKTHORN_AUTH_AI_SERVICE_KEY=another-key-of-the-ai-service-0123")
	wrong := s.addEdge()
	wrong.env = append(wrong.env, "QUICKTHORN_AUTH_PROXY_KEY=another-key-of-the-proxies-0123")
	s.engine.start().await()
	s.intake.start()
	s.intake.awaitReadiness(http.StatusServiceUnavailable, "escalation engine", "401")
	wrong.start().await()
	if status := s.mustRead(wrong, "203.0.113.9"); status != http.StatusOK {
		t.Errorf("an edge with a wrong key answers readers with %d", status)
	}
	eventually(t, func() error {
		if said := wrong.said(4 << 10); !holds(said, "401", "Authorization") {
			return fmt.Errorf("an edge with a wrong key says:\n%s", said)
		}
		return nil
	})
	if v := wrong.metric("quickthorn_decisions_connected"); v != "0" {
		t.Errorf("decisions_connected is %s", v)
	}

	// The key is changed where it is checked, and the old one is good for as long as it is named: no edge is left out.
	s.intake.terminate()
	s.intake.env = append(s.intake.env, "QUICKTHORN_AUTH_PROXY_KEY=another-key-of-the-proxies-0123", "QUICKTHORN_AUTH_PROXY_KEY_PREVIOUS="+proxyKey,
		"QUICKTHORN_AUTH_AI_SERVICE_KEY=another-key-of-the-ai-service-0123")
	old := s.addEdge()
	s.start()
	s.deny("203.0.113.9")
	s.awaitStatus(wrong, "203.0.113.9", http.StatusForbidden)
	s.awaitStatus(old, "203.0.113.9", http.StatusForbidden)
	eventually(t, func() error {
		n, err := s.requests()
		if err == nil && n < 3 {
			err = fmt.Errorf("%d requests have been reported", n)
		}
		return err
	})
	wrong.terminate() // what it had counted while it could not report is written now
	old.terminate()
}

// authority signs certificates for services.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	a.key, der = a.sign(template, template, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = cert
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

// sign makes a key and a certificate for it; signer nil: by itself.
func (a *authority) sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// issue makes a certificate for a caller of that name, which is good for a server on this machine too, and returns its files.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	k, der := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", pkcs)
}

// secure gives a process a certificate.
func (a *authority) secure(p *process, name string) {
	a.t.Helper()
	cert, key := a.issue(name)
	p.set("internal.certificateFile="+cert, "internal.keyFile="+key, "internal.caFile="+a.file)
}

func TestCertificatesDoInsteadOfKeys(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	site := newSite(t).URL
	engineAt, intakeAt, edgeAt := testserver.FreeAddress(t), testserver.FreeAddress(t), testserver.FreeAddress(t)
	engine := newProcess(t, "escalation-engine", "escalation-engine").listen().set("escalationEngine.listen=" + engineAt)
	a.secure(engine, "escalation-engine")
	intake := newProcess(t, "ai-service", "ai-service").listen().set("aiService.listen="+intakeAt, "escalationEngine.url=https://"+engineAt)
	intake.env = append(intake.env, "QUICKTHORN_PRIVATE_KEY="+operatorKey)
	a.secure(intake, "ai-service")
	edge := newProcess(t, "proxy", "proxy", "--upstream", site).listen().set("edge.listen="+edgeAt, "edge.trustedProxies=127.0.0.1/32", "aiService.url=https://"+intakeAt)
	a.secure(edge, "proxy")
	edge.url = "http://" + edgeAt
	for _, p := range []*process{engine, intake, edge} {
		p.start()
	}
	for _, p := range []*process{engine, intake, edge} {
		p.await()
	}

	// The command line knows the authority by the same setting.
	out := must(t, []string{"QUICKTHORN_PRIVATE_KEY=" + operatorKey, "QUICKTHORN_INTERNAL_CA_FILE=" + a.file},
		"decisions", "add", "--action", "deny", "203.0.113.30", "--server", "https://"+intakeAt)
	if !strings.Contains(out, "203.0.113.30") {
		t.Errorf("decisions add says %q", out)
	}
	s := &stack{t: t}
	s.awaitStatus(edge, "203.0.113.30", http.StatusForbidden)

	// speak asks as a service with a certificate of that authority.
	speak := func(by *authority, name, method, url string, body []byte) (int, error) {
		t.Helper()
		config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		config.RootCAs.AddCert(a.cert)
		if by != nil {
			certFile, keyFile := by.issue(name)
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			// Shown whatever authorities the server names.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		hc := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		r, err := http.NewRequest(method, url, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		res, err := hc.Do(r)
		if err != nil {
			return 0, err
		}
		res.Body.Close()
		return res.StatusCode, nil
	}
	event := ndjson(makeEvents(1))
	for _, tt := range []struct {
		name   string
		by     *authority
		caller string
		method string
		url    string
		want   int // 0: the handshake fails
	}{
		{"a proxy's certificate", a, "proxy", "POST", "https://" + intakeAt + "/v1/events", 202},
		{"a proxy's certificate, for a decision", a, "proxy", "POST", "https://" + intakeAt + "/v1/decisions", 403},
		{"a certificate in the operator's name, who is known by key alone", a, "operator", "GET", "https://" + intakeAt + "/v1/decisions", 401},
		{"another service's certificate", a, "tarpit", "POST", "https://" + intakeAt + "/v1/events", 403},
		{"no certificate", nil, "", "POST", "https://" + intakeAt + "/v1/events", 401},
		{"no certificate, to the engine", nil, "", "GET", "https://" + engineAt + "/v1/judge", 401},
		{"a proxy's certificate, to the engine", a, "proxy", "GET", "https://" + engineAt + "/v1/judge", 403},
		{"a certificate of another authority", newAuthority(t), "proxy", "POST", "https://" + intakeAt + "/v1/events", 0},
	} {
		status, err := speak(tt.by, tt.caller, tt.method, tt.url, event)
		if status != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: %d, %v; want %d", tt.name, status, err, tt.want)
		}
	}
	// What the edge has refused is reported like that, too.
	eventually(t, func() error {
		if v := intake.metric("quickthorn_intake_accepted_total"); v == "0" || v == "1" { // one is of this test
			return fmt.Errorf("%s events were accepted", v)
		}
		return nil
	})
}

func TestEachServiceAloneShowsItsHealthWhatItLacksItsMetricsAndItsAPI(t *testing.T) {
	t.Parallel()
	s := newStack(t, embedded, newSite(t).URL)
	s.addEdge()
	for _, tt := range []struct {
		p       *process
		openAPI string // where its document is
		ready   int
		lacks   string
		paths   []string
		metrics []string
	}{
		{s.intake, s.intake.url, 503, "escalation engine", []string{"/v1/events", "/v1/decisions", "/v1/cases", "/v1/webhook/{source}"}, []string{"quickthorn_intake_accepted_total", "quickthorn_leading", "quickthorn_build_info"}},
		{s.engine, s.engine.url, 200, "", []string{"/v1/judge"}, []string{"quickthorn_build_info"}},
		{s.edges[0], s.edges[0].private, 200, "", []string{"/v1/explain"}, []string{"quickthorn_decisions_connected", "quickthorn_events_dropped_total"}},
	} {
		tt.p.start()
		tt.p.awaitReadiness(tt.ready, tt.lacks)
		if status, body, err := call(http.MethodGet, tt.p.private+"/healthz", "", "", nil); err != nil || status != 200 {
			t.Errorf("%s: healthz: %d %s, %v", tt.p.name, status, body, err)
		}
		status, body, err := call(http.MethodGet, tt.p.private+"/metrics", "", "", nil)
		if err != nil || status != 200 || !holds(string(body), tt.metrics...) {
			t.Errorf("%s: metrics: %d, %v; want %q", tt.p.name, status, err, tt.metrics)
		}
		for line := range strings.Lines(string(body)) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "quickthorn_") && !strings.HasPrefix(line, "go_") && !strings.HasPrefix(line, "process_") && !strings.HasPrefix(line, "promhttp_") {
				t.Errorf("%s: a metric of another name: %s", tt.p.name, line)
			}
		}
		var document struct {
			OpenAPI string
			Info    struct{ Title string }
			Paths   map[string]any
		}
		if status, body, err = call(http.MethodGet, tt.openAPI+"/openapi.json", "", "", nil); err != nil || status != 200 {
			t.Errorf("%s: openapi.json: %d %s, %v", tt.p.name, status, body, err)
			continue
		}
		if err := json.Unmarshal(body, &document); err != nil || !strings.HasPrefix(document.OpenAPI, "3.") || document.Info.Title == "" {
			t.Errorf("%s: openapi.json: %v: %.200s", tt.p.name, err, body)
		}
		for _, path := range tt.paths {
			if document.Paths[path] == nil {
				t.Errorf("%s: openapi.json does not tell of %s", tt.p.name, path)
			}
		}
		if status := tt.p.terminate(); status != 0 {
			t.Errorf("%s, alone, ended with status %d", tt.p.name, status)
		}
	}
}

// Without ai-service an edge counts and serves, and says at its end what it could not report.
func TestEdgeThatCannotReportEndsInTimeAndSaysWhatWasLost(t *testing.T) {
	t.Parallel()
	s := newStack(t, embedded, newSite(t).URL)
	edge := s.addEdge()
	edge.start().await()
	for range 20 {
		if status := s.mustRead(edge, "198.51.97.1"); status != http.StatusOK {
			t.Fatalf("%d", status)
		}
	}
	began := time.Now()
	if status := edge.terminate(); status != 1 {
		t.Errorf("an edge that lost events ended with status %d", status)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if said := edge.said(4 << 10); !strings.Contains(said, "20 not written") {
		t.Errorf("it says:\n%s", said)
	}
}
