package backup

import (
	"log/slog"
	"net/http"

	"github.com/quickthorn/quickthorn/internal/private"
)

// API serves GET /v1/backup on the private listener.
type API struct {
	Stores *Stores
	Log    *slog.Logger
}

// Register adds the route.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/backup", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-tar")
		w.Header().Set("Cache-Control", "no-store")
		out := &private.Stream{ResponseWriter: w}
		if err := a.Stores.WriteBackup(r.Context(), out); err != nil {
			a.Log.Error("backup", "error", err)
			if !out.Begun {
				private.Problem(w, http.StatusInternalServerError, "the backup failed: "+err.Error())
				return
			}
			panic(http.ErrAbortHandler) // the receiver must see that it is cut off
		}
	})
}
