package defense

// Kind is what a request is for. It decides how a verdict may be answered:
// only a Navigation can be shown a page to solve.
type Kind uint8

// The kinds of request.
const (
	KindOther      Kind = iota
	KindNavigation      // a person, or what looks like one, opening a document
	KindAsset           // style sheet, script, font, image of a page
	KindMedia           // audio, video, large downloads
	KindFeed            // RSS, Atom, JSON Feed, podcast
	KindAPI             // JSON, XML or form endpoints, XHR and fetch, webhooks, federation, WebDAV
	KindGit             // git smart or dumb HTTP
	KindUpgrade         // WebSocket and other protocol upgrades
	KindPreview         // a link-preview fetch by a messenger or social network
	KindRobots          // robots.txt, sitemaps and the like: what tells crawlers how to behave
	KindWellKnown       // /.well-known/, favicon and the like
)

var kindNames = [...]string{"other", "navigation", "asset", "media", "feed", "api", "git", "upgrade", "preview", "robots", "wellknown"}

// String returns the kind's name.
func (k Kind) String() string { return nameOf(kindNames[:], uint8(k)) }

// ParseKind returns the kind with that name.
func ParseKind(s string) (Kind, error) {
	i, err := indexOf("kind", kindNames[:], s)
	return Kind(i), err
}

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind's name.
func (k *Kind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKind(string(b))
	return err
}

// Challengeable reports whether a challenge page may answer this kind.
func (k Kind) Challengeable() bool { return k == KindNavigation }

// AlwaysReadable reports whether rules and scores never stop this kind: what
// tells a crawler how to behave must stay readable to the crawler it refuses.
func (k Kind) AlwaysReadable() bool { return k == KindRobots || k == KindWellKnown }

// Purpose is what a catalogued agent says it fetches pages for.
type Purpose string

// The purposes.
const (
	PurposeSearch       Purpose = "search"        // fills a search engine's index
	PurposeAITraining   Purpose = "ai-training"   // collects text and images to train models
	PurposeAISearch     Purpose = "ai-search"     // fills the index of an AI answer engine
	PurposeUserAI       Purpose = "ai-user"       // fetches a page because a person asked an assistant now
	PurposeArchiver     Purpose = "archiver"      // public archives and libraries
	PurposeMonitor      Purpose = "monitor"       // uptime and performance checks
	PurposePreview      Purpose = "preview"       // link previews
	PurposeFeed         Purpose = "feed"          // feed readers and podcast clients
	PurposeSEO          Purpose = "seo"           // marketing and back-link databases
	PurposeSecurity     Purpose = "security"      // internet-wide and vulnerability scanners
	PurposeAdvertising  Purpose = "advertising"   // ad verification
	PurposeAcademic     Purpose = "academic"      // research
	PurposeTool         Purpose = "tool"          // library or command-line client
	PurposeBrowserAgent Purpose = "browser-agent" // drives a browser: headless or automated
	PurposeScraper      Purpose = "scraper"       // resells or aggregates others' pages
	PurposeOther        Purpose = "other"
)

// Purposes lists all purposes, in the order in which they are documented.
func Purposes() []Purpose {
	return []Purpose{
		PurposeSearch, PurposeAITraining, PurposeAISearch, PurposeUserAI, PurposeArchiver, PurposeMonitor,
		PurposePreview, PurposeFeed, PurposeSEO, PurposeSecurity, PurposeAdvertising, PurposeAcademic,
		PurposeTool, PurposeBrowserAgent, PurposeScraper, PurposeOther,
	}
}

// Crawler is the catalogue's entry for an automated agent.
type Crawler struct {
	ID       string  `json:"id"`                 // stable key, lower case: "gptbot"
	Name     string  `json:"name"`               // as its operator writes it: "GPTBot"
	Operator string  `json:"operator,omitempty"` // "OpenAI"; "" if unknown
	Purpose  Purpose `json:"purpose"`
	URL      string  `json:"url,omitempty"` // the operator's page about it
	// Tokens are the substrings of a User-Agent that name it, matched without
	// case and only at token boundaries.
	Tokens []string `json:"tokens"`
	// RespectsRobots is what is published of it: "yes", "no" or "" for unknown.
	RespectsRobots string `json:"respectsRobots,omitempty"`
	// Provable says by what its claim could be checked: "range", "dns", "signature".
	Provable []string `json:"provable,omitempty"`
}
