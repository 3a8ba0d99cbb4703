package decision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Limits of the API.
const (
	maxBody     = 8 << 20 // of POST /v1/decisions
	defaultList = 100
	maxList     = 10_000
	maxWait     = 60 * time.Second
	maxWaiting  = 1024 // requests that wait for a change at once; beyond, they are answered at once
)

// API serves a Log over HTTP:
//
//	GET    /v1/decisions                     what is in force, latest first; client=, value=, action=, origin=, before=, limit=
//	GET    /v1/decisions?since=N             changes after N in order; snapshot=, limit=, wait=, mode=; 410 when too far behind
//	GET    /v1/decisions/{id}
//	GET    /v1/decisions/export              what is in force as NDJSON
//	POST   /v1/decisions                     one decision or an array, all or none; force=true
//	POST   /v1/decisions/import              a stream; format=, origin=, action=, reason=, site=, expires=, force=
//	DELETE /v1/decisions/{id}
//	DELETE /v1/decisions?value=…             also client=, action=, origin=
//
// Bodies are JSON unless said otherwise, problems are application/problem+json
// (RFC 9457) with the decision's index and field where there is one. Whoever mounts it must ask
// for authentication first and set the time limits of the connection: an import may take long.
//
// With wait=25s an answer to since= that would be empty is held back until there is a change, for that long, at most
// a minute. With mode=M, the mode that the caller knows of, another mode is a change too.
//
// The fields are optional; set them before Register.
type API struct {
	// Mode returns the mode in force, which answers to since= then carry; nil: they do not.
	Mode func() defense.Mode
	// ModeChanged returns a channel that is closed when the mode changes; nil: who waits learns of it at the end of the wait.
	ModeChanged func() <-chan struct{}
	// Done ends all waiting when it is closed, as a shutdown does not end requests by itself; nil: nothing does.
	Done <-chan struct{}

	log     *Log
	now     func() time.Time
	waiting atomic.Int64
}

// NewAPI returns the API of a log. A nil now is time.Now.
func NewAPI(log *Log, now func() time.Time) *API {
	if now == nil {
		now = time.Now
	}
	return &API{log: log, now: now}
}

// Register adds the API's routes to mux.
func (a *API) Register(mux *http.ServeMux) {
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/decisions":         a.get,
		"GET /v1/decisions/{id}":    a.getOne,
		"GET /v1/decisions/export":  a.export,
		"POST /v1/decisions":        a.add,
		"POST /v1/decisions/import": a.importStream,
		"DELETE /v1/decisions":      a.deleteWhere,
		"DELETE /v1/decisions/{id}": a.deleteOne,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			if err := h(w, r); err != nil {
				writeProblem(w, problemOf(err))
			}
		})
	}
}

// Listing is the answer to GET /v1/decisions.
type Listing struct {
	Decisions []defense.Decision `json:"decisions"`
	Before    uint64             `json:"before,omitempty"` // ask again with before= this for more; 0: that was all
}

// changesAnswer is the answer to GET /v1/decisions?since=N.
type changesAnswer struct {
	Changes  []Change `json:"changes"`
	Since    uint64   `json:"since"`              // ask again with since= this
	Snapshot uint64   `json:"snapshot,omitempty"` // and snapshot= this
	More     bool     `json:"more"`

	Mode *defense.Mode `json:"mode,omitempty"` // in force
}

// Deleted is the answer to a DELETE.
type Deleted struct {
	Deleted int `json:"deleted"`
}

// query reads the parameters of a request; the first problem stays.
type query struct {
	v   url.Values
	err error
}

// params returns the request's query if it has no parameters but those allowed.
func params(r *http.Request, allowed ...string) *query {
	q := &query{}
	if q.v, q.err = url.ParseQuery(r.URL.RawQuery); q.err != nil {
		q.err = &InvalidError{"query", q.err.Error()}
		return q
	}
next:
	for name, vs := range q.v {
		for _, a := range allowed {
			if a == name {
				if len(vs) > 1 {
					q.fail(name, "given more than once")
				}
				continue next
			}
		}
		q.fail("query", fmt.Sprintf("unknown parameter %s: use %s", quote(name), strings.Join(allowed, ", ")))
	}
	return q
}

func (q *query) fail(name, problem string) {
	if q.err == nil {
		q.err = &InvalidError{name, problem}
	}
}

func (q *query) uint(name string, most uint64) uint64 {
	s := q.v.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most {
		q.fail(name, fmt.Sprintf("%s is not a number from 0 to %d", quote(s), most))
	}
	return n
}

func (q *query) bool(name string) bool {
	switch s := q.v.Get(name); s {
	case "", "false":
		return false
	case "true":
		return true
	default:
		q.fail(name, "use true or false")
		return false
	}
}

