package tarpit

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
)

// Door is the tarpit's port, where it runs apart: for the clients that an edge of ours relays, and for those that another web server in
// front of it sends here.
type Door struct {
	Tarpit *Tarpit
	Keys   func() []string      // with which edges sign
	Fronts *clientaddr.Resolver // web servers that need not sign, and how they name the client
	Now    func() time.Time
	Log    *slog.Logger
}

// ServeHTTP answers whoever is sent here, and nobody who comes by themselves.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	var g entry.Guest
	signed := r.Header.Get(entry.HeaderSignature) != ""
	if signed {
		var err error
		if g, err = entry.Verify(r, d.Keys(), d.Now()); err != nil {
			d.Log.Warn("a request was refused: "+err.Error(), "peer", r.RemoteAddr)
			refuse(w, http.StatusForbidden, err.Error())
			return
		}
		g.Client = defense.NewClient(g.Address).Counted
		h.Set(entry.HeaderStay, "depth=0")
	} else {
		peer := addressOf(r.RemoteAddr)
		if !d.Fronts.Trusts(peer) {
			refuse(w, http.StatusForbidden, "the request is not signed by an edge, and its sender is none of tarpit.fronts")
			return
		}
		address, _ := d.Fronts.Client(peer, r.Header)
		c := defense.NewClient(address)
		g = entry.Guest{Client: c.Counted, Address: c.Address, Site: "front", Scheme: d.Fronts.Scheme(peer, r.Header, r.TLS != nil)}
		h.Set("X-Accel-Buffering", "no") // nginx would keep a slow stream back
	}
	refusal := d.Tarpit.Enter(w, r, &g, func(entry.Stay) {})
	switch {
	case refusal == entry.Taken:
	case signed:
		h.Set(entry.HeaderStay, refusal.String())
		refuse(w, http.StatusServiceUnavailable, "the tarpit takes nobody in: "+refusal.String())
	case refusal == entry.Spent:
		refuse(w, http.StatusForbidden, "Forbidden")
	default:
		h.Set("Retry-After", "60")
		refuse(w, http.StatusServiceUnavailable, "Service Unavailable")
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("X-Robots-Tag", robots)
	h.Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

// addressOf reads the address of a "host:port" as net/http writes it; a Unix socket's peer has none.
func addressOf(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
