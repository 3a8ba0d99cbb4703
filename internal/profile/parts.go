package profile

import (
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Part is a set of the parts of a request that signals look at.
type Part uint16

// The parts.
const (
	PartAgent        Part = 1 << iota // User-Agent
	PartTime                          // when it was
	PartScheme                        // http or https
	PartProtocol                      // HTTP version
	PartConnection                    // Connection, and with it that no relay stands before us
	PartReferer                       // Referer
	PartAccept                        // Accept
	PartLanguage                      // Accept-Language
	PartEncoding                      // Accept-Encoding
	PartFetch                         // Sec-Fetch-Site, -Mode, -Dest
	PartHints                         // Sec-CH-UA, -Mobile, -Platform
	PartInsecure                      // Upgrade-Insecure-Requests
	PartValidators                    // If-None-Match, If-Modified-Since
	PartCircumstance                  // Range, Upgrade, Via
)

var partNames = [...]string{
	"User-Agent", "time", "scheme", "protocol", "Connection", "Referer", "Accept", "Accept-Language", "Accept-Encoding",
	"Sec-Fetch-*", "Sec-CH-UA*", "Upgrade-Insecure-Requests", "If-*", "Range, Upgrade, Via",
}

// String lists the parts' names: "Accept, Sec-Fetch-*"; "" for none.
func (s Part) String() string {
	var names []string
	for i, name := range partNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Observed returns the parts of the request that its source could see, whether
// or not the client sent them.
func Observed(p *defense.Profile) Part {
	h := &p.Headers
	var s Part
	add := func(part Part, observed bool) {
		if observed {
			s |= part
		}
	}
	seen := func(t *defense.Text) bool { return t.Presence != defense.Unobserved }
	add(PartAgent, seen(&p.Agent.Text))
	add(PartTime, !p.Time.IsZero())
	add(PartScheme, p.Scheme != "")
	add(PartProtocol, p.Protocol != "")
	add(PartConnection, seen(&h.Connection))
	add(PartReferer, seen(&h.Referer))
	add(PartAccept, seen(&h.Accept))
	add(PartLanguage, seen(&h.AcceptLanguage))
	add(PartEncoding, seen(&h.AcceptEncoding))
	add(PartFetch, seen(&h.SecFetchSite) && seen(&h.SecFetchMode) && seen(&h.SecFetchDest))
	add(PartHints, seen(&h.SecCHUA) && seen(&h.SecCHUAMobile) && seen(&h.SecCHUAPlatform))
	add(PartInsecure, seen(&h.UpgradeInsecure))
	add(PartValidators, seen(&h.IfNoneMatch) && seen(&h.IfModifiedSince))
	add(PartCircumstance, seen(&h.Range) && seen(&h.Upgrade) && seen(&h.Via))
	return s
}
