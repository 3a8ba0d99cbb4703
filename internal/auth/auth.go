// Package auth says who calls a service: by a key of its own (Authorization: Bearer), or by a client certificate that
// the listener has verified. Each group of endpoints lists its callers.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/quickthorn/quickthorn/internal/private"
)

// The callers that services know. A source of events for the webhook is a caller of its own, named "source:NAME".
const (
	Operator         = "operator"          // the command line and whoever holds the API key: may do everything
	Proxy            = "proxy"             // edges
	AIService        = "ai-service"        // the intake
	EscalationEngine = "escalation-engine" // the judge
	PromptRouter     = "prompt-router"     // the address of language models
	CloudProxy       = "cloud-proxy"       // the holder of providers' keys: it calls nobody inside
)

// SourcePrefix begins the caller name of a webhook source.
const SourcePrefix = "source:"

// ModelKeyPrefix begins the caller name of a program that uses language models.
const ModelKeyPrefix = "key:"

// MinKey is the shortest key, in bytes.
const MinKey = 16

// Key is what a caller proves itself with. Previous, if not empty, is good as well, so
// that keys can be changed one process at a time.
type Key struct {
	Caller        string
	Key, Previous string
	// Hash is the key's SHA-256 in hexadecimal, where the key itself is not kept.
	Hash string
}

// Callers knows the keys. It is immutable.
type Callers struct{ hashes []hashed }

type hashed struct {
	caller string
	sum    [sha256.Size]byte
}

// New returns the callers of these keys; without any, only certificates are good. A key that is too short or that two callers share is an error: who calls could not be told.
func New(keys ...Key) (*Callers, error) {
	c := &Callers{}
	for _, k := range keys {
		if k.Hash != "" {
			sum, err := hex.DecodeString(k.Hash)
			if err != nil || len(sum) != sha256.Size {
				return nil, fmt.Errorf("the hash of caller %q's key is no SHA-256 in hexadecimal", k.Caller)
			}
			if err := c.add(k.Caller, [sha256.Size]byte(sum)); err != nil {
				return nil, err
			}
		}
		if k.Key == "" && k.Previous != "" {
			return nil, fmt.Errorf("caller %q has a previous key but no key", k.Caller)
		}
		for _, text := range []string{k.Key, k.Previous} {
			switch {
			case text == "":
				continue
			case len(text) < MinKey:
				return nil, fmt.Errorf("the key of caller %q has %d characters, want at least %d", k.Caller, len(text), MinKey)
			}
			if err := c.add(k.Caller, sha256.Sum256([]byte(text))); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// add makes a key known. One that another caller has is an error.
func (c *Callers) add(caller string, sum [sha256.Size]byte) error {
	for i := range c.hashes {
		switch h := &c.hashes[i]; {
		case h.sum != sum:
		case h.caller == caller:
			return nil
		default:
			return fmt.Errorf("callers %q and %q have the same key: give each its own", h.caller, caller)
		}
	}
	c.hashes = append(c.hashes, hashed{caller, sum})
	return nil
}

// identify returns who sent the request, "" when it does not say or says it wrongly. All keys are
// compared, whichever fits, so that the time tells nothing.
func (c *Callers) identify(r *http.Request) string {
	if sent, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		got, caller := sha256.Sum256([]byte(sent)), ""
		for i := range c.hashes {
			if subtle.ConstantTimeCompare(c.hashes[i].sum[:], got[:]) == 1 {
				caller = c.hashes[i].caller
			}
		}
		return caller
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	// The listener has verified the chain; the certificate's first DNS name is the caller's.
	leaf := r.TLS.VerifiedChains[0][0]
	name := leaf.Subject.CommonName
	if len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0]
	}
	if name == Operator {
		return "" // who may do everything is known by key alone: a certificate is issued to a name too easily
	}
	return name
}

type callerKey struct{}

// Caller returns who sent the request that ctx belongs to, "" outside of a guarded handler.
func Caller(ctx context.Context) string {
	s, _ := ctx.Value(callerKey{}).(string)
	return s
}

// Guard lets the request through to next if one of the named callers, or the operator, sent it. It answers 401 to who
// does not say who they are, and 403 to who may not do this.
func (c *Callers) Guard(next http.Handler, callers ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := c.identify(r)
		if who == "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="quickthorn"`)
			private.Problem(w, http.StatusUnauthorized, `send the key (the operator's is in DATA/`+private.KeyFile+`) as "Authorization: Bearer KEY"`)
			return
		}
		if !allowed(who, callers) {
			private.Problem(w, http.StatusForbidden, fmt.Sprintf("the key is that of %q, which may not do this", who))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
	})
}

// AnySource and AnyModelKey stand for every webhook source, and every program that uses language models, in Guard's list.
const (
	AnySource   = SourcePrefix + "*"
	AnyModelKey = ModelKeyPrefix + "*"
)

func allowed(who string, callers []string) bool {
	if who == Operator {
		return true
	}
	for _, c := range callers {
		if prefix, any := strings.CutSuffix(c, "*"); c == who || any && strings.HasPrefix(who, prefix) {
			return true
		}
	}
	return false
}

// Group is some endpoints and who may call them besides the operator.
type Group struct {
	API     private.Registrar
	Read    []string // callers of GET and HEAD
	Callers []string // callers of every method
	// Ready, if not nil, is asked before each call; its error is answered 503 to those who may call.
	Ready func() error
}

// retryAfter is what callers of a group that is not ready are told to wait, in seconds.
const retryAfter = "2"

// whenReady serves next while the group is ready.
func (g *Group) whenReady(next http.Handler) http.Handler {
	if g.Ready == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.Ready(); err != nil {
			w.Header().Set("Retry-After", retryAfter)
			w.Header().Set("Connection", "close") // behind a balancer the next try may reach another replica
			private.Problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Handler serves the groups, each to its callers. What belongs to none is not found, for whoever asks.
func (c *Callers) Handler(groups ...Group) http.Handler {
	type guarded struct {
		mux         *http.ServeMux
		read, write http.Handler
	}
	var all []guarded
	for _, g := range groups {
		mux := http.NewServeMux()
		g.API.Register(mux)
		api := g.whenReady(mux)
		all = append(all, guarded{mux, c.Guard(api, append(g.Read, g.Callers...)...), c.Guard(api, g.Callers...)})
	}
	nothing := c.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, g := range all {
			if methods := methodsAt(g.mux, r); methods != "" {
				w.Header().Set("Allow", methods)
				private.Problem(w, http.StatusMethodNotAllowed, "This address takes "+methods+".")
				return
			}
		}
		private.Problem(w, http.StatusNotFound, "There is nothing at this address.")
	}), Proxy, AIService, EscalationEngine, PromptRouter, AnySource, AnyModelKey)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, g := range all {
			if _, pattern := g.mux.Handler(r); pattern == "" {
				continue
			}
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				g.read.ServeHTTP(w, r)
			} else {
				g.write.ServeHTTP(w, r)
			}
			return
		}
		nothing.ServeHTTP(w, r)
	})
}

// methodsAt lists the methods that the mux serves at the request's address.
func methodsAt(mux *http.ServeMux, r *http.Request) string {
	var list []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := mux.Handler(other); pattern != "" {
			list = append(list, m)
		}
	}
	return strings.Join(list, ", ")
}
