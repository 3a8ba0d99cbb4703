// Package behaviour measures what clients do over time. The same measurements describe one client and, summed up, the
// members of a campaign; training and judging use this one list of features.
package behaviour

// SchemaVersion is the version of the list of features: it changes when a feature's name, unit or
// meaning does. A model names the version that it was trained on.
const SchemaVersion = 1

// Feature is one measurement.
type Feature struct {
	Name     string
	Unit     string // "share" is 0..1
	Doc      string // what it is, and when it is not observed
	Campaign bool   // only campaigns have it
}

// Schema returns the features in their order. The names are what cases, models and explanations use.
func Schema() []Feature {
	return []Feature{
		{"requests", "requests", "seen within the window", false},
		{"navigations", "requests", "documents asked for within the window", false},
		{"rate", "navigations/minute", "over the time in which the client was active, at least one minute", false},
		{"burst", "requests", "navigations in the busiest ten seconds", false},
		{"regularity", "share", "1/(1+v), v being the variation coefficient of the pauses between navigations: a clock has 1; needs five navigations", false},
		{"breadth", "share", "different paths among navigations; needs three", false},
		{"depth", "segments", "mean depth of the paths of navigations", false},
		{"assets", "per navigation", "style sheets, scripts, images fetched; not observed where revalidations, earlier visits or a source that does not see assets explain that there are none", false},
		{"revalidated", "share", "answers 304 among assets and navigations", false},
		{"referred", "share", "navigations that name a referrer, not counting the first", false},
		{"referrerOdd", "share", "navigations whose same-site referrer is a page that does not link there or that was never asked for by the client", false},
		{"unlinked", "share", "navigations, after the first, to pages that no page visited before links to, as far as other clients have shown the links", false},
		{"disallowed", "share", "navigations that robots.txt asks automated agents not to make; not observed without robots.txt", false},
		{"traps", "hits", "links that people do not see", false},
		{"errors", "share", "answers 4xx other than 429 among navigations", false},
		{"notFound", "share", "answers 404 and 410 among navigations", false},
		{"hours", "share", "hours of the day in which the client was active within the last day; needs six hours of acquaintance", false},
		{"agents", "agents", "different User-Agents of the one address", false},
		{"shapes", "shapes", "different header shapes among navigations", false},
		{"queried", "share", "navigations with a query", false},
		{"patternShare", "share", "navigations of the most frequent path pattern; needs three", false},
		{"sequential", "share", "navigations whose number follows on the one before (ids, pages, revisions); needs three", false},
		{"score", "points", "mean score of the requests, 0..100", false},
		{"languageless", "share", "navigations without Accept-Language; not observed from access logs", false},
		{"challenged", "challenges", "challenges shown", false},
		{"solved", "share", "challenges passed among those shown; not observed when none was", false},
		{"bytes", "bytes", "mean size of the answers to navigations", false},

		{"clients", "clients", "different members", true},
		{"fresh", "share", "members that the site had not seen before this hour", true},
		{"quiet", "share", "members with at most five navigations and no assets", true},
		{"spread", "share", "different neighbourhoods (/24, /48) among members", true},
		{"agentsPerShape", "agents", "different User-Agents that send the same headers", true},
		{"onset", "ratio", "events of the last five minutes against the usual five minutes of the day before", true},
		{"readers", "share", "clients that behave like readers among all that share the key", true},
	}
}
