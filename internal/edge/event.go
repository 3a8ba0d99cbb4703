package edge

import (
	"runtime/debug"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// event makes the record of a visit. It copies what lives in reused memory.
func (e *Edge) event(v *visit) *defense.Event {
	p, d := &v.profile, &v.verdict
	ev := &defense.Event{
		Schema: defense.EventSchema, Kind: "request", ID: e.NewID(), Time: v.start, Site: p.Site, Edge: e.Name, RequestID: e.requestID(v),
		Client: defense.EventClient{Address: p.Client.Address.String(), Prefix: p.Client.Prefix.String(), ASN: p.Client.ASN, Country: p.Client.Country, Token: p.Clearance.ID},
		Request: defense.EventRequest{
			Method: p.Method, Host: p.Host, Path: p.Path, Query: p.Query, Kind: p.Kind, Class: p.Class, Family: p.Agent.Family,
			Protocol: p.Protocol, Agent: p.Agent.Text.Value, Referrer: p.Headers.Referer.Value,
			Headers: defense.EventHeaders{
				Accept: p.Headers.Accept.Value, AcceptLanguage: p.Headers.AcceptLanguage.Value,
				SecFetchSite: p.Headers.SecFetchSite.Value, SecFetchMode: p.Headers.SecFetchMode.Value, SecFetchDest: p.Headers.SecFetchDest.Value,
			},
		},
		Identity: defense.EventIdentity{Crawler: p.Identity.Crawler, Status: p.Identity.Status, How: p.Identity.How},
		Signals:  append([]defense.Signal(nil), d.Signals...),
		Verdict: defense.EventVerdict{
			Action: d.Action, Intended: d.Intended, Score: d.Score, Rule: d.Rule, Reason: d.Reason, Basis: d.Basis,
			Mode: d.Mode, Posture: d.Posture, Decision: d.DecisionID, Shadow: append([]defense.ShadowHit(nil), d.Shadow...),
		},
		Response: defense.EventResponse{
			Status: v.status, Bytes: v.bytes, Duration: time.Since(v.start).Seconds(), UpstreamDuration: v.upstream.Seconds(),
		},
		Challenge: v.outcome,
	}
	if p.Headers.Shape != 0 {
		ev.Request.Headers.Shape = shape(p.Headers.Shape)
	}
	if p.TLS.Version != "" {
		ev.Request.TLS = &defense.EventTLS{Version: p.TLS.Version, JA4: p.TLS.JA4}
	}
	switch {
	case v.outcome != nil:
		ev.Kind = "challenge"
	case d.Action == defense.Tarpit:
		ev.Kind = "tarpit"
		ev.Tarpit = &defense.EventTarpit{Held: v.held.Seconds(), Bytes: v.bytes}
	}
	return ev
}

func shape(h uint64) string {
	s := strconv.FormatUint(h, 16)
	return "0000000000000000"[len(s):] + s
}

func stack() string { return string(debug.Stack()) }
