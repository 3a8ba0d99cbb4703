package artifact

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
)

const (
	operatorKey = "operator-0123456789"
	proxyKey    = "proxy-0123456789-01"
)

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// serve serves the API over a store, and returns a client with the key.
func serve(t *testing.T, s Store) func(key string) *Client {
	t.Helper()
	callers, err := auth.New(auth.Key{Caller: auth.Operator, Key: operatorKey}, auth.Key{Caller: auth.Proxy, Key: proxyKey})
	if err != nil {
		t.Fatal(err)
	}
	small := Kind{Check: func(b []byte) error {
		if len(b) > 10 {
			return errors.New("that is not small")
		}
		return nil
	}}
	open := small
	open.Writers = []string{auth.Proxy}
	api := &API{Store: s, Kinds: map[string]Kind{Corpus: small, Likeness: open}, Now: noon, Log: slog.New(slog.DiscardHandler)}
	server := httptest.NewServer(callers.Handler(auth.Group{API: api, Callers: []string{auth.Proxy}}))
	t.Cleanup(server.Close)
	return func(key string) *Client { return &Client{Base: server.URL + "/", HTTP: server.Client(), Key: key} }
}

func TestWhatIsPutIsFound(t *testing.T) {
	client := serve(t, &Memory{})
	operator, edge := client(operatorKey), client(proxyKey)
	if _, _, err := edge.Get(t.Context(), Corpus, "default", 1); !errors.Is(err, ErrUnknown) {
		t.Errorf("none yet: %v", err)
	}
	for i, body := range []string{"one", "two", "two", "three", "four", "five", "six"} {
		a, err := operator.Put(t.Context(), Corpus, "default", "the note & more", []byte(body))
		if err != nil || a.Version != int64(i+1)-map[bool]int64{true: 1}[i > 1] || a.Note != "the note & more" || a.Size != int64(len(body)) || !a.At.Equal(noon()) {
			t.Errorf("%s: %+v, %v", body, a, err)
		}
	}
	if _, err := edge.Put(t.Context(), Likeness, "wiki", "", []byte("a page")); err != nil {
		t.Error(err)
	}
	list, err := edge.List(t.Context())
	if err != nil || len(list) != Keep+1 || list[0].Version != 6 || list[Keep].Kind != Likeness {
		t.Errorf("%+v, %v", list, err)
	}
	if latest, err := Latest(list, Corpus, "default"); err != nil || latest.Version != 6 {
		t.Errorf("%+v, %v", latest, err)
	}
	if _, err := Latest(list, Corpus, "other"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if a, body, err := edge.Get(t.Context(), Corpus, "default", 2); err != nil || string(body) != "two" || a.Version != 2 || !a.At.Equal(noon()) {
		t.Errorf("%+v, %s, %v", a, body, err)
	}
	if _, _, err := edge.Get(t.Context(), Corpus, "default", 1); !errors.Is(err, ErrUnknown) {
		t.Errorf("the sixth last of five that are kept: %v", err)
	}
}

func TestWhatIsWrongIsRefusedAndSaidWhy(t *testing.T) {
	client := serve(t, &Memory{})
	for _, tt := range []struct {
		key, kind, name, note string
		body                  string
		want                  string
	}{
		{proxyKey, Corpus, "default", "", "text", `"proxy", which may not put a corpus`},
		{operatorKey, "poem", "default", "", "text", `no kind "poem": want one of corpus, likeness`},
		{operatorKey, Corpus, "default", "", "a text too long", "that is not small"},
		{operatorKey, Corpus, "default", "", "", "0 bytes: want 1 to"},
		{operatorKey, Corpus, "a/b", "", "text", "without a slash"},
		{operatorKey, Corpus, strings.Repeat("n", MaxName+1), "", "text", "want 1 to 128 letters"},
		{operatorKey, Corpus, "default", strings.Repeat("n", MaxNote+1), "text", "note of 1001 bytes"},
		{"nobody", Corpus, "default", "", "text", "401"},
	} {
		if a, err := client(tt.key).Put(t.Context(), tt.kind, tt.name, tt.note, []byte(tt.body)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.20s %q: %+v, %v; want %q", tt.kind, tt.name, tt.body, a, err, tt.want)
		}
	}
}

// What comes over the network is held to its sum and to its bounds.
func TestAClientTakesNoDamagedBody(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"is damaged": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Last-Modified", noon().Format(http.TimeFormat))
			w.Header().Set(headerVersion, "1")
			w.Header().Set(headerSum, strings.Repeat("0", 64))
			_, _ = w.Write([]byte("body"))
		},
		headerVersion:   func(w http.ResponseWriter, _ *http.Request) {},
		"Last-Modified": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(headerVersion, "1") },
		"418":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"more than": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Last-Modified", noon().Format(http.TimeFormat))
			w.Header().Set(headerVersion, "1")
			for range MaxBody>>20 + 1 {
				_, _ = w.Write(bytes.Repeat([]byte{'x'}, 1<<20))
			}
		},
	} {
		server := httptest.NewServer(h)
		c := &Client{Base: server.URL, HTTP: server.Client()}
		if _, body, err := c.Get(t.Context(), Corpus, "default", 1); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
		server.Close()
	}
}

// flaky is a library that is away at times.
type flaky struct {
	Local
	mu   sync.Mutex
	away bool
}

func (f *flaky) List(ctx context.Context) ([]Artifact, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, errors.New("away")
	}
	return f.Local.List(ctx)
}

func TestNewVersionsComeIntoForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var log bytes.Buffer
		lib := &flaky{Local: Local{Store: &Memory{}, Now: time.Now}, away: true}
		var taken []string
		w := &Watcher{Library: lib, Every: time.Second, Log: slog.New(slog.NewTextHandler(&log, nil)), Take: map[string]func(*Artifact, []byte) error{
			Corpus: func(a *Artifact, body []byte) error {
				taken = append(taken, a.Name+" "+string(body))
				if string(body) == "bad" {
					return errors.New("no model")
				}
				return nil
			},
		}}
		put := func(kind, name, body string) {
			t.Helper()
			if _, err := lib.Put(ctx, kind, name, "", []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		put(Corpus, "a", "one")
		put(Corpus, "a", "two")
		put(Likeness, "a", "of no interest")
		time.Sleep(5 * time.Second)
		lib.mu.Lock()
		lib.away = false
		lib.mu.Unlock()
		time.Sleep(3 * time.Second)
		put(Corpus, "b", "bad")
		time.Sleep(3 * time.Second)
		put(Corpus, "b", "good")
		time.Sleep(3 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := strings.Join(taken, ", "); got != "a two, b bad, b good" {
			t.Errorf("taken: %s", got)
		}
		for _, once := range []string{"cannot be read yet", "no model"} {
			if n := strings.Count(log.String(), once); n != 1 {
				t.Errorf("%q is logged %d times:\n%s", once, n, &log)
			}
		}
	})
}
