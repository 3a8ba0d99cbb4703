package captcha

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	testKey    = "10000000-ffff-ffff-ffff-000000000001"
	testSecret = "0x-very-secret"
	good       = "P1_eyJ0eXAiOiJKV1Q.good"
	spent      = "P1_eyJ0eXAiOiJKV1Q.spent"
)

// fake is a provider as its documents describe it: what it is sent, and what it answers.
type fake struct {
	fields func(t *testing.T, r *http.Request) map[string]string // of the request
	secret string                                                // field; "" if header says where it is
	header func(r *http.Request) string
	key    string // field of the site key; "" if it takes none
	field  string // of the response

	yes, no, wrongSecret string // answers
	noStatus, keyStatus  int    // 0: 200
	elsewhere            string // yes, for another site; "" if it does not tell
}

func form(t *testing.T, r *http.Request) map[string]string {
	if got := r.Header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
		t.Errorf("content type %q", got)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	values, err := url.ParseQuery(string(b))
	if err != nil {
		t.Error(err)
	}
	fields := map[string]string{}
	for name, v := range values {
		fields[name] = strings.Join(v, "|")
	}
	return fields
}

func object(t *testing.T, r *http.Request) map[string]string {
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	fields := map[string]string{}
	if err := json.NewDecoder(r.Body).Decode(&fields); err != nil {
		t.Error(err)
	}
	return fields
}

func fakes() map[string]fake {
	shaped := fake{
		fields: form, secret: "secret", field: "response",
		yes:         `{"success":true,"challenge_ts":"2026-11-26T08:00:00Z","hostname":"site.example"}`,
		elsewhere:   `{"success":true,"challenge_ts":"2026-11-26T08:00:00Z","hostname":"other.example"}`,
		no:          `{"success":false,"error-codes":["timeout-or-duplicate"]}`,
		wrongSecret: `{"success":false,"error-codes":["invalid-input-secret"]}`,
	}
	hcaptcha := shaped
	hcaptcha.key = "sitekey"
	hcaptcha.no = `{"success":false,"error-codes":["invalid-or-already-seen-response"]}`
	turnstile := shaped
	turnstile.no, turnstile.noStatus, turnstile.keyStatus = `{"success":false,"error-codes":["invalid-input-response"],"messages":[]}`, 400, 400
	custom := shaped
	custom.header, custom.secret, custom.field = func(r *http.Request) string { return r.Header.Get("X-Secret") }, "", "token"
	custom.yes, custom.elsewhere, custom.no = `{"result":{"ok":true,"site":"site.example"}}`, `{"result":{"ok":true,"site":"other.example"}}`, `{"result":{"ok":false}}`
	return map[string]fake{
		"hcaptcha": hcaptcha, "turnstile": turnstile, "recaptcha": shaped, "custom": custom,
		"friendly-captcha": {
			fields: object, header: func(r *http.Request) string { return r.Header.Get("X-API-Key") }, key: "sitekey", field: "response",
			yes:         `{"success":true,"data":{"challenge":{"timestamp":"2026-11-26T08:00:00Z","origin":"https://site.example"}}}`,
			elsewhere:   `{"success":true,"data":{"challenge":{"timestamp":"2026-11-26T08:00:00Z","origin":"https://other.example:8443"}}}`,
			no:          `{"success":false,"error":{"error_code":"response_duplicate","detail":"…"}}`,
			wrongSecret: `{"success":false,"error":{"error_code":"auth_invalid","detail":"…"}}`, keyStatus: 401,
		},
		"mcaptcha": {
			fields: object, secret: "secret", key: "key", field: "token",
			yes: `{"valid":true}`, no: `{"valid":false}`, wrongSecret: `{"error":"Wrong password"}`, keyStatus: 401,
		},
		"cap": {
			fields: object, secret: "secret", field: "response",
			yes: `{"success":true}`, no: `{"error":"Token not found"}`, noStatus: 404,
			wrongSecret: `{"success":false,"error":"Invalid site key or secret"}`, keyStatus: 403,
		},
		"altcha": {
			fields: object, secret: "secret", field: "payload",
			yes: `{"verified":true}`, no: `{"verified":false}`, wrongSecret: `{"error":"Unauthorized"}`, keyStatus: 401,
		},
	}
}

