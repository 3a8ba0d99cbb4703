package run

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
	"github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendfile"
	"github.com/quickthorn/quickthorn/internal/opinion"
	"github.com/quickthorn/quickthorn/internal/service"
)

// opinionBooks opens the file of what a language model was asked; nil when none is to be.
func opinionBooks(s *service.Service) (spend.Store, error) {
	if !slices.Contains(s.Config.Escalation.Stages, escalation.StageOpinion) {
		return nil, nil
	}
	st, err := spendfile.Open(filepath.Join(s.Config.Data.Directory, "opinion-"+spendfile.FileName), time.Now)
	if err != nil {
		return nil, fmt.Errorf("the books of what a language model was asked: %w", err)
	}
	s.OnClose(st.Close)
	return st, nil
}

// Advisor makes what asks the language model of the configuration about doubtful cases. done closes its connections.
func Advisor(c *config.Config, books spend.Store, log *slog.Logger) (_ *opinion.Advisor, done func() error, err error) {
	o := &c.Escalation.Opinion
	if o.Model == "" {
		return nil, nil, errors.New("escalation.opinion.model: name a language model")
	}
	kind, base, key := "compatible", o.URL, o.Key
	var transport http.RoundTripper
	if base == "" {
		kind, base, key = "gateway", strings.TrimRight(c.PromptRouter.URL, "/")+"/v1", c.Auth.EscalationEngine.Key
		if err := service.NeedKey("auth.escalationEngine.key", key, "internal.certificateFile", c.Internal.CertificateFile, "prompt-router must know this service (or set escalation.opinion.url for another server)"); err != nil {
			return nil, nil, err
		}
		client, err := service.InternalClient(&c.Internal)
		if err != nil {
			return nil, nil, err
		}
		transport = client.Transport
	}
	form, _, err := provider.Named(kind)
	if err != nil {
		return nil, nil, err
	}
	prices, err := serve.Prices(&c.Gateway)
	if err != nil {
		return nil, nil, err
	}
	cost, known := prices.Of(o.Model)
	limit := spend.Limit{Calls: int64(o.PerDay), Cost: price.Dollars(o.DollarsPerDay)}
	if limit.Cost > 0 && !known {
		return nil, nil, fmt.Errorf("escalation.opinion.dollarsPerDay: no price is known of %q: name it in gateway.prices, or bound the cost at prompt-router (gateway.keys, name: escalation-engine)", o.Model)
	}
	options := backend.Options{Name: "the language model", Form: form, Base: base, Timeout: o.Timeout, Transport: transport, Log: log, Now: time.Now}
	if key != "" {
		options.Keys = []backend.Key{{Secret: key}}
	}
	b, err := backend.New(options)
	if err != nil {
		return nil, nil, fmt.Errorf("escalation.opinion.url: %w", err)
	}
	a := opinion.New(opinion.Options{Model: opinion.Server{Backend: b}, Name: o.Model, Day: limit, Price: cost, Books: books, Now: time.Now})
	return a, func() error { b.Close(); return nil }, nil
}
