package run

import (
	"context"
	"fmt"
	"net/http"

	"github.com/quickthorn/quickthorn/internal/service"
)

// Services whose work comes with a later version have health, readiness and metrics, so that an install can be laid out whole.

// AdminNotice is what the admin's address answers until it has pages.
const AdminNotice = `The admin's pages come with a later version of quickthorn. Until then the command line shows and does the same, where ai-service runs:

  quickthorn report            what happened, to whom, and why
  quickthorn cases list        campaigns and clients under suspicion
  quickthorn decisions list    what is in force; decisions add, decisions delete
  quickthorn mode              what is carried out; observe, enforce, off
`

// OpenAdmin prepares admin. It has no pages yet, and says so.
func OpenAdmin(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	p := service.New(o)
	defer p.CloseOnError(&err)
	o.Log.Warn("this version has no admin pages yet: use the command line; this service has health and metrics only")
	if err := p.ListenPages(ctx, o.Config.Admin.Listen, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotImplemented)
		fmt.Fprint(w, AdminNotice)
	})); err != nil {
		return nil, err
	}
	return p, p.ServeHealth(ctx)
}
