// Package cloud is cloud-proxy, the one service that holds providers' keys and reaches the providers.
package cloud

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/pattern"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
)

// NoKey is what callers are told while there is no provider to ask.
const NoKey = "no provider key: set QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY or QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY_FILE, or cloudProxy.providers"

// Provider is one of those who run models.
type Provider struct {
	Name        string
	Kind        string // as provider.Named has it
	URL         string // "": the kind's own
	Keys        []backend.Key
	Models      []string // names, patterns, or name=the provider's name; none: all
	MaxInFlight int
	Timeout     time.Duration
}

// Options are the settings of Providers. Log and Now are required.
type Options struct {
	Providers []Provider
	Transport http.RoundTripper // nil: a plain one
	Metrics   *backend.Metrics
	Log       *slog.Logger
	Now       func() time.Time
}

// Providers chooses a provider by the model's name: the first that has it, and those after it when that fails. It is a gateway.Chooser.
type Providers struct{ list []one }

type one struct {
	backend *backend.Backend
	models  []model
}

type model struct{ pattern, upstream string }

var _ gateway.Chooser = (*Providers)(nil)

// New returns the providers; the error says which option is wrong, and holds no key.
func New(o Options) (*Providers, error) {
	p := &Providers{}
	for i := range o.Providers {
		s := &o.Providers[i]
		form, base, err := provider.Named(s.Kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		if s.URL != "" {
			base = s.URL
		}
		if err := checkURL(base); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		b, err := backend.New(backend.Options{
			Name: s.Name, Form: form, Base: base, Keys: s.Keys, MaxInFlight: s.MaxInFlight, Timeout: s.Timeout,
			Transport: o.Transport, Metrics: o.Metrics, Log: o.Log, Now: o.Now,
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		x := one{backend: b}
		for _, m := range s.Models {
			name, upstream, _ := strings.Cut(m, "=")
			if err := pattern.Check(name); err != nil {
				return nil, fmt.Errorf("%s: model %w", s.Name, err)
			}
			x.models = append(x.models, model{name, upstream})
		}
		p.list = append(p.list, x)
	}
	return p, nil
}

// checkURL refuses addresses at which a key would be read on the way.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("url: it is none") // the error would show a key in it
	}
	address, _ := netip.ParseAddr(u.Hostname()) // the zero address is not a loopback one
	if u.Scheme == "http" && u.Hostname() != "localhost" && !address.IsLoopback() {
		return errors.New("url: use https; http:// sends the key in plain text and is for a loopback address only, such as http://127.0.0.1:11434/v1")
	}
	return nil
}

// Close closes the connections that no call uses.
func (p *Providers) Close() {
	for i := range p.list {
		p.list[i].backend.Close()
	}
}

// Ready is nil while one of the providers may answer; the error says what is wrong with each.
func (p *Providers) Ready() error {
	if len(p.list) == 0 {
		return nil // it does what it can: it says so to each caller
	}
	var all []error
	for i := range p.list {
		err := p.list[i].backend.Ready()
		if err == nil {
			return nil
		}
		all = append(all, fmt.Errorf("%s: %w", p.list[i].backend.Name(), err))
	}
	return errors.Join(all...)
}

// upstream is the provider's name of a model, if it has it.
func (x *one) upstream(name string) (string, bool) {
	if len(x.models) == 0 {
		return name, true
	}
	for _, m := range x.models {
		if pattern.Match(m.pattern, name) {
			if m.upstream != "" {
				return m.upstream, true
			}
			return name, true
		}
	}
	return "", false
}

// route finds the providers of a model. A call that is to stay on the owner's own machines is refused: this is where they end.
func (p *Providers) route(h http.Header, name string, embeds bool) (gateway.Route, *chat.Error) {
	if h.Get(gateway.PrivacyHeader) == gateway.LocalOnly {
		return gateway.Route{}, &chat.Error{Status: http.StatusForbidden, Type: chat.ErrorPermission, Code: "local_only", Message: "the call says that it is not to leave for a provider"}
	}
	if len(p.list) == 0 {
		return gateway.Route{}, &chat.Error{Status: http.StatusServiceUnavailable, Type: chat.ErrorServer, Code: "no_provider", Message: NoKey}
	}
	r := gateway.Route{Name: "cloud"}
	if who, rest, ok := strings.Cut(name, "/"); ok {
		if i := slices.IndexFunc(p.list, func(x one) bool { return x.backend.Name() == who }); i >= 0 {
			if m, ok := p.list[i].upstream(rest); ok {
				r.Candidates = []gateway.Candidate{{Backend: p.list[i].backend, Model: m}}
				r.Why = "the caller asked for " + who
				return r, nil
			}
		}
	}
	for i := range p.list {
		if m, ok := p.list[i].upstream(name); ok && (p.list[i].backend.Embeds() || !embeds) {
			r.Candidates = append(r.Candidates, gateway.Candidate{Backend: p.list[i].backend, Model: m})
		}
	}
	if len(r.Candidates) == 0 {
		return r, &chat.Error{Status: http.StatusNotFound, Type: chat.ErrorInvalid, Param: "model", Code: gateway.CodeNoModel, Message: fmt.Sprintf("the model %.80q is none that a provider here has: see GET /v1/models", name)}
	}
	r.Why = r.Candidates[0].Backend.Name() + " has the model"
	return r, nil
}

// Chat implements gateway.Chooser.
func (p *Providers) Chat(_ string, h http.Header, r *chat.Request) (gateway.Route, *chat.Error) {
	return p.route(h, r.Model, false)
}

// Embed implements gateway.Chooser.
func (p *Providers) Embed(_ string, h http.Header, r *chat.EmbeddingRequest) (gateway.Route, *chat.Error) {
	return p.route(h, r.Model, true)
}

// Models implements gateway.Chooser. A pattern is no name, so that of a provider that has one not all models are told.
func (p *Providers) Models(string) []gateway.Model {
	var list []gateway.Model
	known := map[string]bool{}
	for i := range p.list {
		for _, m := range p.list[i].models {
			if pattern.Exact(m.pattern) && !known[m.pattern] {
				known[m.pattern] = true
				list = append(list, gateway.Model{ID: m.pattern, Object: "model", OwnedBy: p.list[i].backend.Name()})
			}
		}
	}
	return list
}