// duration reads "25s" or a number of seconds.
func (q *query) duration(name string, most time.Duration) time.Duration {
	s := q.v.Get(name)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 || d > most {
		q.fail(name, fmt.Sprintf("%s is not a duration of up to %s, such as 25s", quote(s), most))
		return 0
	}
	return d
}

func (q *query) mode(name string) *defense.Mode {
	s := q.v.Get(name)
	if s == "" {
		return nil
	}
	m, err := defense.ParseMode(s)
	if err != nil {
		q.fail(name, err.Error())
	}
	return &m
}

func (q *query) action() *defense.Action {
	s := q.v.Get("action")
	if s == "" {
		return nil
	}
	a, err := defense.ParseAction(s)
	if err != nil {
		q.fail("action", err.Error())
	}
	return &a
}

func (q *query) filter() Filter {
	f := Filter{Value: q.v.Get("value"), Action: q.action(), Origin: q.v.Get("origin")}
	if s := q.v.Get("client"); s != "" {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			q.fail("client", quote(s)+" is not an IP address")
		}
		f.Client = a
	}
	return f
}

func (a *API) get(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("since") {
		return a.since(w, r)
	}
	q := params(r, "client", "value", "action", "origin", "before", "limit")
	f := q.filter()
	f.Before = q.uint("before", 1<<63)
	limit := int(q.uint("limit", maxList))
	if q.err != nil {
		return q.err
	}
	if limit == 0 {
		limit = defaultList
	}
	ds := a.log.set.List(f, a.now(), limit+1)
	answer := Listing{Decisions: ds}
	if len(ds) > limit {
		answer = Listing{Decisions: ds[:limit], Before: ds[limit-1].Sequence}
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (a *API) since(w http.ResponseWriter, r *http.Request) error {
	q := params(r, "since", "snapshot", "limit", "wait", "mode")
	from := Position{After: q.uint("since", 1<<63), Snapshot: q.uint("snapshot", 1<<63)}
	limit := int(q.uint("limit", maxList))
	wait, known := q.duration("wait", maxWait), q.mode("mode")
	if q.err != nil {
		return q.err
	}
	if limit == 0 {
		limit = maxList
	}
	p, mode, err := a.await(r.Context(), from, limit, wait, known)
	if err != nil {
		return err
	}
	if p.Changes == nil {
		p.Changes = []Change{}
	}
	return writeJSON(w, http.StatusOK, changesAnswer{Changes: p.Changes, Since: p.Next.After, Snapshot: p.Next.Snapshot, More: p.More, Mode: mode})
}

// await is Since that waits, when there would be nothing to tell, for a change of decisions or of the known mode.
func (a *API) await(ctx context.Context, from Position, limit int, wait time.Duration, known *defense.Mode) (Page, *defense.Mode, error) {
	if a.waiting.Add(1) > maxWaiting {
		wait = 0
	}
	defer a.waiting.Add(-1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for last := wait == 0; ; {
		// The channels first, so that no change is missed between looking and waiting.
		changed := a.log.Changed()
		var modeChanged <-chan struct{}
		if a.ModeChanged != nil {
			modeChanged = a.ModeChanged()
		}
		var mode *defense.Mode
		if a.Mode != nil {
			m := a.Mode()
			mode = &m
		}
		p, err := a.log.Since(ctx, from, limit)
		news := len(p.Changes) > 0 || p.More || p.Next != from || known != nil && mode != nil && *known != *mode
		if err != nil || news || last {
			return p, mode, err
		}
		select {
		case <-changed:
		case <-modeChanged:
		case <-timer.C:
			last = true
		case <-a.Done:
			last = true
		case <-ctx.Done():
			return p, mode, context.Cause(ctx)
		}
	}
}

func (a *API) getOne(w http.ResponseWriter, r *http.Request) error {
	d, ok := a.log.set.Get(r.PathValue("id"))
	if !ok {
		return errNotFound
	}
	return writeJSON(w, http.StatusOK, d)
}

func (a *API) export(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	begun := &begunWriter{w: w}
	err := a.log.Export(r.Context(), begun)
	if err != nil && begun.yes {
		// The status is gone: break the connection, so that the client sees the export is cut short.
		panic(http.ErrAbortHandler)
	}
	return err
}

// begunWriter knows whether anything was written.
type begunWriter struct {
	w   io.Writer
	yes bool
}

func (b *begunWriter) Write(p []byte) (int, error) {
	b.yes = true
	return b.w.Write(p)
}

func (a *API) add(w http.ResponseWriter, r *http.Request) error {
	q := params(r, "force")
	o := AddOptions{Force: q.bool("force")}
	if q.err != nil {
		return q.err
	}
	if t := r.Header.Get("Content-Type"); t != "" {
		if m, _, err := mime.ParseMediaType(t); err != nil || m != "application/json" {
			return &statusError{http.StatusUnsupportedMediaType, "send application/json"}
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return err
	}
	elements, err := splitJSON(body)
	if err != nil {
		return err
	}
	if len(elements) > MaxBatch {
		return &InvalidError{Problem: fmt.Sprintf("%d decisions at once, at most %d: import them", len(elements), MaxBatch)}
	}
	ds := make([]defense.Decision, len(elements))
	for i, e := range elements {
		in, err := parseInput(e)
		if err == nil {
			if in.Origin == "" {
				in.Origin = "operator"
			}
			ds[i], err = in.decision()
		}
		if err != nil {
			return &ItemError{Index: i, Err: err}
		}
	}
	if ds, err = a.log.Add(r.Context(), ds, o); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, Listing{Decisions: ds})
}

func (a *API) importStream(w http.ResponseWriter, r *http.Request) error {
	q := params(r, "format", "origin", "action", "reason", "site", "expires", "force")
	o := ImportOptions{
		Origin: q.v.Get("origin"), Action: q.action(), Reason: q.v.Get("reason"), Site: q.v.Get("site"), Force: q.bool("force"),
	}
	var err error
	if o.Format, err = ParseFormat(q.v.Get("format")); err != nil {
		q.fail("format", err.Error())
	}
	if s := q.v.Get("expires"); s != "" {
		if o.Expires, err = time.Parse(time.RFC3339, s); err != nil {
			q.fail("expires", quote(s)+" is not a time such as 2026-01-31T12:00:00Z")
		}
	}
	if q.err != nil {
		return q.err
	}
	result, err := a.log.Import(r.Context(), r.Body, o)
	if err != nil {
		p := problemOf(err)
		p.Imported = &result
		writeProblem(w, p)
		return nil
	}
	return writeJSON(w, http.StatusOK, result)
}

func (a *API) deleteOne(w http.ResponseWriter, r *http.Request) error {
	n, err := a.log.Delete(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if n == 0 {
		return errNotFound
	}
	return writeJSON(w, http.StatusOK, Deleted{n})
}

func (a *API) deleteWhere(w http.ResponseWriter, r *http.Request) error {
	q := params(r, "client", "value", "action", "origin")
	f := q.filter()
	if q.err != nil {
		return q.err
	}
	n, err := a.log.DeleteWhere(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Deleted{n})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that went away is no problem of ours
	return nil
}

// statusError is an error with the status of its answer.
type statusError struct {
	status int
	detail string
}

func (e *statusError) Error() string { return e.detail }

var errNotFound error = &statusError{http.StatusNotFound, "there is no decision of this id"}

// Problem is an error answer, by RFC 9457.
type Problem struct {
	Title    string    `json:"title"`
	Status   int       `json:"status"`
	Detail   string    `json:"detail"`
	Field    string    `json:"field,omitempty"`    // that is wrong
	Index    *int      `json:"index,omitempty"`    // of the decision that is wrong, from 0
	Imported *Imported `json:"imported,omitempty"` // what was done before the problem
}

// Error returns the detail, or the title when there is none.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// problemOf says what an error is to the client.
func problemOf(err error) *Problem {
	p := &Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	if item := (*ItemError)(nil); errors.As(err, &item) {
		p.Index = &item.Index
	}
	var (
		invalid   *InvalidError
		protected *ProtectedError
		wide      *WideError
		automatic *AutomaticError
		allowed   *AllowedError
		status    *statusError
		tooLarge  *http.MaxBytesError
	)
	switch {
	case errors.As(err, &invalid):
		p.Status, p.Field = http.StatusUnprocessableEntity, invalid.Field
		if invalid.Field == "" || invalid.Field == "query" {
			p.Status = http.StatusBadRequest
		}
	case errors.As(err, &automatic):
		p.Status, p.Field = http.StatusUnprocessableEntity, automatic.Field
	case errors.As(err, &protected), errors.As(err, &wide), errors.As(err, &allowed):
		p.Status, p.Field = http.StatusConflict, "value"
	case errors.As(err, &status):
		p.Status = status.status
	case errors.As(err, &tooLarge):
		p.Status, p.Detail = http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes: import them", tooLarge.Limit)
	case errors.Is(err, ErrImportTooLarge):
		p.Status = http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrBehind):
		p.Status = http.StatusGone
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotLoaded):
		p.Status = http.StatusServiceUnavailable
	case errors.Is(err, ErrEverything):
		p.Status = http.StatusBadRequest
	case errors.Is(err, ErrTooManyAgents), errors.Is(err, ErrFull):
		p.Status = http.StatusConflict
	}
	p.Title = http.StatusText(p.Status)
	return p
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	b, err := json.Marshal(p)
	if err != nil {
		http.Error(w, p.Title, p.Status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(b, '\n')) // a client that went away is no problem of ours
}
