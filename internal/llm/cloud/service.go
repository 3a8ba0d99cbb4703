package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/service"
)

// Configured are the providers of a configuration. One without a key that it needs is none.
func Configured(c *config.CloudProxy) []Provider {
	var list []Provider
	if c.Provider.Key != "" || c.Provider.Kind == "compatible" && c.Provider.URL != "" {
		list = append(list, Provider{Name: c.Provider.Kind, Kind: c.Provider.Kind, URL: c.Provider.URL, Models: c.Provider.Models, Keys: keysOf(c, c.Provider.Kind, c.Provider.Key)})
	}
	for i := range c.Providers {
		p := &c.Providers[i]
		list = append(list, Provider{
			Name: p.Name, Kind: p.Kind, URL: p.URL, Models: p.Models, MaxInFlight: p.MaxInFlight, Timeout: p.Timeout, Keys: keysOf(c, p.Name, p.Key),
		})
	}
	return list
}

func keysOf(c *config.CloudProxy, name, first string) []backend.Key {
	var keys []backend.Key
	if first != "" {
		keys = append(keys, backend.Key{Secret: first, Weight: 1})
	}
	for _, k := range c.ProviderKeys {
		if k.Provider == name {
			keys = append(keys, backend.Key{Secret: k.Key, Weight: k.Weight})
		}
	}
	return keys
}

// Open prepares cloud-proxy. It starts without a provider, and then says so to each caller.
func Open(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	c := o.Config
	p := service.New(o)
	defer p.CloseOnError(&err)
	if u := c.CloudProxy.Provider.URL; u != "" { // also while there is no key: it is found wrong when it is set, not when it is used
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("cloudProxy.provider: %w", err)
		}
	}
	m := backend.NewMetrics()
	providers, err := New(Options{Providers: Configured(&c.CloudProxy), Metrics: m, Log: o.Log, Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("cloudProxy: %w", err)
	}
	p.OnClose(func() error { providers.Close(); return nil })
	if len(providers.list) == 0 {
		o.Log.Warn(NoKey)
	}
	if err := p.Metrics.Registry.Register(m); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	options, _, err := serve.Gateway(p, auth.CloudProxy)
	if err != nil {
		return nil, err
	}
	options.Chooser = providers
	p.Require("providers", func(context.Context) error { return providers.Ready() })
	api := serve.API{API: gateway.New(options), Spending: &serve.Spending{Books: options.Books, Callers: []string{auth.PromptRouter}, Now: time.Now}}
	return p, p.ServeOffer(ctx, service.Offer{
		Address: c.CloudProxy.Listen, API: api, Caller: auth.PromptRouter, Key: c.Auth.PromptRouter.Key, KeyPath: "auth.promptRouter.key", More: serve.More(&c.Gateway),
	})
}
