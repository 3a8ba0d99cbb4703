package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/mcptool"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
	"github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
	"github.com/quickthorn/quickthorn/internal/service"
)

// Names of servers that need no entry in the configuration.
const (
	Local = "local" // promptRouter.localUrl
	Cloud = "cloud" // cloud-proxy
)

// cloudMargin is how much longer cloud-proxy is waited for than it waits itself: it knows better what went wrong.
const cloudMargin = 5 * time.Second

// Configured makes the router of a configuration. transport reaches cloud-proxy.
func Configured(c *config.Config, prices *price.Prices, transport http.RoundTripper, m *backend.Metrics, log *slog.Logger, counter *tokens.Counter) (*Router, error) {
	servers := map[string]*Server{}
	var list []*Server
	add := func(name, kind, base string, o backend.Options, s Server) error {
		form, _, err := provider.Named(kind)
		if err != nil {
			return err
		}
		o.Name, o.Form, o.Base, o.Metrics, o.Log, o.Now = name, form, base, m, log, time.Now
		if s.Backend, err = backend.New(o); err != nil {
			return fmt.Errorf("server %q: %w", name, err)
		}
		s.Embeddings = s.Backend.Embeds()
		servers[name] = &s
		list = append(list, &s)
		return nil
	}
	all := Server{Local: true, Tools: true, Vision: true, JSON: true}
	r := &c.PromptRouter
	if r.LocalURL != "" {
		if err := add(Local, "compatible", r.LocalURL, backend.Options{}, all); err != nil {
			return nil, err
		}
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		o := backend.Options{MaxInFlight: s.MaxInFlight, Timeout: s.Timeout}
		if s.Key != "" {
			o.Keys = []backend.Key{{Secret: s.Key}}
		}
		can := func(what string) bool { return len(s.Can) == 0 || slices.Contains(s.Can, what) }
		err := add(s.Name, s.Kind, s.URL, o, Server{Local: true, Models: s.Models, Context: s.Context, Tools: can("tools"), Vision: can("vision"), JSON: can("json")})
		if err != nil {
			return nil, err
		}
	}
	for i := range r.Tools {
		t := &r.Tools[i]
		argument := cmp.Or(t.Argument, "text")
		o := backend.Options{Timeout: t.Timeout, Transport: mcptool.New(t.URL, argument, t.Key)}
		if err := add(config.ToolScheme+t.Name, "compatible", t.URL, o, Server{Local: t.Local, JSON: true}); err != nil {
			return nil, err
		}
		servers[config.ToolScheme+t.Name].Embeddings = false
	}
	if needsCloud(r) {
		if c.CloudProxy.URL == "" {
			return nil, errors.New("there is no language model to ask: set QUICKTHORN_PROMPT_ROUTER_LOCAL_URL for a local one, or QUICKTHORN_CLOUD_PROXY_URL")
		}
		o := backend.Options{Timeout: backend.DefaultTimeout + cloudMargin, Transport: transport}
		if k := c.Auth.PromptRouter.Key; k != "" {
			o.Keys = []backend.Key{{Secret: k}}
		}
		all.Local = false
		if err := add(Cloud, "gateway", strings.TrimRight(c.CloudProxy.URL, "/")+"/v1", o, all); err != nil {
			return nil, err
		}
	}
	rules, err := rulesOf(r, servers)
	if err != nil {
		return nil, err
	}
	return New(rules, list, prices, counter)
}

// needsCloud reports whether cloud-proxy is among the servers.
func needsCloud(r *config.PromptRouter) bool {
	if len(r.Routes) == 0 {
		return r.LocalURL == "" && len(r.Servers) == 0 || r.LocalTokens > 0
	}
	for i := range r.Routes {
		for _, use := range r.Routes[i].Use {
			if slices.ContainsFunc(config.ParseUse(use), func(t config.UseTarget) bool { return t.Server == Cloud }) {
				return true
			}
		}
	}
	return false
}

func rulesOf(r *config.PromptRouter, servers map[string]*Server) ([]Rule, error) {
	if len(r.Routes) == 0 {
		var rules []Rule
		var local []Target
		if s := servers[Local]; s != nil {
			local = append(local, Target{Server: s})
		}
		for i := range r.Servers {
			local = append(local, Target{Server: servers[r.Servers[i].Name]})
		}
		if len(local) > 0 {
			rules = append(rules, Rule{Name: Local, MaxTokens: r.LocalTokens, Groups: [][]Target{local}, Cache: r.Cache})
		}
		if s := servers[Cloud]; s != nil {
			rules = append(rules, Rule{Name: Cloud, Groups: [][]Target{{{Server: s}}}, Cache: r.Cache})
		}
		return rules, nil
	}
	var rules []Rule
	for i := range r.Routes {
		in := &r.Routes[i]
		rule := Rule{Name: in.Name, Models: in.Models, Callers: in.Callers, MaxTokens: in.MaxTokens, Prefer: in.Prefer, Cache: in.Cache || r.Cache, Priority: in.Priority}
		for _, use := range in.Use {
			var group []Target
			for _, t := range config.ParseUse(use) {
				s := servers[t.Server]
				if s == nil {
					return nil, fmt.Errorf("route %q: there is no server %q", in.Name, t.Server)
				}
				group = append(group, Target{s, t.Model})
			}
			rule.Groups = append(rule.Groups, group)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Open prepares prompt-router. It starts while cloud-proxy or the local servers are away.
func Open(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	c := o.Config
	p := service.New(o)
	defer p.CloseOnError(&err)
	var transport http.RoundTripper
	if needsCloud(&c.PromptRouter) {
		if err := service.NeedKey("auth.promptRouter.key", c.Auth.PromptRouter.Key, "internal.certificateFile", c.Internal.CertificateFile, "cloud-proxy must know this service"); err != nil {
			return nil, err
		}
		client, err := service.InternalClient(&c.Internal)
		if err != nil {
			return nil, err
		}
		transport = client.Transport
	}
	options, counter, err := serve.Gateway(p, auth.PromptRouter)
	if err != nil {
		return nil, err
	}
	m := backend.NewMetrics()
	router, err := Configured(c, options.Prices, transport, m, o.Log, counter)
	if err != nil {
		return nil, fmt.Errorf("promptRouter: %w", err)
	}
	p.OnClose(func() error { router.Close(); return nil })
	if err := p.Metrics.Registry.Register(m); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	r := &c.PromptRouter
	options.Chooser = router
	options.Queue = gateway.NewQueue(r.Running, r.Waiting, options.Metrics)
	options.Cache = gateway.NewCache(int64(r.CacheBytes), r.CacheAge, time.Now)
	p.Require("servers", func(context.Context) error { return router.Ready() })
	for _, s := range router.servers {
		o.Log.Info("calls of a language model may go to "+s.Backend.Name(), "local", s.Local)
	}
	api := serve.API{API: gateway.New(options), Spending: &serve.Spending{Books: options.Books, Callers: []string{auth.EscalationEngine}, Now: time.Now}}
	return p, p.ServeOffer(ctx, service.Offer{
		Address: r.Listen, API: api, Caller: auth.EscalationEngine, Key: c.Auth.EscalationEngine.Key, KeyPath: "auth.escalationEngine.key", More: serve.More(&c.Gateway),
	})
}
