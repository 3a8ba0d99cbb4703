package edge

import (
	"runtime/debug"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// event makes the record of a visit. It copies what lives in reused memory.
func (e *Edge) event(v *visit) *defense.Event {
	p, d := &v.profile, &v.verdict
	ev := defense.EventOf(p)
	ev.ID, ev.Edge, ev.RequestID = e.NewID(), e.Name, e.requestID(v)
	ev.Signals = append([]defense.Signal(nil), d.Signals...)
	ev.Verdict = defense.EventVerdict{
		Action: d.Action, Intended: d.Intended, Score: d.Score, Rule: d.Rule, Reason: d.Reason, Basis: d.Basis,
		Mode: d.Mode, Posture: d.Posture, Decision: d.DecisionID, Shadow: append([]defense.ShadowHit(nil), d.Shadow...),
	}
	ev.Response = defense.EventResponse{
		Status: v.status, Bytes: v.bytes, Duration: max(0, e.Now().Sub(v.start)).Seconds(), UpstreamDuration: v.upstream.Seconds(),
	}
	ev.Challenge = v.outcome
	switch {
	case v.outcome != nil:
		ev.Kind = "challenge"
	case d.Action == defense.Tarpit:
		ev.Kind = "tarpit"
		ev.Tarpit = &defense.EventTarpit{Held: v.held.Seconds(), Bytes: v.bytes}
	case p.Trap:
		ev.Kind = "trap"
	}
	return ev
}

func stack() string { return string(debug.Stack()) }