// serve starts the fake and returns an address for its verification.
func (f fake) serve(t *testing.T, asked *atomic.Int64, fields chan<- map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodPost || r.URL.Path != "/verify" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		got := f.fields(t, r)
		secret := got[f.secret]
		if f.header != nil {
			secret = f.header(r)
		}
		if f.key != "" && got[f.key] != testKey {
			t.Errorf("site key %q in %v", got[f.key], got)
		}
		w.Header().Set("Content-Type", "application/json")
		status, body := 0, f.no
		switch {
		case secret != testSecret:
			status, body = f.keyStatus, f.wrongSecret
		case got[f.field] == good:
			body = f.yes
		case got[f.field] == "elsewhere":
			body = f.elsewhere
		default:
			status = f.noStatus
		}
		if fields != nil {
			fields <- got
		}
		if status != 0 {
			w.WriteHeader(status)
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/verify"
}

func config(provider, verify string) Config {
	c := Config{Provider: provider, SiteKey: testKey, Secret: testSecret, VerifyURL: verify, ScriptURL: "/assets/captcha.js", Timeout: 10 * time.Second}
	if provider == "custom" {
		c.Custom = Custom{
			SecretHeader: "X-Secret", ResponseField: "token", Success: "result.ok", Hostname: "result.site", Field: "answer", Class: "riddle",
			AddressField: "ip",
		}
	}
	return c
}

func adapter(t testing.TB, c Config) *Adapter {
	t.Helper()
	a, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func each(t *testing.T, f func(t *testing.T, provider string, f fake)) {
	all := fakes()
	for _, p := range Providers() {
		fk, ok := all[p]
		if !ok {
			t.Errorf("%s has no fake", p)
			continue
		}
		t.Run(p, func(t *testing.T) { f(t, p, fk) })
	}
}

func TestASolvedWidgetIsTold(t *testing.T) {
	each(t, func(t *testing.T, provider string, f fake) {
		var asked atomic.Int64
		a := adapter(t, config(provider, f.serve(t, &asked, nil)))
		for _, tt := range []struct {
			response, hostname string
			want               bool
		}{
			{good, "", true},
			{good, "site.example", true},
			{good, "SITE.example.:443", true},
			{good, "other.example", f.elsewhere == ""},
			{spent, "", false},
			{spent, "site.example", false},
			{"elsewhere", "other.example", f.elsewhere != ""},
			{"elsewhere", "site.example", false},
		} {
			ok, err := a.Verify(t.Context(), tt.response, "", tt.hostname)
			if tt.response == "elsewhere" && f.elsewhere == "" {
				continue // such a provider has no such answer
			}
			if ok != tt.want || err != nil {
				t.Errorf("%q for %q: %v, %v", tt.response, tt.hostname, ok, err)
			}
		}
		if asked.Load() != 8 || !a.Available() {
			t.Errorf("asked %d times, available %v", asked.Load(), a.Available())
		}
	})
}

func TestAWrongSecretIsOurFaultNotTheReaders(t *testing.T) {
	each(t, func(t *testing.T, provider string, f fake) {
		var asked atomic.Int64
		c := config(provider, f.serve(t, &asked, nil))
		c.Secret = "a-wrong-one"
		ok, err := adapter(t, c).Verify(t.Context(), good, "", "")
		if ok || !errors.Is(err, ErrSettings) || asked.Load() != 1 {
			t.Errorf("%v, %v after %d questions", ok, err, asked.Load())
		}
		if err != nil && strings.Contains(err.Error(), "a-wrong-one") {
			t.Errorf("%v tells the secret", err)
		}
	})
}

func TestWhatNoWidgetMadeIsNotAsked(t *testing.T) {
	var asked atomic.Int64
	f := fakes()["hcaptcha"]
	a := adapter(t, config("hcaptcha", f.serve(t, &asked, nil)))
	for _, response := range []string{"", " ", "a b", "a\nb", "a\x00", "é", "\x7f", strings.Repeat("x", MaxResponse+1)} {
		if ok, err := a.Verify(t.Context(), response, "", ""); ok || err != nil {
			t.Errorf("%.20q: %v, %v", response, ok, err)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("asked %d times", asked.Load())
	}
	if ok, err := a.Verify(t.Context(), strings.Repeat("x", MaxResponse), "", ""); ok || err != nil || asked.Load() != 1 {
		t.Errorf("the longest: %v, %v, asked %d times", ok, err, asked.Load())
	}
}

func TestTheAddressIsSentOnlyWhenItIsWished(t *testing.T) {
	each(t, func(t *testing.T, provider string, f fake) {
		var asked atomic.Int64
		fields := make(chan map[string]string, 1)
		c := config(provider, f.serve(t, &asked, fields))
		has := func(got map[string]string, address string) bool {
			for _, v := range got {
				if strings.Contains(v, address) {
					return true
				}
			}
			return false
		}
		a := adapter(t, c)
		if _, err := a.Verify(t.Context(), good, "192.0.2.7", ""); err != nil {
			t.Fatal(err)
		}
		if got := <-fields; has(got, "192.0.2.7") {
			t.Errorf("sent unasked: %v", got)
		}
		c.SendAddress = true
		a, err := New(c, nil)
		if a == nil {
			if !strings.Contains(err.Error(), "takes no addresses") || provider == "hcaptcha" {
				t.Error(err)
			}
			return
		}
		for given, want := range map[string]string{"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1", "2001:db8::1": "2001:db8::1"} {
			if _, err := a.Verify(t.Context(), good, given, ""); err != nil {
				t.Fatal(err)
			}
			if got := <-fields; got[a.protocol.address] != want {
				t.Errorf("%s: sent %v", given, got)
			}
		}
		if _, err := a.Verify(t.Context(), good, "no address", ""); err != nil {
			t.Fatal(err)
		}
		if got := <-fields; has(got, "no address") {
			t.Errorf("sent %v", got)
		}
	})
}

// answering returns an adapter for every provider whose requests all end in that handler.
func answering(t *testing.T, h http.HandlerFunc, f func(t *testing.T, a *Adapter)) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	for _, p := range Providers() {
		t.Run(p, func(t *testing.T) { f(t, adapter(t, config(p, s.URL+"/verify?key=address-secret"))) })
	}
}

func TestAProviderThatFailsIsNoVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		says string
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			fmt.Fprint(w, `{"success":true,"valid":true,"verified":true,"result":{"ok":true}}`)
		}, "answers 500"},
		"503":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "answers 503"},
		"204":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "answers 204"},
		"not found": {http.NotFound, "answers 404"},
		"limited": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(429)
			fmt.Fprint(w, `{"error":"slow down"}`)
		}, "answers 429"},
		"nothing": {func(http.ResponseWriter, *http.Request) {}, "no JSON object"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<!doctype html><title>Checking your browser")
		}, "no JSON object"},
		"null":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") }, "no JSON object"},
		"an array": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[true]") }, "no JSON object"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"success":true,"valid":true,"verified":true`)
		}, "no JSON object"},
		"more than one":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"success":true}{"success":true}`) }, "no JSON object"},
		"an empty object": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) }, "true or false"},
		"words": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"success":"true","valid":1,"verified":null,"result":{"ok":"yes"}}`)
		}, "true or false"},
		"other case": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"Success":true,"Valid":true,"Verified":true,"Result":{"OK":true}}`)
		}, "true or false"},
		"a huge answer": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"success":true,"valid":true,"verified":true,"result":{"ok":true},"x":"%s"}`, strings.Repeat("x", maxAnswer))
		}, "more than 65536 bytes"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"success":true}`)
		}, "unexpected EOF"},
		"closed": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			answering(t, tt.h, func(t *testing.T, a *Adapter) {
				ok, err := a.Verify(t.Context(), good, "", "")
				if ok || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, %v, want %q", ok, err, tt.says)
				}
				if err != nil && (strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), good) || strings.Contains(err.Error(), "address-secret")) {
					t.Errorf("%v tells what it should not", err)
				}
			})
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		fmt.Fprint(w, `{"success":true,"valid":true,"verified":true,"result":{"ok":true}}`)
	}))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		answering(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) }, func(t *testing.T, a *Adapter) {
			if ok, err := a.Verify(t.Context(), good, "", ""); ok || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "redirects are not followed") {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
	if elsewhere.Load() != 0 {
		t.Errorf("%d requests went elsewhere", elsewhere.Load())
	}
}

func TestAClientsOwnRedirectPolicyAndCookiesAreNotUsed(t *testing.T) {
	var elsewhere atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			elsewhere.Add(1)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(s.Close)
	a, err := New(config("hcaptcha", s.URL), s.Client())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := a.Verify(t.Context(), good, "", ""); ok || !errors.Is(err, ErrUnavailable) || elsewhere.Load() != 0 {
		t.Errorf("%v, %v, %d requests elsewhere", ok, err, elsewhere.Load())
	}
}

// silent is a transport whose requests last until their context ends.
type silent struct{ begun chan struct{} }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.begun != nil {
		s.begun <- struct{}{}
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestASilentProviderIsNotWaitedForLong(t *testing.T) {
	for _, timeout := range []time.Duration{0, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := config("turnstile", "")
			c.Timeout = timeout
			a, err := New(c, &http.Client{Transport: silent{}})
			if err != nil {
				t.Fatal(err)
			}
			want := timeout
			if want == 0 {
				want = defaultTimeout
			}
			start := time.Now()
			ok, err := a.Verify(t.Context(), good, "", "")
			if ok || !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, %v", ok, err)
			}
			if took := time.Since(start); took != want { // the bubble's clock stands still meanwhile
				t.Errorf("waited %v, want %v", took, want)
			}
		})
	}
}

func TestAProviderThatIsAwayIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked int
		fail := true
		a, err := New(config("recaptcha", ""), &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			if fail {
				return nil, errors.New("connection refused")
			}
			return answer(200, `{"success":true}`), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			if !a.Available() {
				t.Fatalf("given up after %d failures", i)
			}
			if _, err := a.Verify(t.Context(), good, "", ""); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if _, err := a.Verify(t.Context(), good, "", ""); !errors.Is(err, ErrUnavailable) || asked != 6 || a.Available() {
			t.Fatalf("%v after %d questions, available %v", err, asked, a.Available())
		}
		fail = false
		time.Sleep(2 * time.Minute)
		if ok, err := a.Verify(t.Context(), good, "", ""); !a.Available() || !ok || err != nil {
			t.Errorf("%v, %v, available %v", ok, err, a.Available())
		}
	})
}

func TestNonsenseFromVisitorsDoesNotSwitchTheProviderOff(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		fault  bool // an error rather than a no
	}{
		"wrong":           {200, `{"success":false,"error-codes":["invalid-input-response"]}`, false},
		"unknown code":    {200, `{"success":false,"error-codes":["something-new"]}`, false},
		"no code":         {200, `{"success":false}`, false},
		"bad request":     {200, `{"success":false,"error-codes":["bad-request"]}`, true},
		"400":             {400, `{}`, true},
		"413":             {413, `too large`, true},
		"400 and a yes":   {400, `{"success":true}`, true},
		"codes no string": {200, `{"success":false,"error-codes":[1,{}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := New(config("recaptcha", ""), &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return answer(tt.status, tt.body), nil })})
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				ok, err := a.Verify(t.Context(), good, "", "")
				if ok || (err != nil) != tt.fault || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrSettings) {
					t.Fatalf("%v, %v", ok, err)
				}
			}
			if !a.Available() {
				t.Error("switched off")
			}
		})
	}
}

