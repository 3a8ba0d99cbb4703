package escalation

import (
	"context"
	"errors"
	"net/http"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/private"
)

// API serves an Engine over HTTP:
//
//	POST /v1/judge   {"case": …} of at most 1 MiB; the answer is the judgement
//	GET  /v1/judge   which stages there are: whether the engine can be reached with the caller's key
//
// Problems are application/problem+json. Whoever mounts it must ask for authentication first.
type API struct{ Engine *Engine }

// JudgeRequest is the body of POST /v1/judge.
type JudgeRequest struct {
	Case *defense.Case `json:"case"`
}

// Readiness is the answer to GET /v1/judge.
type Readiness struct {
	Stages []string `json:"stages"` // those that there are, in their order
}

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/judge", a.judge)
	mux.HandleFunc("GET /v1/judge", func(w http.ResponseWriter, _ *http.Request) { private.JSON(w, Readiness{a.Engine.Stages()}) })
}

func (a *API) judge(w http.ResponseWriter, r *http.Request) {
	var in JudgeRequest
	if err := private.ReadJSON(w, r, &in); err != nil {
		status := http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
		}
		private.Problem(w, status, err.Error())
		return
	}
	if in.Case == nil {
		private.Problem(w, http.StatusBadRequest, "case: it is missing")
		return
	}
	j, err := a.Engine.Judge(r.Context(), in.Case)
	var invalid *InvalidError
	switch {
	case errors.As(err, &invalid):
		private.Problem(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		private.Problem(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		private.Problem(w, http.StatusInternalServerError, err.Error())
	default:
		private.JSON(w, j)
	}
}
