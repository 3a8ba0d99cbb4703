package edge

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// Forwarder passes a request on. *upstream.Upstream implements it.
type Forwarder interface {
	Forward(w http.ResponseWriter, r *http.Request, o *upstream.Options) (upstream.Result, error)
}

// Site is one protected web site.
type Site struct {
	Name     string
	Hosts    []string // exact names or "*.example.org"; none: every host that no other site has
	Upstream Forwarder
	SendHost string // Host that the upstream gets; "": the one that the client sent
}

// site is a Site with what is counted of it, by action and intended action.
type site struct {
	Site
	verdicts [defense.Charge + 1][defense.Charge + 1]atomic.Uint64
}

// sites finds the site of a host.
type sites struct {
	all      []*site
	exact    map[string]*site
	wildcard []*wildcard // longest suffix first
	fallback *site
}

type wildcard struct {
	suffix string // ".example.org"
	site   *site
}

func newSites(list []Site) (*sites, error) {
	s := &sites{exact: map[string]*site{}}
	for i := range list {
		site := &site{Site: list[i]}
		s.all = append(s.all, site)
		if len(site.Hosts) == 0 {
			if s.fallback != nil {
				return nil, fmt.Errorf("sites %q and %q both serve every host", s.fallback.Name, site.Name)
			}
			s.fallback = site
		}
		for _, h := range site.Hosts {
			h = strings.ToLower(h)
			if suffix, ok := strings.CutPrefix(h, "*."); ok {
				s.wildcard = append(s.wildcard, &wildcard{"." + suffix, site})
				continue
			}
			if other, taken := s.exact[h]; taken {
				return nil, fmt.Errorf("sites %q and %q both serve host %q", other.Name, site.Name, h)
			}
			s.exact[h] = site
		}
	}
	// Longest first, so that *.a.example wins over *.example.
	slices.SortStableFunc(s.wildcard, func(a, b *wildcard) int { return cmp.Compare(len(b.suffix), len(a.suffix)) })
	return s, nil
}

// find returns the site of a lower-case host without port, nil if there is none.
func (s *sites) find(host string) *site {
	if site, ok := s.exact[host]; ok {
		return site
	}
	for _, w := range s.wildcard {
		if strings.HasSuffix(host, w.suffix) && len(host) > len(w.suffix) {
			return w.site
		}
	}
	return s.fallback
}