func TestReadersWhoLeaveAreNotTheProvidersFault(t *testing.T) {
	begun := make(chan struct{})
	a, err := New(config("recaptcha", ""), &http.Client{Transport: silent{begun}})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-begun; cancel() }()
		if ok, err := a.Verify(ctx, good, "", ""); ok || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	if !a.Available() {
		t.Error("switched off")
	}
}

func TestVerificationsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config("recaptcha", "")
		c.MaxInFlight = 2
		var now, most atomic.Int64
		free := make(chan struct{})
		a, err := New(c, &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			<-free
			return answer(200, `{"success":true}`), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		const all = 2 + 2*waitingPerFlight + 5
		results := make(chan error, all)
		for range all {
			go func() {
				_, err := a.Verify(t.Context(), good, "", "")
				results <- err
			}()
		}
		synctest.Wait()
		if len(results) != 5 {
			t.Fatalf("%d were turned away, want 5", len(results))
		}
		for range 5 {
			if err := <-results; !errors.Is(err, ErrBusy) {
				t.Errorf("turned away with %v", err)
			}
		}
		for range all - 5 {
			free <- struct{}{}
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if most.Load() != 2 {
			t.Errorf("%d at once", most.Load())
		}

		go func() { _, _ = a.Verify(t.Context(), good, "", "") }()
		go func() { _, _ = a.Verify(t.Context(), good, "", "") }()
		synctest.Wait()
		if _, err := a.Verify(t.Context(), good, "", ""); !errors.Is(err, ErrBusy) {
			t.Errorf("waited in vain: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Verify(ctx, good, "", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("left while waiting: %v", err)
		}
		close(free)
	})
}

