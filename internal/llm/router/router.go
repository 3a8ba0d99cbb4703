// Package router is the API of prompt-router, the one address of language models for services inside.
package router

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/relay"
)

// Options are the settings of an API. LocalURL or CloudURL, Log and Now are required.
type Options struct {
	// LocalURL is the base of a local API like that of OpenAI, "http://ollama:11434/v1"; "": there is none, and calls go to cloud-proxy.
	LocalURL string
	CloudURL string // of cloud-proxy: "http://cloud-proxy:8008"
	CloudKey string // this service's key at cloud-proxy; "": none, a certificate does instead
	// HTTP says how to reach cloud-proxy, with a certificate, say; nil: plainly. A local model never sees a certificate of ours.
	HTTP    *http.Client
	Timeout time.Duration // until an answer begins; 0: relay.DefaultTimeout
	Log     *slog.Logger
	Now     func() time.Time
}

// API serves one language model to callers inside:
//
//	POST /v1/chat/completions   as the model's server takes it, at most 4 MiB; the answer is its own, streamed if it streams
//
// It is the local one where there is one, and what cloud-proxy has otherwise. Problems are application/problem+json. Whoever mounts it must ask for
// authentication first.
type API struct{ *relay.Relay }

// cloudMargin is how much longer cloud-proxy is waited for than it waits itself: it knows better what went wrong.
const cloudMargin = 5 * time.Second

// New returns the API; the error says which option is wrong.
func New(o Options) (*API, error) {
	if o.Timeout == 0 {
		o.Timeout = relay.DefaultTimeout
	}
	to := relay.Options{Target: relay.Local, Base: o.LocalURL, Timeout: o.Timeout, Log: o.Log, Now: o.Now}
	switch {
	case o.LocalURL != "":
	case o.CloudURL != "":
		to.Target, to.Base, to.Key, to.HTTP = relay.Cloud, strings.TrimRight(o.CloudURL, "/")+"/v1", o.CloudKey, o.HTTP
		to.Timeout += cloudMargin
	default:
		return nil, errors.New("there is no language model to ask: set QUICKTHORN_PROMPT_ROUTER_LOCAL_URL for a local one, or QUICKTHORN_CLOUD_PROXY_URL")
	}
	r, err := relay.New(to)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", to.Target, err)
	}
	o.Log.Info("calls of a language model go to "+to.Target.String(), "target", string(to.Target))
	return &API{r}, nil
}

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { a.Carry(w, r, relay.ChatCompletions) })
}
