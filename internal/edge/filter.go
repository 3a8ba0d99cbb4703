package edge

import (
	"net/http"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// robotsPath is where robots look for what they may do (RFC 9309 section 2.3).
const robotsPath = "/robots.txt"

// filter returns what the upstream's answer is written to: the client, or what changes the answer on its way there. finish, if it is not nil, is to be
// called when the answer is complete, and release whatever became of it.
//
// robots.txt is made to keep robots away from the traps. Pages get trap links; those for crawlers that proved who they are, feeds, data and
// everything that is no page that somebody opens do not.
func (e *Edge) filter(v *visit, w http.ResponseWriter, r *http.Request) (to http.ResponseWriter, finish func() error, release func()) {
	p := &v.profile
	switch {
	case e.Traps == nil || r.Method != http.MethodGet && r.Method != http.MethodHead:
	case p.Path == robotsPath:
		f := e.Traps.WrapRobots(w, r)
		return f, f.Close, nil
	case e.Linked == nil || p.Kind != defense.KindNavigation || p.Identity.Status == defense.IdentityVerified || !e.Linked(p.Path):
	default:
		if page, ok := e.Traps.Wrap(w, r); ok {
			return page, page.Close, page.Release
		}
	}
	return w, nil, nil
}