func TestSecretsAreNotTold(t *testing.T) {
	for _, secret := range []Secret{"sec-0123456789", "key-1:sec-0123456789"} {
		c := config("altcha", "http://127.0.0.1/verify")
		c.Secret = secret
		a, err := New(c, &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return answer(401, `{"error":"key sec-0123456789 is wrong"}`), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		_, err = a.Verify(t.Context(), good, "", "")
		if !errors.Is(err, ErrSettings) {
			t.Error(err)
		}
		slog.New(slog.NewJSONHandler(&log, nil)).Error("verify", "error", err, "config", c, "secret", c.Secret)
		slog.New(slog.NewTextHandler(&log, nil)).Error("verify", "error", err, "config", c, "secret", c.Secret)
		fmt.Fprintf(&log, "%v %+v %#v %s %q %+v", c, c, c, c.Secret, c.Secret, a.Widget())
		fmt.Fprint(&log, a.Widget().Markup(), a.Widget().Policy())
		if strings.Contains(log.String(), "sec-0123456789") {
			t.Error(log.String())
		}
	}
}

func TestSentinelTwoTakesItsKeyAsBasicCredentials(t *testing.T) {
	c := config("altcha", "http://127.0.0.1/v2/verify/signature")
	c.Secret = "key_1:sec_2"
	var authorization, body string
	a, err := New(c, &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		authorization, body = r.Header.Get("Authorization"), string(b)
		return answer(200, `{"verified":true}`), err
	})})
	if err != nil {
		t.Fatal(err)
	}
	ok, err := a.Verify(t.Context(), good, "", "")
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("key_1:sec_2")); !ok || err != nil || authorization != want || body != `{"payload":"`+good+`"}` {
		t.Errorf("%v, %v; %q, %s", ok, err, authorization, body)
	}
}

