// Package router is prompt-router, the one address of language models for programs inside: it chooses by the size of a prompt, by where it may go, by
// what it needs, and by cost, latency and health which of the owner's servers, or the cloud by way of cloud-proxy, is to answer.
package router

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/pattern"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
)

// Server is a server that calls may go to.
type Server struct {
	Backend *backend.Backend
	Local   bool     // the owner's own: what must not leave may go there
	Models  []string // names of its models, or patterns; none: any
	Context int      // tokens that prompt and answer may have together; 0: not bounded
	// What it can do.
	Tools, Vision, JSON, Embeddings bool
}

// Target is a server in a rule, with the name that the model has there; "": the caller's.
type Target struct {
	Server *Server
	Model  string
}

// The orders in which a rule's targets are tried.
const (
	PreferOrder   = "order"   // as they are written; within a group the least busy first
	PreferCost    = "cost"    // the cheapest first
	PreferLatency = "latency" // the quickest of late first
)

// Rule says where calls go that it fits. The first that fits counts.
type Rule struct {
	Name      string
	Models    []string // that the caller names, or patterns; none: any
	Callers   []string // none: any
	MaxTokens int      // of the prompt; 0: any
	Groups    [][]Target
	Prefer    string // "": PreferOrder
	Cache     bool
	Priority  int
}

// Router chooses by rules. It is a gateway.Chooser.
type Router struct {
	rules   []Rule
	servers []*Server
	prices  *price.Prices
	counter *tokens.Counter
	counts  bool // some rule or server depends on the number of tokens
}

var _ gateway.Chooser = (*Router)(nil)

// New returns a router of the rules, whose targets are of the servers.
func New(rules []Rule, servers []*Server, prices *price.Prices, counter *tokens.Counter) (*Router, error) {
	if len(rules) == 0 {
		return nil, errors.New("there is no language model to ask: set QUICKTHORN_PROMPT_ROUTER_LOCAL_URL for a local one, or QUICKTHORN_CLOUD_PROXY_URL")
	}
	r := &Router{rules: rules, servers: servers, prices: prices, counter: counter}
	for i := range rules {
		r.counts = r.counts || rules[i].MaxTokens > 0
		for _, patterns := range [][]string{rules[i].Models, rules[i].Callers} {
			if err := pattern.Check(patterns...); err != nil {
				return nil, fmt.Errorf("route %q: %w", rules[i].Name, err)
			}
		}
	}
	for _, s := range servers {
		r.counts = r.counts || s.Context > 0
		if err := pattern.Check(s.Models...); err != nil {
			return nil, fmt.Errorf("server %q: %w", s.Backend.Name(), err)
		}
	}
	return r, nil
}

// Close closes the connections that no call uses.
func (r *Router) Close() {
	for _, s := range r.servers {
		s.Backend.Close()
	}
}

// Ready is nil while one of the servers may answer; the error says what is wrong with each.
func (r *Router) Ready() error {
	var all []error
	for _, s := range r.servers {
		err := s.Backend.Ready()
		if err == nil {
			return nil
		}
		all = append(all, fmt.Errorf("%s: %w", s.Backend.Name(), err))
	}
	return errors.Join(all...)
}

// Call is what a choice depends on.
type Call struct {
	Caller, Model                string
	Tokens, Answer               int // of the prompt; that the answer may have, 0: not said
	LocalOnly                    bool
	Tools, Vision, JSON, Vectors bool
}

// Decision is where a call goes, and why.
type Decision struct {
	Route  gateway.Route
	Passed []string // for each rule and server that was passed over: why
}

// Describe finds out what a choice depends on.
func (r *Router) Describe(caller string, h http.Header, q *chat.Request) Call {
	c := Call{Caller: caller, Model: q.Model, Answer: q.MaxTokens, LocalOnly: h.Get(gateway.PrivacyHeader) == gateway.LocalOnly, Tools: len(q.Tools) > 0}
	c.JSON = q.ResponseFormat != nil && q.ResponseFormat.Type != "text"
	for i := range q.Messages {
		for j := range q.Messages[i].Content {
			c.Vision = c.Vision || q.Messages[i].Content[j].ImageURL != nil
		}
	}
	if r.counts {
		c.Tokens = r.counter.Request(q)
	}
	return c
}

// Decide chooses. The error says why nobody may answer.
func (r *Router) Decide(c Call) (Decision, *chat.Error) {
	var d Decision
	var reason string // of what the first rule that knows the model was passed over for
	pass := func(format string, args ...any) {
		d.Passed = append(d.Passed, fmt.Sprintf(format, args...))
		if reason == "" {
			reason = d.Passed[len(d.Passed)-1]
		}
	}
	known := false
	for i := range r.rules {
		rule := &r.rules[i]
		switch {
		case !pattern.Any(rule.Models, c.Model), !pattern.Any(rule.Callers, c.Caller):
			continue
		case rule.MaxTokens > 0 && c.Tokens > rule.MaxTokens:
			known = true
			pass("%s tokens > %s limit %s", number(c.Tokens), rule.Name, number(rule.MaxTokens))
			continue
		}
		known = true
		candidates, why := r.candidates(rule, &c, pass)
		if len(candidates) == 0 {
			continue
		}
		d.Route = gateway.Route{Name: rule.Name, Candidates: candidates, Cache: rule.Cache, Priority: rule.Priority}
		d.Route.Why = fmt.Sprintf("went to %s: %s", candidates[0].Backend.Name(), cmp.Or(reason, why, "route "+rule.Name+" fits"))
		return d, nil
	}
	if !known {
		return d, &chat.Error{Status: http.StatusNotFound, Type: chat.ErrorInvalid, Param: "model", Code: gateway.CodeNoModel, Message: fmt.Sprintf("no route knows the model %.80q: see GET /v1/models", c.Model)}
	}
	return d, &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Code: "no_route", Message: "no server may answer this call: " + strings.Join(d.Passed, "; ")}
}

