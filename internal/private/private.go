// Package private is the listener that the internet must not reach: health,
// readiness and metrics for whoever gets there, and the API for whoever holds the key.
package private

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/keyfile"
)

// KeyFile is the name of the API key's file in the data directory.
const KeyFile = "api.key"

// LoadKey reads the API key from the data directory, making one (mode 0600) when there is none.
func LoadKey(dir string) (string, error) {
	path := filepath.Join(dir, KeyFile)
	b, err := keyfile.LoadOrCreate(path, func() []byte {
		raw := make([]byte, 24)
		rand.Read(raw) // never fails (crypto/rand since Go 1.24)
		return append(hex.AppendEncode(nil, raw), '\n')
	})
	return parseKey(path, b, err)
}

// ReadKey reads the API key of a data directory; the error wraps fs.ErrNotExist when there is none.
func ReadKey(dir string) (string, error) {
	path := filepath.Join(dir, KeyFile)
	b, err := os.ReadFile(path)
	return parseKey(path, b, err)
}

func parseKey(path string, b []byte, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("read API key: %w", err)
	}
	key := strings.TrimSpace(string(b))
	if len(key) < 32 {
		return "", fmt.Errorf("API key %q has %d characters, want at least 32; delete the file to have a new one made", path, len(key))
	}
	return key, nil
}

// Registrar adds its routes to the API.
type Registrar interface{ Register(mux *http.ServeMux) }

// Options are the parts of the private listener.
type Options struct {
	Metrics http.Handler
	Ready   func() error // nil when the service does its work; the error names what is missing
	API     http.Handler // serves /v1/ and asks for keys itself; nil: none
	OpenAPI http.Handler // serves /openapi.json, which holds no secret; nil: none
	// Debug, if not nil, guards /debug/pprof/; without it there are no profiles.
	Debug func(http.Handler) http.Handler
}

// Handler returns the handler of the private listener.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if err := o.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", o.Metrics)
	if o.API != nil {
		mux.Handle("/v1/", o.API)
	}
	if o.OpenAPI != nil {
		mux.Handle("GET /openapi.json", o.OpenAPI)
	}
	if o.Debug != nil {
		debug := http.NewServeMux()
		debug.HandleFunc("/debug/pprof/", pprof.Index)
		debug.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		debug.HandleFunc("/debug/pprof/profile", pprof.Profile)
		debug.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		debug.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.Handle("/debug/pprof/", o.Debug(debug))
	}
	return mux
}

// Problem writes an application/problem+json answer (RFC 9457).
func Problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
}

// JSON writes v as the answer.
func JSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		Problem(w, http.StatusInternalServerError, "The answer cannot be written as JSON.")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(b, '\n')) // an error means that the client is gone
}

// Stream is a ResponseWriter that knows whether the body has begun: until then an error
// can still be answered, afterwards only cutting the connection tells the receiver.
type Stream struct {
	http.ResponseWriter
	Begun bool
}

// Write writes to the body.
func (s *Stream) Write(p []byte) (int, error) {
	s.Begun = true
	return s.ResponseWriter.Write(p)
}

// maxBody bounds what the small endpoints read.
const maxBody = 1 << 20

// ReadJSON reads a request body of at most 1 MiB into v, refusing unknown fields.
func ReadJSON(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}

// Switch is the mode that the edge is in.
type Switch interface {
	Mode() defense.Mode
	// SetMode changes it for now and after a restart; an error means that it did not.
	SetMode(m defense.Mode) error
}

// ModeAPI serves GET and PUT /v1/mode.
type ModeAPI struct{ Switch Switch }

// Mode is the body of /v1/mode.
type Mode struct {
	Mode defense.Mode `json:"mode"`
}

// Register adds the routes.
func (a *ModeAPI) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/mode", func(w http.ResponseWriter, _ *http.Request) { JSON(w, Mode{a.Switch.Mode()}) })
	mux.HandleFunc("PUT /v1/mode", func(w http.ResponseWriter, r *http.Request) {
		var m Mode
		if err := ReadJSON(w, r, &m); err != nil {
			Problem(w, http.StatusBadRequest, err.Error())
			return
		}
		if err := a.Switch.SetMode(m.Mode); err != nil {
			Problem(w, http.StatusInternalServerError, err.Error())
			return
		}
		JSON(w, m)
	})
}

// Server returns an HTTP server for the handler with the time limits that a private listener needs.
// Exports stream for long, so only the request is timed.
func Server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10}
}
