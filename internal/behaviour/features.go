package behaviour

import (
	"fmt"
	"math"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// The indexes of the features in Schema's order.
const (
	iRequests = iota
	iNavigations
	iRate
	iBurst
	iRegularity
	iBreadth
	iDepth
	iAssets
	iRevalidated
	iReferred
	iReferrerOdd
	iUnlinked
	iDisallowed
	iTraps
	iErrors
	iNotFound
	iHours
	iAgents
	iShapes
	iQueried
	iPatternShare
	iSequential
	iScore
	iLanguageless
	iChallenged
	iSolved
	iBytes
	clientFeatures // how many a client has
)

const (
	iClients = clientFeatures + iota
	iFresh
	iQuiet
	iSpread
	iAgentsPerShape
	iOnset
	iReaders
	allFeatures
)

// Measured are a client's features in the schema's order; NaN where one is not observed.
type Measured [clientFeatures]float64

// Measure returns the client's features at now without allocating.
func (c *Client) Measure(now time.Time) (m Measured) {
	for i := range m {
		m[i] = math.NaN()
	}
	t := max(now.UnixMilli(), c.last)
	s := c.sums(t)
	share := func(i int, part, whole float64) {
		if whole > 0 {
			m[i] = min(part/whole, 1)
		}
	}
	m[iRequests], m[iNavigations] = s.requests, s.navigations
	m[iTraps], m[iChallenged] = s.traps, s.challenged
	share(iSolved, s.solved, s.challenged)
	if s.requests > 0 {
		m[iScore] = s.score / s.requests
		m[iAgents] = linear(ones(s.agents))
	}
	if t-c.first >= 6*hour {
		m[iHours] = float64(ones(uint64(c.hoursAt(t)))) / 24
	}
	share(iRevalidated, s.revalidated, s.assets+s.judged)
	if s.navigations == 0 {
		return m
	}
	m[iRate] = s.navigations / max(1, s.active/60)
	m[iBurst] = s.burst
	if s.navigations >= 5 && s.gaps >= 4 {
		mean := s.gapSum / s.gaps
		variance := max(0, s.gapSquares/s.gaps-mean*mean)
		m[iRegularity] = 1 / (1 + math.Sqrt(variance)/mean)
	}
	m[iDepth] = s.depth / s.navigations
	m[iAssets] = c.assets(t, &s)
	share(iReferred, s.referred, s.followed)
	share(iReferrerOdd, s.referrerOdd, s.laterJudged)
	share(iUnlinked, s.unlinked, s.linkKnown)
	share(iDisallowed, s.disallowed, s.robotsKnown)
	share(iErrors, s.errors, s.answered)
	share(iNotFound, s.notFound, s.answered)
	share(iQueried, s.queried, s.judged)
	share(iLanguageless, s.speechless, s.spoken)
	if s.shapes != 0 {
		m[iShapes] = linear(ones(s.shapes))
	}
	if s.answered > 0 {
		m[iBytes] = s.kilobytes / s.answered * 1024
	}
	if d := c.more; d != nil && s.patterned >= 3 {
		share(iBreadth, s.distinct, s.patterned)
		const part = int64(Part / time.Millisecond)
		switch old := t - c.began; {
		case old < part:
			share(iPatternShare, most(&d.patterns[0], &d.patterns[1]), s.patterned)
		case old < 2*part:
			share(iPatternShare, most(&d.patterns[0], &patterns{}), s.patterned)
		}
		share(iSequential, s.sequential, s.compared)
	}
	return m
}

// hoursAt returns the hours of the last day in which the client was active.
func (c *Client) hoursAt(t int64) uint32 {
	hours := c.hours
	if t/hour-c.last/hour >= 24 {
		return 0
	}
	for h := c.last/hour + 1; h <= t/hour; h++ {
		hours &^= 1 << (h % 24)
	}
	return hours
}

// assets returns how many assets the client fetches for each document that it was given, NaN where that is not known
// or where something else explains that there are none.
func (c *Client) assets(t int64, s *sums) float64 {
	if s.views == 0 {
		return math.NaN()
	}
	if s.assets > 0 {
		return s.assets / s.views
	}
	if s.revalidated > 0 || c.flags&(flagFetched|flagCleared|flagSampled) != 0 || s.views <= c.fresh.recent(t, freshPeriod) {
		return math.NaN()
	}
	return 0
}

// Features returns what was measured of the client within the window that ends at now. What was not observed is missing.
func (c *Client) Features(now time.Time) defense.Features {
	m := c.Measure(now)
	return NewFeatures(m[:])
}

// NewFeatures makes features of values in the schema's order; what is NaN, infinite, or not given is missing.
func NewFeatures(values []float64) defense.Features {
	f := defense.Features{Schema: SchemaVersion, Values: make(map[string]float64, len(values))}
	for i, s := range Schema() {
		if i < len(values) && !math.IsNaN(values[i]) && !math.IsInf(values[i], 0) {
			f.Values[s.Name] = values[i]
		}
	}
	return f
}

// Crowd is what is measured of a campaign beyond its members' own behaviour. What is NaN was not observed.
type Crowd struct {
	Clients, Fresh, Quiet, Spread, AgentsPerShape, Onset, Readers float64
}

// CampaignFeatures returns the features of a campaign: the means of its members' over those of whom a feature
// was observed, which must be a quarter of them, and the crowd's own.
func CampaignFeatures(members []Measured, crowd Crowd) defense.Features {
	var v [allFeatures]float64
	for i := range clientFeatures {
		sum, n := 0.0, 0
		for j := range members {
			if x := members[j][i]; !math.IsNaN(x) {
				sum += x
				n++
			}
		}
		if v[i] = math.NaN(); n > 0 && 4*n >= len(members) {
			v[i] = sum / float64(n)
		}
	}
	v[iClients], v[iFresh], v[iQuiet], v[iSpread] = crowd.Clients, crowd.Fresh, crowd.Quiet, crowd.Spread
	v[iAgentsPerShape], v[iOnset], v[iReaders] = crowd.AgentsPerShape, crowd.Onset, crowd.Readers
	return NewFeatures(v[:])
}

// Vector returns the features in the schema's order, NaN for what is missing. Features of another schema have nothing in common
// with this one: all are missing.
func Vector(f defense.Features) []float64 {
	schema := Schema()
	v := make([]float64, len(schema))
	for i, s := range schema {
		v[i] = math.NaN()
		if x, ok := f.Values[s.Name]; ok && f.Schema == SchemaVersion {
			v[i] = x
		}
	}
	return v
}

// Describe returns a sentence for people about a feature's value, as in "asked for 212 pages within the hour". It begins with
// a verb whose subject is the client, or the members of the campaign. A name that is not of the schema is shown as it is.
func Describe(name string, value float64) string {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Sprintf("%q was not observed", name)
	}
	switch name {
	case "requests":
		return fmt.Sprintf("made %s within the hour", count(value, "request"))
	case "navigations":
		return fmt.Sprintf("asked for %s within the hour", count(value, "page"))
	case "rate":
		if value >= 1 {
			return fmt.Sprintf("asked for %s pages a minute while active, one every %s", number(value), span(60/value))
		}
		return fmt.Sprintf("asked for less than one page a minute (%s)", number(value))
	case "burst":
		return fmt.Sprintf("asked for up to %s in ten seconds", count(value, "page"))
	case "regularity":
		switch {
		case value >= 0.85:
			return fmt.Sprintf("asked like a clock: the pauses are nearly equal (%s)", percent(value))
		case value >= 0.6:
			return fmt.Sprintf("asked at rather even intervals (%s regular)", percent(value))
		}
		return fmt.Sprintf("asked at uneven intervals (%s regular)", percent(value))
	case "breadth":
		return fmt.Sprintf("of the pages it asked for, %s were different ones", percent(value))
	case "depth":
		return fmt.Sprintf("asked for pages %s levels deep on average", number(value))
	case "assets":
		if value == 0 {
			return "fetched no style sheet, script or image of any page"
		}
		return fmt.Sprintf("fetched %s for each page", count(value, "style sheet, script or image", "style sheets, scripts and images"))
	case "revalidated":
		return fmt.Sprintf("%s of the answers were \"not modified\": it keeps what it has read", percent(value))
	case "referred":
		return fmt.Sprintf("%s of the later pages were asked for with a referrer", percent(value))
	case "referrerOdd":
		return fmt.Sprintf("%s of the later pages name a referrer that was never visited or does not link there", percent(value))
	case "unlinked":
		return fmt.Sprintf("%s of the pages whose links are known were not linked from any page visited before", percent(value))
	case "disallowed":
		return fmt.Sprintf("%s of the pages are ones that robots.txt asks robots not to fetch", percent(value))
	case "traps":
		return fmt.Sprintf("followed %s that people do not see", count(value, "link"))
	case "errors":
		return fmt.Sprintf("%s of the answers were errors (4xx)", percent(value))
	case "notFound":
		return fmt.Sprintf("%s of the pages asked for do not exist", percent(value))
	case "hours":
		return fmt.Sprintf("was active in %s of the last 24 hours", number(math.Round(value*24)))
	case "agents":
		return fmt.Sprintf("named %s", count(value, "User-Agent"))
	case "shapes":
		return fmt.Sprintf("sent %s", count(value, "form of headers", "different forms of headers"))
	case "queried":
		return fmt.Sprintf("%s of the pages were asked for with a query", percent(value))
	case "patternShare":
		return fmt.Sprintf("%s of the pages are of one kind", percent(value))
	case "sequential":
		return fmt.Sprintf("%s of the pages are the next number after the one before", percent(value))
	case "score":
		return fmt.Sprintf("the requests score %s of 100 on average", number(value))
	case "languageless":
		return fmt.Sprintf("%s of the pages were asked for without naming a language", percent(value))
	case "challenged":
		return fmt.Sprintf("was shown %s", count(value, "challenge"))
	case "solved":
		if value == 0 {
			return "passed none of the challenges"
		}
		return fmt.Sprintf("passed %s of the challenges", percent(value))
	case "bytes":
		return fmt.Sprintf("was given %s for each page on average", size(value))
	case "clients":
		return fmt.Sprintf("comes from %s", count(value, "client"))
	case "fresh":
		return fmt.Sprintf("%s of the clients had not been seen before this hour", percent(value))
	case "quiet":
		return fmt.Sprintf("%s of the clients asked for at most five pages and fetched no style sheet, script or image", percent(value))
	case "spread":
		return fmt.Sprintf("has %s different neighbourhoods for each hundred clients", number(math.Round(value*100)))
	case "agentsPerShape":
		return fmt.Sprintf("sends the same headers under %s", count(value, "User-Agent"))
	case "onset":
		return fmt.Sprintf("asks %s times as much as is usual in five minutes", number(value))
	case "readers":
		return fmt.Sprintf("%s of the clients that look the same behave like readers", percent(value))
	}
	return fmt.Sprintf("%s is %s", name, number(value))
}

func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15:
		return fmt.Sprintf("%d", int64(v))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 1:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func count(v float64, one string, many ...string) string {
	if v == 1 {
		return "1 " + one
	}
	if len(many) > 0 {
		return number(v) + " " + many[0]
	}
	return number(v) + " " + one + "s"
}

func percent(v float64) string {
	p := v * 100
	if p > 0 && p < 1 || p > 99 && p < 100 {
		return fmt.Sprintf("%.1f %%", p)
	}
	return fmt.Sprintf("%.0f %%", p)
}

func span(s float64) string {
	switch {
	case s < 1:
		return fmt.Sprintf("%.2g s", s)
	case s < 90:
		return fmt.Sprintf("%.0f s", s)
	}
	return fmt.Sprintf("%.0f min", s/60)
}

func size(bytes float64) string {
	switch {
	case bytes < 1024:
		return fmt.Sprintf("%.0f bytes", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.0f KiB", bytes/1024)
	}
	return fmt.Sprintf("%.1f MiB", bytes/(1<<20))
}
