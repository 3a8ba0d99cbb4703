package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/private"
)

// Keep is how many versions of each artifact are kept.
const Keep = 5

// Kind is what is to be known of artifacts of a kind.
type Kind struct {
	Check   func(body []byte) error // whether a body is one
	Writers []string                // callers that may put one, besides the operator
}

// API serves /v1/artifacts.
type API struct {
	Store Store
	Kinds map[string]Kind // those that are taken
	Now   func() time.Time
	Log   *slog.Logger
}

// The headers that tell of an artifact whose body is answered.
const (
	headerVersion = "Quickthorn-Artifact-Version"
	headerSum     = "Quickthorn-Artifact-Sha256"
)

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/artifacts", a.list)
	mux.HandleFunc("GET /v1/artifacts/{kind}/{name}", a.get)
	mux.HandleFunc("PUT /v1/artifacts/{kind}/{name}", a.put)
}

// Listing is the answer to GET /v1/artifacts.
type Listing struct {
	Artifacts []Artifact `json:"artifacts"` // by kind and name, the newest version first
}

func (a *API) list(w http.ResponseWriter, r *http.Request) {
	all, err := a.Store.Artifacts(r.Context())
	if err != nil {
		a.fail(w, err)
		return
	}
	if all == nil {
		all = []Artifact{}
	}
	private.JSON(w, Listing{all})
}

func (a *API) fail(w http.ResponseWriter, err error) {
	if errors.Is(err, ErrUnknown) {
		private.Problem(w, http.StatusNotFound, err.Error())
		return
	}
	a.Log.Error("artifacts", "error", err)
	private.Problem(w, http.StatusServiceUnavailable, "the archive cannot be used now")
}

// get answers the latest version, or the one in ?version=.
func (a *API) get(w http.ResponseWriter, r *http.Request) {
	var version int64
	if s := r.URL.Query().Get("version"); s != "" {
		var err error
		if version, err = strconv.ParseInt(s, 10, 64); err != nil || version < 1 {
			private.Problem(w, http.StatusBadRequest, "version: want a number from 1")
			return
		}
	}
	found, body, err := a.Store.Artifact(r.Context(), r.PathValue("kind"), r.PathValue("name"), version)
	if err != nil {
		a.fail(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.FormatInt(found.Size, 10))
	h.Set("Last-Modified", found.At.UTC().Format(http.TimeFormat))
	h.Set(headerVersion, strconv.FormatInt(found.Version, 10))
	h.Set(headerSum, found.SHA256)
	_, _ = w.Write(body) // an error means that the caller is gone
}

// maxNames is how many artifacts of one kind there can be: a caller whose key is stolen must not fill the disk.
const maxNames = 1000

var errFull = fmt.Errorf("there are %d artifacts of this kind already", maxNames)

// room is an error if there are too many others of the artifact's kind.
func (a *API) room(ctx context.Context, next *Artifact) error {
	all, err := a.Store.Artifacts(ctx)
	if err != nil {
		return err
	}
	names := map[string]bool{next.Name: true}
	for i := range all {
		if all[i].Kind == next.Kind {
			names[all[i].Name] = true
		}
	}
	if len(names) > maxNames {
		return errFull
	}
	return nil
}

// put keeps the body as the next version.
func (a *API) put(w http.ResponseWriter, r *http.Request) {
	next := Artifact{Kind: r.PathValue("kind"), Name: r.PathValue("name"), Note: r.URL.Query().Get("note"), At: a.Now()}
	kind, ok := a.Kinds[next.Kind]
	if !ok {
		private.Problem(w, http.StatusNotFound, fmt.Sprintf("there is no kind %.80q: want one of %s", next.Kind, strings.Join(slices.Sorted(maps.Keys(a.Kinds)), ", ")))
		return
	}
	if who := auth.Caller(r.Context()); who != auth.Operator && !slices.Contains(kind.Writers, who) {
		private.Problem(w, http.StatusForbidden, fmt.Sprintf("the key is that of %q, which may not put a %s", who, next.Kind))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		private.Problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("an artifact has at most %d bytes", MaxBody))
		return
	case err != nil:
		private.Problem(w, http.StatusBadRequest, "read request: "+err.Error())
		return
	}
	if err := next.Prepare(body); err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if err := kind.Check(body); err != nil {
		private.Problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if err := a.room(r.Context(), &next); err != nil {
		if errors.Is(err, errFull) {
			private.Problem(w, http.StatusConflict, err.Error())
		} else {
			a.fail(w, err)
		}
		return
	}
	put, fresh, err := a.Store.PutArtifact(r.Context(), next, body, Keep)
	if err != nil {
		a.fail(w, err)
		return
	}
	if fresh {
		a.Log.Info("an artifact has a new version", "kind", put.Kind, "name", put.Name, "version", put.Version)
	}
	private.JSON(w, put)
}