func TestUnknownPlacesAreNotHeldAgainstReaders(t *testing.T) {
	for _, tt := range []struct {
		told, site string
		want       bool
	}{
		{"", "site.example", true}, {"not-provided", "site.example", true}, {"other.example", "", true},
		{"site.example", "site.example:8443", true}, {"https://site.example:8443", "site.example", true}, {"bücher.example", "xn--bcher-kva.example", true},
		{"other.example", "site.example", false}, {"site.example.evil.example", "site.example", false}, {"evil-site.example", "site.example", false},
		{"%zz", "site.example", false}, {"[::1]", "[::1]:443", true},
	} {
		if got := sameHost(tt.told, tt.site); got != tt.want {
			t.Errorf("%q at %q: %v", tt.told, tt.site, got)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func FuzzJudge(f *testing.F) {
	for _, fk := range fakes() {
		for _, body := range []string{fk.yes, fk.no, fk.wrongSecret, fk.elsewhere} {
			f.Add(200, []byte(body))
			f.Add(403, []byte(body))
		}
	}
	f.Add(200, []byte(`{"success":true,"success":false,"error-codes":["a\nb","`+strings.Repeat("é", 64)+`"]}`))
	f.Add(200, []byte(`{"success":true,"hostname":"`+strings.Repeat("h", 513)+`"}`))
	f.Add(400, []byte(`{"error-codes":["`+strings.Repeat("x", 2000)+`"]}`))
	f.Add(400, []byte(`{"error-codes":["bad"`+strings.Repeat(`,"bad"`, 500)+`]}`))
	f.Add(500, []byte(strings.Repeat(`{"result":`, 1000)))
	var all []protocol
	for _, name := range Providers() {
		custom := Custom{}
		if name == "custom" {
			custom = config("custom", "").Custom
		}
		p, err := protocolOf(name, &custom)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, p)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for _, p := range all {
			v, err := p.judge(status, body)
			if v.success && (status != 200 || err != nil || !json.Valid(body)) {
				t.Fatalf("success from %d %q, %v", status, body, err)
			}
			if !v.success && v.hostname != "" || len(v.hostname) > 512 {
				t.Fatalf("%+v", v)
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrSettings) && !errors.Is(err, errOdd) {
				t.Fatalf("%v is of no class", err)
			}
			if len(err.Error()) > 1024 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q is not fit for a log", err)
			}
		}
	})
}
