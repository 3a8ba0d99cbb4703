package simulate

import (
	"net/http"
	"time"
)

// member is one address of a campaign. It asks for some pages at times of the campaign's choosing and nothing else: it loads no parts of pages, keeps
// no cookies, follows no links, and what it is answered changes nothing.
type member struct {
	requests []*Request
}

// Start returns all requests.
func (m *member) Start() []*Request { return m.requests }

// Send changes nothing.
func (m *member) Send(*Request) {}

// Receive goes on as if nothing had happened.
func (m *member) Receive(*Request, *Response) []*Request { return nil }

// disguise is how a campaign imitates browsers.
type disguise uint8

const (
	// imitated: the headers of a Chrome, made by one program and consistent with the agent, which differs from address to address. Nothing in a
	// request is wrong, but all of them prefer the same language and know the same compressions, one fewer than Chrome does.
	imitated disguise = iota
	// rotated: as imitated, with another agent for each request.
	rotated
	// copied: what the readers' own browsers send, in all their variety. No request differs from a reader's.
	copied
)

// inventedReferrers are where a campaign says that it comes from.
var inventedReferrers = []string{"https://www.google.com/", "https://www.bing.com/", "https://duckduckgo.com/"}

// newMember returns a member that asks for those targets between start and start+during.
func newMember(c *client, d disguise, start, during time.Duration, targets []string) *member {
	m := &member{}
	family := "chrome"
	pickAgent := func() *program { return pickOf(c.rng, family) }
	language := languages[0]
	if d == copied {
		language = pickLanguage(c.rng)
		pickAgent = func() *program { return pickGraphical(c.rng) }
	}
	agent := pickAgent()
	for _, target := range targets {
		if d == rotated {
			agent = pickAgent()
		}
		from := where{site: "none", user: true}
		if c.chance(0.3) {
			from.site, from.referrer = "cross-site", pick(c.rng, inventedReferrers)
		}
		h := agent.navigation(c, language, from)
		if d != copied {
			imitate(h, c.secure())
		}
		m.requests = append(m.requests, c.request(start+c.between(0, during), target, h, nil))
	}
	return m
}

// imitate takes away what the campaign's program does differently from the browser.
func imitate(h http.Header, secure bool) {
	if secure {
		set(h, "Accept-Encoding", "gzip, deflate, br")
	}
	delete(h, "Priority")
}
