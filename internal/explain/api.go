package explain

import (
	"net/http"
	"time"

	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// API serves POST /v1/explain on the private listener: a Question in, a Report out,
// judged with the decisions, posture and mode that are in force.
type API struct {
	Profiler *profile.Profiler
	Engine   *engine.Engine
	Check    Clearer
	Now      func() time.Time
}

// Register adds the route.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/explain", func(w http.ResponseWriter, r *http.Request) {
		var q Question
		if err := private.ReadJSON(w, r, &q); err != nil {
			private.Problem(w, http.StatusBadRequest, err.Error())
			return
		}
		rep, err := Ask(&q, a.Profiler, a.Engine, a.Check, a.Now())
		if err != nil {
			private.Problem(w, http.StatusBadRequest, err.Error())
			return
		}
		private.JSON(w, rep)
	})
}
