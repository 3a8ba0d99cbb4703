// Package gateway serves the API of OpenAI in front of servers of language models. It chooses none: a Chooser says which servers a call may go
// to, in order, and the gateway asks one after the other until it is answered, waiting a little between rounds as they ask for. Once the first piece of
// a stream has been passed on nothing is asked again.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/plain"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Bounds where the options name none.
const (
	DefaultRequest  = 4 << 20
	DefaultInFlight = 1024
	defaultIdle     = time.Minute
)

// Waits between rounds.
const (
	firstWait   = 250 * time.Millisecond
	longestWait = 10 * time.Second // a longer one is left to the caller
)

// Candidate is a server that may answer a call, with the model's name there.
type Candidate struct {
	Backend *backend.Backend
	Model   string
}

// Route is where a call goes.
type Route struct {
	Name       string // in metrics and logs
	Candidates []Candidate
	Why        string // in a sentence
	Cache      bool   // the answer may be one that was given before
	Priority   int    // in the queue: the higher goes first
}

// Model is a model that callers can name.
type Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"` // "model"
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"` // the server
}

// Chooser says where calls go. Errors are what the caller is told.
type Chooser interface {
	Chat(caller string, h http.Header, r *chat.Request) (Route, *chat.Error)
	Embed(caller string, h http.Header, r *chat.EmbeddingRequest) (Route, *chat.Error)
	Models(caller string) []Model
}

// Options are the settings of an API. Chooser, Metrics, Log and Now are required.
type Options struct {
	Chooser Chooser
	Books   *Books // nil: what callers use is not kept
	Cache   *Cache // nil: none
	Queue   *Queue // nil: calls beyond MaxInFlight are refused
	Prices  *price.Prices
	Metrics *Metrics

	Retries       int   // rounds after the first one, at most
	RefuseUnknown bool  // refuse calls with fields that the gateway does not know, instead of passing them on
	MaxRequest    int64 // bytes of a call, held in memory; 0: 4 MiB
	MaxInFlight   int   // calls at once; 0: 1024
	Idle          time.Duration
	AccessLog     bool // log each call, without what it says
	LogPrompts    bool // log what calls say as well

	Log    *slog.Logger
	Now    func() time.Time
	Random func() float64 // in [0,1); nil: math/rand's
}

// API serves
//
//	POST /v1/chat/completions   https://platform.openai.com/docs/api-reference/chat
//	POST /v1/responses          https://platform.openai.com/docs/api-reference/responses, without what needs a memory of earlier ones
//	POST /v1/embeddings         https://platform.openai.com/docs/api-reference/embeddings
//	GET  /v1/models             the models that the caller may name
//
// Errors are {"error":{"message","type","param","code"}}. Whoever mounts it must ask for authentication first.
type API struct {
	o       Options
	slots   chan struct{}
	counter *counter // that of the books, if there are some
}

// New returns the API.
func New(o Options) *API {
	if o.MaxRequest == 0 {
		o.MaxRequest = DefaultRequest
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = DefaultInFlight
	}
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	a := &API{o: o, slots: make(chan struct{}, o.MaxInFlight), counter: &counter{}}
	if o.Books != nil {
		a.counter = o.Books.o.Counter
	}
	return a
}

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, q *http.Request) {
		a.serve(w, q, func(c *call, body []byte) *chat.Error {
			r, err := chat.ParseRequest(body)
			if err != nil {
				return invalid(err)
			}
			return c.chat(r, &chatForm{told: r.StreamOptions != nil && r.StreamOptions.IncludeUsage})
		})
	})
	mux.HandleFunc("POST /v1/responses", func(w http.ResponseWriter, q *http.Request) {
		a.serve(w, q, func(c *call, body []byte) *chat.Error {
			r, form, err := parseResponses(body, a.o.Now())
			if err != nil {
				return err
			}
			return c.chat(r, form)
		})
	})
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, q *http.Request) {
		a.serve(w, q, func(c *call, body []byte) *chat.Error {
			r, err := chat.ParseEmbedding(body)
			if err != nil {
				return invalid(err)
			}
			return c.embed(r)
		})
	})
	mux.HandleFunc("GET /v1/models", a.models)
	mux.HandleFunc("GET /v1/models/{id...}", a.model)
}

