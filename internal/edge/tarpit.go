package edge

import (
	"net/http"
	"sync"

	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
)

// entangle sends a client with a tarpit verdict there. Where nobody is taken in, the client is held for a while, unless the site is under
// siege, and refused.
func (e *Edge) entangle(v *visit, w http.ResponseWriter, r *http.Request) {
	if e.Tarpit == nil {
		v.held = e.holder.hold(r.Context())
		e.refuse(v, w, r)
		return
	}
	p := &v.profile
	t := &tangle{record: e.Recorder.Record}
	g := entry.Guest{
		Client: p.Client.Counted, Address: p.Client.Address, Site: p.Site, Scheme: p.Scheme, RequestID: e.requestID(v), WayOut: v.wayOut(),
	}
	v.tangle = t // also when Enter panics because the client is gone
	switch e.Tarpit.Enter(w, r, &g, t.done) {
	case entry.Taken:
	case entry.Spent:
		v.tangle = nil
		v.verdict.Action, v.verdict.Reason = defense.Deny, "has used up its day's pages in the tarpit"
		e.refuse(v, w, r)
	default:
		v.tangle = nil
		if e.Posture.Current() < defense.Siege {
			v.held = e.holder.hold(r.Context())
		}
		e.refuse(v, w, r)
	}
}

// wayOut is the address at which a person gets out of the tarpit: to the page that was asked for, or to the first one if there is no such page.
func (v *visit) wayOut() string {
	if v.profile.Trap {
		return challenge.WayOut("/")
	}
	return challenge.WayOut(v.profile.Target)
}

// tangle brings together what a stay in the tarpit cost and the event of the request. Either may come first, from goroutines of their own;
// whichever comes second completes the event.
type tangle struct {
	record func(*defense.Event)

	mu    sync.Mutex
	stay  *entry.Stay
	event *defense.Event
}

// done is called when the stay has ended.
func (t *tangle) done(s entry.Stay) {
	t.mu.Lock()
	t.stay = &s
	ev := t.event
	t.mu.Unlock()
	if ev != nil {
		s.Into(ev)
		t.record(ev)
	}
}

// ended completes the event if the stay has ended, and keeps it until it has otherwise.
func (t *tangle) ended(ev *defense.Event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stay == nil {
		t.event = ev
		return false
	}
	t.stay.Into(ev)
	return true
}
