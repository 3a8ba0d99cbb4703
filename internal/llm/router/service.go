package router

import (
	"context"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/service"
)

// Open prepares prompt-router. It starts while cloud-proxy or the local model are away.
func Open(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	c := o.Config
	p := service.New(o)
	defer p.CloseOnError(&err)
	options := Options{LocalURL: c.PromptRouter.LocalURL, Log: o.Log, Now: time.Now}
	if options.LocalURL == "" {
		if err := service.NeedKey("auth.promptRouter.key", c.Auth.PromptRouter.Key, "internal.certificateFile", c.Internal.CertificateFile, "cloud-proxy must know this service"); err != nil {
			return nil, err
		}
		options.CloudURL, options.CloudKey = c.CloudProxy.URL, c.Auth.PromptRouter.Key
		if options.HTTP, err = service.InternalClient(&c.Internal); err != nil {
			return nil, err
		}
	}
	api, err := New(options)
	if err != nil {
		return nil, fmt.Errorf("promptRouter: %w", err)
	}
	p.OnClose(func() error { api.Close(); return nil })
	if err := p.Metrics.Registry.Register(api); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return p, p.ServeOffer(ctx, service.Offer{
		Address: c.PromptRouter.Listen, API: api, Caller: auth.EscalationEngine, Key: c.Auth.EscalationEngine.Key, KeyPath: "auth.escalationEngine.key",
	})
}