// invalid is the error of a call that cannot be read; what is before the colon is the field.
func invalid(err error) *chat.Error {
	param, _, ok := strings.Cut(err.Error(), ":")
	if !ok || strings.ContainsAny(param, " \t") {
		param = ""
	}
	return &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Param: param, Message: err.Error()}
}

func (a *API) models(w http.ResponseWriter, q *http.Request) {
	list := a.o.Chooser.Models(auth.Caller(q.Context()))
	if list == nil {
		list = []Model{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func (a *API) model(w http.ResponseWriter, q *http.Request) {
	list := a.o.Chooser.Models(auth.Caller(q.Context()))
	i := slices.IndexFunc(list, func(m Model) bool { return m.ID == q.PathValue("id") })
	if i < 0 {
		writeError(w, &chat.Error{Status: http.StatusNotFound, Type: chat.ErrorInvalid, Code: CodeNoModel, Param: "model", Message: "there is no such model here"})
		return
	}
	writeJSON(w, http.StatusOK, list[i])
}

// CodeNoModel is the code of the error that there is no such model, as OpenAI has it.
const CodeNoModel = "model_not_found"

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"message":"the answer cannot be written as JSON","type":"server_error"}}`)
	}
	begin(w, status, "application/json")
	_, _ = w.Write(append(b, '\n')) // an error means that the caller is gone
}

func begin(w http.ResponseWriter, status int, media string) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
}

func writeError(w http.ResponseWriter, e *chat.Error) {
	writeJSON(w, e.Status, map[string]any{"error": e})
}

// call is one call and its answer.
type call struct {
	a       *API
	w       http.ResponseWriter
	q       *http.Request
	ctx     context.Context
	control *http.ResponseController
	caller  string
	began   time.Time

	route    Route
	asked    string // the model that the caller named
	used     Candidate
	usage    *chat.Usage
	cost     price.Money
	first    time.Duration // until the first piece of a stream
	attempts int
	lost     int // attempts that may be answered, and charged for, though nobody has the answer
	cached   bool
	status   int
	begun    bool
	failure  string
	body     []byte
}

// statusGone is what the log and the metrics say of a call whose caller has gone.
const statusGone = 499

// serve reads a call, has it answered, and writes the error if it is not.
func (a *API) serve(w http.ResponseWriter, q *http.Request, do func(*call, []byte) *chat.Error) {
	c := &call{a: a, w: w, q: q, control: http.NewResponseController(w), caller: auth.Caller(q.Context()), began: a.o.Now(), status: http.StatusOK}
	a.o.Metrics.inFlight.Inc()
	defer a.o.Metrics.inFlight.Dec()
	ctx, cancel := deadline(q)
	defer cancel()
	c.ctx = ctx
	err := c.enter()
	if err == nil {
		defer func() { <-a.slots }()
		if c.body, err = c.read(); err == nil {
			err = do(c, c.body)
		}
	}
	if err != nil {
		c.status, c.failure = err.Status, err.Message
		switch {
		case c.begun:
		case q.Context().Err() != nil:
			c.status = statusGone
		default:
			writeError(w, err)
		}
	}
	c.report()
	if c.begun && err != nil {
		panic(http.ErrAbortHandler) // the caller must not take a part for the whole
	}
}

// deadline is the call's context: the caller says how long it waits in a header of ours, or as OpenAI's libraries do.
func deadline(q *http.Request) (context.Context, context.CancelFunc) {
	if ms, err := strconv.ParseInt(q.Header.Get(backend.DeadlineHeader), 10, 32); err == nil && ms > 0 {
		return context.WithTimeout(q.Context(), time.Duration(ms)*time.Millisecond)
	}
	if s, err := strconv.ParseFloat(q.Header.Get("X-Stainless-Timeout"), 64); err == nil && s > 0 && s < 86400 {
		return context.WithTimeout(q.Context(), time.Duration(s*float64(time.Second)))
	}
	return context.WithCancel(q.Context())
}

// enter takes one of the slots.
func (c *call) enter() *chat.Error {
	select {
	case c.a.slots <- struct{}{}:
		return nil
	default:
		c.w.Header().Set("Retry-After", "1")
		return &chat.Error{Status: http.StatusTooManyRequests, Type: chat.ErrorRate, Code: backend.CodeBusy, Message: fmt.Sprintf("%d calls are under way, which is the limit", cap(c.a.slots))}
	}
}

// read reads the call as a whole.
func (c *call) read() ([]byte, *chat.Error) {
	fail := func(status int, format string, args ...any) ([]byte, *chat.Error) {
		return nil, &chat.Error{Status: status, Type: chat.ErrorInvalid, Message: fmt.Sprintf(format, args...)}
	}
	limit := c.a.o.MaxRequest
	if kind, _, err := mime.ParseMediaType(c.q.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fail(http.StatusUnsupportedMediaType, "send the call as application/json")
	}
	if coding := c.q.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fail(http.StatusUnsupportedMediaType, "send the call without a content coding")
	}
	if c.q.ContentLength > limit {
		return fail(http.StatusRequestEntityTooLarge, "the call has %d bytes, more than %d", c.q.ContentLength, limit)
	}
	// The server clears it when the body has been read. Where it cannot be set the connection is gone, or there is none, as in a test; the read tells.
	_ = c.control.SetReadDeadline(time.Now().Add(c.a.o.Idle))
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.q.Body, limit))
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case errors.As(err, &large):
		return fail(http.StatusRequestEntityTooLarge, "the call has more than %d bytes", limit)
	case errors.As(err, &slow) && slow.Timeout():
		return fail(http.StatusRequestTimeout, "the call was not complete within %s", c.a.o.Idle)
	case err != nil:
		return fail(http.StatusBadRequest, "the call was not complete")
	}
	return body, nil
}

// PrivacyHeader says where a call may go: LocalOnly keeps it on the owner's own servers.
const (
	PrivacyHeader = "X-Quickthorn-Privacy"
	LocalOnly     = "local-only"
)

// passed are the headers that go on to a server.
var passed = []string{"X-Request-Id", "Traceparent"}

// headers are those of the call that go on: each stands once and is short and plain.
func (c *call) headers() http.Header {
	var h http.Header
	for _, name := range passed {
		v := c.q.Header[name]
		if len(v) == 1 && len(v[0]) <= 256 && !strings.ContainsFunc(v[0], func(r rune) bool { return r < ' ' || r > '~' }) {
			if h == nil {
				h = http.Header{}
			}
			h[name] = v
		}
	}
	return h
}

// ask has attempt made at the candidates in their order until one has no failure.
func (c *call) ask(attempt func(Candidate) *backend.Failure) *chat.Error {
	var last *backend.Failure
	for round := 0; ; round++ {
		pause := time.Duration(-1)
		for _, candidate := range c.route.Candidates {
			c.attempts++
			c.used = candidate
			f := attempt(candidate)
			if f == nil {
				return nil
			}
			last = worse(last, f)
			if f.Kind == backend.Gone || f.Kind == backend.Broken && f.Err.Status == http.StatusGatewayTimeout {
				c.lost++
			}
			if !f.Elsewhere() {
				return f.Err
			}
			if f.Again() && (pause < 0 || f.After < pause) {
				pause = f.After
			}
		}
		c.used = Candidate{}
		switch {
		case last == nil:
			return &chat.Error{Status: http.StatusServiceUnavailable, Type: chat.ErrorServer, Message: "there is no server for this call"}
		case pause < 0 || round >= c.a.o.Retries || pause > longestWait:
			c.retryAfter(pause)
			return last.Err
		}
		// Full jitter, doubling each round, and no less than the servers ask for.
		d := max(pause, time.Duration(c.a.o.Random()*float64(min(firstWait<<round, longestWait))))
		if end, ok := c.ctx.Deadline(); ok && end.Sub(c.a.o.Now()) <= d {
			c.retryAfter(pause)
			return last.Err
		}
		if !wait.For(c.ctx, d) {
			return &chat.Error{Status: http.StatusGatewayTimeout, Type: chat.ErrorServer, Message: "the caller has gone"}
		}
	}
}

// worse is the failure that says more: of several servers, what one says of the call counts more than that another is away.
func worse(a, b *backend.Failure) *backend.Failure {
	if a == nil || b.Kind == backend.Busy || a.Kind != backend.Busy {
		return b
	}
	return a
}

// retryAfter tells the caller when to come again.
func (c *call) retryAfter(d time.Duration) {
	if d >= 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(max(int((d+time.Second-1)/time.Second), 1)))
	}
}

// unknown is the error of a call with fields that the gateway does not know, if those are to be refused.
func (a *API) unknown(r *chat.Request) *chat.Error {
	if !a.o.RefuseUnknown {
		return nil
	}
	for name := range r.Extra {
		if !slices.Contains(openAIFields, name) {
			return &chat.Error{Status: http.StatusBadRequest, Type: chat.ErrorInvalid, Param: short(name), Message: fmt.Sprintf("%s: this field is not known here, and unknown fields are refused", short(name))}
		}
	}
	return nil
}

// short bounds a name that a caller wrote.
func short(name string) string { return plain.Clip(name, 80) }

// openAIFields are the fields of OpenAI's that have no place in chat.Request.
var openAIFields = []string{
	"audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "metadata", "modalities", "n", "prediction", "presence_penalty",
	"prompt_cache_key", "reasoning_effort", "safety_identifier", "service_tier", "store", "top_logprobs", "verbosity", "web_search_options",
}

// report counts and logs the call.
func (c *call) report() {
	m, o := c.a.o.Metrics, &c.a.o
	route := c.route.Name
	if route == "" {
		route = "none"
	}
	took := o.Now().Sub(c.began)
	m.requests.WithLabelValues(route, strconv.Itoa(c.status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
	if c.first > 0 {
		m.first.WithLabelValues(route).Observe(c.first.Seconds())
	}
	server := ""
	if c.used.Backend != nil {
		server = c.used.Backend.Name()
		m.used(route, server, c.usage, c.cost)
	}
	if !o.AccessLog {
		return
	}
	attrs := []slog.Attr{
		slog.String("caller", c.caller), slog.String("endpoint", c.q.URL.Path), slog.Int("status", c.status), slog.String("route", route), slog.String("backend", server),
		slog.String("model", short(c.asked)), slog.Int("attempts", c.attempts), slog.Duration("took", took),
	}
	if c.route.Why != "" {
		attrs = append(attrs, slog.String("why", c.route.Why))
	}
	if c.first > 0 {
		attrs = append(attrs, slog.Duration("first", c.first))
	}
	if c.cached {
		attrs = append(attrs, slog.Bool("cached", true))
	}
	if c.usage != nil {
		attrs = append(attrs, slog.Int("promptTokens", c.usage.PromptTokens), slog.Int("completionTokens", c.usage.Answer()), slog.String("dollars", c.cost.String()))
	}
	if c.failure != "" {
		attrs = append(attrs, slog.String("error", c.failure))
	}
	if o.LogPrompts {
		attrs = append(attrs, slog.String("call", string(c.body)))
	}
	o.Log.LogAttrs(context.Background(), slog.LevelInfo, "call of a language model", attrs...)
}
