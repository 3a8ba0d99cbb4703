// Package serve makes of the configuration what prompt-router and cloud-proxy have in common: the books, the prices and the bounds of a gateway.
package serve

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendfile"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendredis"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/service"
)

// Prices returns the table of prices with the owner's above it.
func Prices(c *config.Gateway) (*price.Prices, error) {
	var own []price.Override
	for _, p := range c.Prices {
		own = append(own, price.Override{Model: p.Model, Input: price.Dollars(p.Input), Cached: price.Dollars(p.Cached), Output: price.Dollars(p.Output)})
	}
	return price.New(own...)
}

// accounts returns the callers with their bounds.
func accounts(c *config.Gateway) []gateway.Account {
	var list []gateway.Account
	for _, k := range c.Keys {
		name := k.Name
		if k.Hash != "" {
			name = auth.ModelKeyPrefix + name
		}
		list = append(list, gateway.Account{
			Name: name, Models: k.Models, PerMinute: k.PerMinute, Day: spend.Limit{Calls: int64(k.PerDay), Tokens: int64(k.TokensPerDay), Cost: price.Dollars(k.DollarsPerDay)},
		})
	}
	return list
}

// Gateway returns the options of a service's gateway, but for its chooser. The books are in Redis where that is the state store, and in a file of the
// data directory otherwise.
func Gateway(s *service.Service, name string) (o gateway.Options, counter *tokens.Counter, err error) {
	c := &s.Config.Gateway
	prices, err := Prices(c)
	if err != nil {
		return o, nil, err
	}
	store, err := books(s, name)
	if err != nil {
		return o, nil, fmt.Errorf("the books of what callers use: %w", err)
	}
	counter = &tokens.Counter{}
	b, err := gateway.NewBooks(gateway.BooksOptions{
		Store: store, Accounts: accounts(c), Prices: prices, Answer: c.AnswerTokens, Counter: counter, Log: s.Log, Now: time.Now,
	})
	if err != nil {
		return o, nil, fmt.Errorf("gateway.keys: %w", err)
	}
	s.Background("books of what callers use", service.UntilEnded(b.Run))
	m := gateway.NewMetrics()
	if err := s.Metrics.Registry.Register(m); err != nil {
		return o, nil, fmt.Errorf("metrics: %w", err)
	}
	return gateway.Options{
		Books: b, Prices: prices, Metrics: m, Retries: c.Retries, RefuseUnknown: c.UnknownFields == "refuse", MaxRequest: int64(c.RequestBytes), MaxInFlight: c.MaxInFlight,
		AccessLog: c.AccessLog, LogPrompts: c.LogPrompts, Log: s.Log, Now: time.Now,
	}, counter, nil
}

func books(s *service.Service, name string) (spend.Store, error) {
	c := s.Config
	if c.State.Store == "redis" {
		o, err := redisconn.Configured(&c.State.Redis)
		if err != nil {
			return nil, err
		}
		st, err := spendredis.Open(o)
		if err != nil {
			return nil, fmt.Errorf("state.redis: %w", err)
		}
		s.OnClose(st.Close)
		return st, nil
	}
	if err := service.MakeData(c); err != nil {
		return nil, err
	}
	st, err := spendfile.Open(filepath.Join(c.Data.Directory, name+"-"+spendfile.FileName), time.Now)
	if err != nil {
		return nil, err
	}
	s.OnClose(st.Close)
	return st, nil
}

// Spending serves GET /v1/spending[?day=2026-11-28]: to the operator what every caller has used, to a caller what it has used itself.
type Spending struct {
	Books   *gateway.Books
	Callers []string // services that call, which have an account without being named in the configuration
	Now     func() time.Time
}

// Register adds the route.
func (s *Spending) Register(mux *http.ServeMux) { mux.HandleFunc("GET /v1/spending", s.get) }

func (s *Spending) get(w http.ResponseWriter, r *http.Request) {
	d := spend.DateOf(s.Now())
	if text := r.URL.Query().Get("day"); text != "" {
		var err error
		if d, err = spend.ParseDate(text); err != nil {
			private.Problem(w, http.StatusBadRequest, "day: "+err.Error())
			return
		}
	}
	caller := auth.Caller(r.Context())
	names := []string{caller}
	if caller == auth.Operator {
		names = slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, s.Callers, s.Books.Accounts()))))
	}
	list, err := s.Books.Spending(r.Context(), names, d)
	if err != nil {
		private.Problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	private.JSON(w, map[string]any{"spending": list})
}

// More are the callers that the configuration has given keys of their own.
func More(c *config.Gateway) []string {
	for i := range c.Keys {
		if c.Keys[i].Hash != "" {
			return []string{auth.AnyModelKey}
		}
	}
	return nil
}

// API is the gateway with what callers have spent.
type API struct {
	*gateway.API
	Spending *Spending
}

// Register adds the routes of both.
func (a API) Register(mux *http.ServeMux) {
	a.API.Register(mux)
	a.Spending.Register(mux)
}
