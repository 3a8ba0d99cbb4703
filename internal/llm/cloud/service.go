package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/service"
)

// Open prepares cloud-proxy. It starts without a provider key, and then says so to each caller.
func Open(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	c := o.Config
	p := service.New(o)
	defer p.CloseOnError(&err)
	api, err := New(Options{ProviderURL: c.CloudProxy.Provider.URL, ProviderKey: c.CloudProxy.Provider.Key, Log: o.Log, Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("cloudProxy: %w", err)
	}
	p.OnClose(func() error { api.Close(); return nil })
	if c.CloudProxy.Provider.Key == "" {
		o.Log.Warn(NoKey)
	}
	if err := p.Metrics.Registry.Register(api); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return p, p.ServeOffer(ctx, service.Offer{
		Address: c.CloudProxy.Listen, API: api, Caller: auth.PromptRouter, Key: c.Auth.PromptRouter.Key, KeyPath: "auth.promptRouter.key",
	})
}
