package record

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/private"
)

// readTime bounds how long one request of the API may search the archive.
const readTime = 30 * time.Second

// ErrBadFilter is wrapped by a Reader's error when the filter cannot be
// answered as asked; the API answers 400 with its text.
var ErrBadFilter = errors.New("the filter cannot be answered")

// API serves the archive on the private listener. Whoever registers it guards it: it shows
// addresses and pages that people visited.
//
//	GET    /v1/events?FILTER   events, newest first; see [ParseFilter]
//	DELETE /v1/events?client=  erases what is kept of an address or range
//	GET    /v1/report?since=   summary and harm report, of the last 24 hours by default
//
// Events come as one JSON page or, when the request accepts application/x-ndjson,
// as all that match, one a line. Errors are application/problem+json (RFC 9457).
type API struct {
	Archive Reader
	Now     func() time.Time
	Log     *slog.Logger
}

// Register adds the API's routes to mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/events", a.events)
	mux.HandleFunc("DELETE /v1/events", a.erase)
	mux.HandleFunc("GET /v1/report", a.report)
}

func (a *API) events(w http.ResponseWriter, r *http.Request) {
	f, err := ParseFilter(r.URL.Query(), a.Now())
	if err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "application/x-ndjson") {
		a.export(w, r, f)
		return
	}
	if f.Limit > MaxEvents {
		private.Problem(w, http.StatusBadRequest, "limit: at most 1000; accept application/x-ndjson to have all")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTime)
	defer cancel()
	page, err := a.Archive.Events(ctx, f)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	private.JSON(w, page)
}

// export streams. An error after the first line can only end the stream early, which
// the client sees as a broken transfer.
func (a *API) export(w http.ResponseWriter, r *http.Request, f Filter) {
	out := &private.Stream{ResponseWriter: w}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	err := Export(r.Context(), a.Archive, f, out)
	switch {
	case err == nil:
	case out.Begun:
		if r.Context().Err() == nil {
			a.Log.Error("exporting events", "error", err)
		}
		panic(http.ErrAbortHandler)
	default:
		a.fail(w, r, err)
	}
}

func (a *API) erase(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if err := onlyParams(q, []string{"client"}); err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	f, err := ParseFilter(q, a.Now())
	if err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if !f.Client.IsValid() {
		private.Problem(w, http.StatusBadRequest, "client: say whose events are to be erased: an address or a range")
		return
	}
	n, err := a.Archive.Erase(r.Context(), f.Client)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	private.JSON(w, map[string]int{"erased": n})
}

// report is the answer of GET /v1/report.
type report struct {
	Summary Summary `json:"summary"`
	Harm    Harm    `json:"harm"`
}

func (a *API) report(w http.ResponseWriter, r *http.Request) {
	q, now := r.URL.Query(), a.Now()
	err := onlyParams(q, []string{"since", "until"})
	if err == nil && !q.Has("since") {
		q.Set("since", "24h")
	}
	var since, until time.Time
	if err == nil {
		since, until, err = parsePeriod(q, now)
	}
	if err == nil && until.IsZero() {
		if until = now; !since.Before(now) {
			err = errors.New("since: lies in the future")
		}
	}
	if err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTime)
	defer cancel()
	var out report
	if out.Summary, err = a.Archive.Summary(ctx, since, until); err == nil {
		out.Harm, err = a.Archive.Harm(ctx, since, until)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	private.JSON(w, out)
}

// fail answers for an archive that could not do what was asked.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrBadFilter):
		private.Problem(w, http.StatusBadRequest, err.Error())
	case r.Context().Err() != nil: // the client is gone
		panic(http.ErrAbortHandler)
	case errors.Is(err, context.DeadlineExceeded):
		private.Problem(w, http.StatusServiceUnavailable, "The search took longer than "+readTime.String()+". Ask for a shorter period.")
	default:
		a.Log.Error("reading the archive", "error", err)
		private.Problem(w, http.StatusServiceUnavailable, "The archive cannot be read now. The log says why.")
	}
}
