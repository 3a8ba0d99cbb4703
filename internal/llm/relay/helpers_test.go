package relay_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/llm/relay"
	"github.com/quickthorn/quickthorn/internal/testlog"
)

// within bounds what would otherwise hang a test. It is no expectation.
const within = 20 * time.Second

const (
	providerKey = "sk-provider-0123456789abcdef"
	callerKey   = "caller-key-0123456789abcdef"
	question    = `{"model":"m","messages":[{"role":"user","content":"is this a crawler?"}]}`
	opinion     = `{"choices":[{"message":{"role":"assistant","content":"yes"}}]}`
)

// TestMain looks for goroutines that any of the tests left behind.
func TestMain(m *testing.M) {
	code := m.Run()
	var left string
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		left = ""
		buf := make([]byte, 4<<20)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "llm/relay.") && !strings.Contains(g, "TestMain") || strings.Contains(g, "http.(*persistConn)") {
				left += g + "\n\n"
			}
		}
		if left == "" {
			os.Exit(code)
		}
	}
	fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
	os.Exit(1)
}

// front is a relay behind a server, and what it says of itself.
type front struct {
	*httptest.Server
	relay    *relay.Relay
	log      *testlog.Buffer
	registry *prometheus.Registry
}

// newFront starts a relay to a provider with that handler; change, if not nil, changes its options.
func newFront(t *testing.T, provider http.HandlerFunc, change func(*relay.Options)) *front {
	t.Helper()
	p := httptest.NewServer(provider)
	t.Cleanup(p.Close)
	f := &front{log: new(testlog.Buffer), registry: prometheus.NewRegistry()}
	o := relay.Options{
		Target: relay.Provider, Base: p.URL + "/v1", Key: providerKey, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	r, err := relay.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.relay = r
	f.registry.MustRegister(r)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.Carry(w, q, relay.ChatCompletions) }))
	// First the callers, then the relay's connections, then the provider, which waits for its handlers.
	t.Cleanup(func() {
		f.Server.Close()
		r.Close()
	})
	return f
}

// call makes a call; headers are name and value in turn.
func (f *front) call(t *testing.T, ctx context.Context, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL+"/v1/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+callerKey)
	for i := 0; i < len(headers); i += 2 {
		q.Header[headers[i]] = append(q.Header[headers[i]], headers[i+1])
	}
	return q
}

// do sends a call and returns the answer with its body.
func (f *front) do(t *testing.T, q *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := f.Client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// metrics is what a scrape shows.
func (f *front) metrics(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families {
		fmt.Fprintln(w, m)
	}
	return w.Body.String()
}

// counted waits until so many calls were counted under a code: a call is counted when it has ended.
func (f *front) counted(t *testing.T, code string, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%g calls under code %s", want, code), func() bool { return f.count(t, code) == want })
}

func (f *front) count(t *testing.T, code string) (n float64) {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "quickthorn_llm_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "code" && l.GetValue() == code {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// inFlight returns the calls in flight.
func (f *front) inFlight(t *testing.T) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "quickthorn_llm_requests_in_flight" {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("there is no gauge")
	return 0
}

// secretive fails the test if a key is in anything that the relay says.
func (f *front) secretive(t *testing.T, answers ...string) {
	t.Helper()
	for _, said := range append(answers, f.log.String(), f.metrics(t)) {
		for _, key := range []string{providerKey, callerKey} {
			if strings.Contains(said, key) {
				t.Errorf("the key %q is in %q", key, said)
			}
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// receive takes the next value or fails the test.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		t.Fatalf("waited in vain for %s", what)
	}
	panic("unreachable")
}

// answering is a provider that answers with a status, headers (name and value in turn) and a body.
func answering(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const (
	kind   = "Content-Type"
	inJSON = "application/json"
	events = "text/event-stream"
)
