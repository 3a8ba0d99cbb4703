package behaviour

import (
	"math/bits"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Oddity is one way of behaving unlike a reader. Each is common among readers, too: only several together
// are a reason to look closer.
type Oddity uint16

// The oddities. They are independent of each other: each is measured on other parts of the requests.
const (
	OddPace      Oddity = 1 << iota // many pages a minute, or many at once
	OddClock                        // pauses that are nearly equal
	OddAssets                       // no assets of any page
	OddReferrers                    // no referrers, or impossible ones
	OddLinks                        // pages that nothing visited before leads to
	OddRobots                       // automated by its own word and disregards robots.txt
	OddTrap                         // links that people do not see
	OddErrors                       // mostly errors
	OddSequence                     // numbers one after the other
	OddBreadth                      // very many different pages
	OddHeaders                      // the requests themselves score
	OddLanguage                     // names no language
	OddChallenge                    // is shown challenges and passes none
	OddAgents                       // several User-Agents of one client that fetches no assets
)

var oddityNames = [...]string{"pace", "clock", "assets", "referrers", "links", "robots", "trap", "errors", "sequence", "breadth", "headers", "language", "challenge", "agents"}

// String returns the names, as in "assets+referrers".
func (o Oddity) String() string {
	var names []string
	for i, name := range oddityNames {
		if o>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// Count returns how many oddities there are.
func (o Oddity) Count() int { return bits.OnesCount16(uint16(o)) }

// strong are those that readers have seldom; they weigh twice as much.
const strong = OddPace | OddClock | OddRobots | OddSequence | OddChallenge | OddBreadth

// Weight returns how much there is against the client taken together: one for each oddity, two for a strong one.
func (o Oddity) Weight() int { return o.Count() + (o & strong).Count() }

// Oddities returns what is odd about a client with these features that claims to be of the family. What was not observed is not odd.
func (m *Measured) Oddities(family defense.AgentFamily) (o Oddity) {
	// A comparison with NaN is false, so what was not observed adds nothing.
	pages := m[iNavigations]
	add := func(odd Oddity, is bool) {
		if is {
			o |= odd
		}
	}
	add(OddPace, m[iRate] >= 25 && pages >= 15 || m[iBurst] >= 15)
	add(OddClock, m[iRegularity] >= 0.85 && pages >= 8)
	add(OddAssets, m[iAssets] < 0.1 && pages >= 2)
	add(OddReferrers, pages >= 4 && (m[iReferred] <= 0.1 || m[iReferrerOdd] >= 0.5))
	add(OddLinks, pages >= 4 && m[iUnlinked] >= 0.6)
	add(OddRobots, automated(family) && pages >= 3 && m[iDisallowed] >= 0.2)
	add(OddTrap, m[iTraps] >= 1)
	add(OddErrors, pages >= 6 && m[iErrors] >= 0.5)
	add(OddSequence, pages >= 5 && m[iSequential] >= 0.5)
	add(OddBreadth, m[iBreadth]*pages >= 60 && m[iBreadth] >= 0.8)
	add(OddHeaders, m[iScore] >= 20)
	add(OddLanguage, pages >= 2 && m[iLanguageless] >= 0.9)
	add(OddChallenge, m[iChallenged] >= 2 && m[iSolved] < 0.2)
	add(OddAgents, m[iAgents] >= 3 && m[iAssets] < 0.1)
	return o
}

// automated reports whether a program of the family is a robot by its own word, or says nothing: those that robots.txt is for.
func automated(f defense.AgentFamily) bool {
	switch f {
	case defense.AgentCrawler, defense.AgentTool, defense.AgentUnknown, defense.AgentNone:
		return true
	}
	return false
}

// Standing is what a navigation's client looks like once its assets would have come.
type Standing uint8

// The standings.
const (
	StandingUnknown Standing = iota // nothing speaks for or against it
	StandingReader                  // earned a clearance, passed challenges, or fetched what pages are made of
	StandingOdd                     // quiet, but unlike a reader in several ways
)

// Standing returns what the client looks like at now, [Settling] after a navigation. A client is odd that asked for documents and
// for nothing that they are made of, or met a challenge and did not come back, if a second thing speaks against it.
func (c *Client) Standing(now time.Time, m *Measured) Standing {
	s := c.sums(max(now.UnixMilli(), c.last))
	switch {
	case c.flags&flagCleared != 0, s.solved > 0 && 2*s.solved >= s.challenged, s.assets > 0 && s.assets*8 >= s.views, s.revalidated > 0:
		return StandingReader
	case c.flags&flagFetched != 0 && s.challenged == 0:
		return StandingUnknown
	}
	core, more := 0, 0
	add := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	unsolved := s.challenged > 0 && c.doubted != 0 && now.UnixMilli()-c.doubted >= int64(Settling/time.Millisecond)
	add(&core, m[iAssets] == 0)
	add(&core, unsolved)
	add(&core, m[iScore] >= 30)
	add(&more, c.flags&flagDirect != 0)
	add(&more, m[iReferrerOdd] >= 0.3 || c.flags&flagForged != 0)
	add(&more, m[iUnlinked] >= 0.5)
	add(&more, m[iLanguageless] >= 0.5)
	add(&more, m[iScore] >= 15)
	add(&more, m[iDisallowed] >= 0.3)
	add(&more, m[iNotFound] >= 0.5)
	add(&more, s.views >= 2 && m[iAssets] == 0)
	add(&more, s.challenged >= 2 && s.solved == 0)
	add(&more, m[iSequential] >= 0.5)
	if core >= 1 && core+more >= 2 {
		return StandingOdd
	}
	return StandingUnknown
}
