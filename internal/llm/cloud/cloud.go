// Package cloud is the API of cloud-proxy, the one service that holds a provider's key and reaches the provider.
package cloud

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/relay"
)

// NoKey is what callers are told while there is no provider key.
const NoKey = "no provider key: set QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY or QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY_FILE"

// Options are the settings of an API. ProviderURL, Log and Now are required.
type Options struct {
	// ProviderURL is the base of an API like that of OpenAI: "https://api.openai.com/v1". Calls go there and nowhere else.
	ProviderURL string
	ProviderKey string        // "": every call is answered 503
	HTTP        *http.Client  // its transport is used; nil: a plain one
	Timeout     time.Duration // until an answer begins; 0: relay.DefaultTimeout
	Log         *slog.Logger
	Now         func() time.Time
}

// API serves a provider's model to callers inside:
//
//	POST /v1/chat/completions   as the provider takes it, at most 4 MiB; the answer is the provider's, streamed if it streams
//
// Problems are application/problem+json. Whoever mounts it must ask for authentication first.
type API struct{ *relay.Relay }

// New returns the API; the error says which option is wrong.
func New(o Options) (*API, error) {
	u, err := url.Parse(o.ProviderURL)
	if err != nil {
		return nil, errors.New("provider URL: it is none") // the error would show a key in it
	}
	address, _ := netip.ParseAddr(u.Hostname()) // the zero address is not a loopback one
	if u.Scheme == "http" && u.Hostname() != "localhost" && !address.IsLoopback() {
		return nil, errors.New("provider URL: use https; http:// sends the key in plain text and is for a loopback address only, such as http://127.0.0.1:11434/v1")
	}
	closed := ""
	if o.ProviderKey == "" {
		closed = NoKey
	}
	r, err := relay.New(relay.Options{
		Target: relay.Provider, Base: o.ProviderURL, Key: o.ProviderKey, Closed: closed, HTTP: o.HTTP, Timeout: o.Timeout, Log: o.Log, Now: o.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	return &API{r}, nil
}

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { a.Carry(w, r, relay.ChatCompletions) })
}