// candidates are the rule's targets that may answer, in the order in which they are tried.
func (r *Router) candidates(rule *Rule, c *Call, pass func(string, ...any)) (list []gateway.Candidate, why string) {
	type weighed struct {
		gateway.Candidate
		group   int
		cost    price.Money
		away    bool
		busy    int
		latency time.Duration
	}
	var all []weighed
	for i, group := range rule.Groups {
		for _, t := range group {
			s, model := t.Server, cmp.Or(t.Model, c.Model)
			name := s.Backend.Name()
			if lack := s.lacks(c, model); lack != "" {
				pass("%s %s", name, lack)
				continue
			}
			w := weighed{Candidate: gateway.Candidate{Backend: s.Backend, Model: model}, group: i, busy: s.Backend.InFlight(), latency: s.Backend.Latency()}
			if err := s.Backend.Ready(); err != nil {
				w.away = true // it comes last: it may be back by then
				pass("%s is away: %s", name, err)
			}
			if p, ok := r.prices.Of(model); ok && !s.Local {
				w.cost = p.Cost(&chat.Usage{PromptTokens: max(c.Tokens, 1000), CompletionTokens: cmp.Or(c.Answer, 500)})
			} else if !s.Local {
				w.cost = price.Money(1 << 62) // of what nobody knows the price is the dearest
			}
			all = append(all, w)
		}
	}
	slices.SortStableFunc(all, func(a, b weighed) int {
		if a.away != b.away {
			if a.away {
				return 1
			}
			return -1
		}
		switch rule.Prefer {
		case PreferCost:
			return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.busy, b.busy))
		case PreferLatency:
			return cmp.Or(cmp.Compare(a.latency, b.latency), cmp.Compare(a.busy, b.busy)) // one that is not known is tried, so that it gets known
		}
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.busy, b.busy))
	})
	for i := range all {
		list = append(list, all[i].Candidate)
	}
	if len(all) > 1 && rule.Prefer != "" && rule.Prefer != PreferOrder {
		why = "it has the lowest " + rule.Prefer
	}
	return list, why
}

// lacks says what the server cannot do for a call, "" if it can.
func (s *Server) lacks(c *Call, model string) string {
	switch {
	case c.LocalOnly && !s.Local:
		return "is not the owner's own, and the call is to stay local"
	case !pattern.Any(s.Models, model):
		return fmt.Sprintf("has no model %.80q", model)
	case c.Vectors && !s.Embeddings:
		return "makes no embeddings"
	case c.Tools && !s.Tools:
		return "knows no tools"
	case c.Vision && !s.Vision:
		return "sees no images"
	case c.JSON && !s.JSON:
		return "cannot be held to a form in JSON"
	case s.Context > 0 && c.Tokens+c.Answer > s.Context:
		return fmt.Sprintf("has a context of %s tokens, and %s are wanted", number(s.Context), number(c.Tokens+c.Answer))
	}
	return ""
}

// number writes a number with commas between thousands.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Chat implements gateway.Chooser.
func (r *Router) Chat(caller string, h http.Header, q *chat.Request) (gateway.Route, *chat.Error) {
	d, err := r.Decide(r.Describe(caller, h, q))
	return d.Route, err
}

// Embed implements gateway.Chooser.
func (r *Router) Embed(caller string, h http.Header, q *chat.EmbeddingRequest) (gateway.Route, *chat.Error) {
	c := Call{Caller: caller, Model: q.Model, LocalOnly: h.Get(gateway.PrivacyHeader) == gateway.LocalOnly, Vectors: true}
	if r.counts {
		c.Tokens = r.counter.Embedding(q)
	}
	d, err := r.Decide(c)
	d.Route.Cache = false
	return d.Route, err
}

// Models implements gateway.Chooser: the names that rules and servers have, without patterns.
func (r *Router) Models(caller string) []gateway.Model {
	var list []gateway.Model
	add := func(name, owner string) {
		if pattern.Exact(name) && !slices.ContainsFunc(list, func(m gateway.Model) bool { return m.ID == name }) {
			list = append(list, gateway.Model{ID: name, Object: "model", OwnedBy: owner})
		}
	}
	for i := range r.rules {
		rule := &r.rules[i]
		if !pattern.Any(rule.Callers, caller) {
			continue
		}
		for _, m := range rule.Models {
			add(m, rule.Name)
		}
		for _, group := range rule.Groups {
			for _, t := range group {
				for _, m := range t.Server.Models {
					if t.Model == "" && pattern.Any(rule.Models, m) {
						add(m, t.Server.Backend.Name())
					}
				}
			}
		}
	}
	return list
}
