package profile

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// LogEntry is what an access log tells of one request. A string that the log's
// format does not hold stays empty and a Text Unobserved; a "-" in the
// place of a header, which means that it was not sent, is Absent.
type LogEntry struct {
	Time      time.Time
	Client    netip.Addr // invalid if the log does not tell
	Method    string
	Target    string // as received: "/path?query"
	Protocol  string // "HTTP/1.1"
	Host      string // with or without port
	Scheme    string // "http" or "https"
	UserAgent defense.Text
	Referer   defense.Text
	// Header holds further request headers under their canonical names, as Caddy
	// and Traefik log them; may be nil. User-Agent and Referer above win over it.
	Header http.Header
	// Complete says that Header holds all that the client sent, so that a
	// header not in it was absent. Otherwise it is unknown.
	Complete bool
}

// FromLog overwrites p with what a log entry tells; everything else is Unobserved.
// Connection is never observed: the log's server may have stood behind another.
func (f *Profiler) FromLog(p *defense.Profile, e LogEntry) {
	*p = defense.Profile{
		Time: e.Time, Method: e.Method, Scheme: e.Scheme, Host: hostOf(e.Host), Target: e.Target, Protocol: e.Protocol,
		Client: defense.NewClient(e.Client),
	}
	raw, query := splitTarget(e.Target)
	p.Path, p.Query = normalPath(raw), query

	complete := e.Complete && e.Header != nil
	if e.Header != nil {
		fillHeaders(&p.Headers, e.Header, complete)
		p.Headers.Connection = defense.Text{}
	}
	if complete {
		p.Headers.Shape = shapeOf(&p.Headers)
	}
	if e.Referer.Presence != defense.Unobserved {
		p.Headers.Referer = bounded(e.Referer)
	}
	agent := e.UserAgent
	if agent.Presence == defense.Unobserved {
		agent = text(e.Header, "User-Agent", complete)
	}
	p.Agent = f.agents.Parse(bounded(agent))
	p.Identity = claimed(&p.Agent)
	p.Kind = kindOf(p, raw)
}

func bounded(t defense.Text) defense.Text {
	t.Value = t.Value[:min(len(t.Value), maxValue)]
	return t
}
