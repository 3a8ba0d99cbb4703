package simulate

import (
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Label says what an actor is: the truth that verdicts are measured against.
type Label string

// The labels.
const (
	Reader          Label = "reader"
	Newcomer        Label = "newcomer" // a reader of a flash crowd
	SearchCrawler   Label = "search crawler"
	LinkPreview     Label = "link preview"
	FeedReader      Label = "feed reader"
	GitClient       Label = "git client"
	PoliteCrawler   Label = "polite AI crawler"
	ImpoliteCrawler Label = "impolite AI crawler"
	Campaign        Label = "campaign"
)

// AllLabels lists all labels in the order in which results show them.
func AllLabels() []Label {
	return []Label{Reader, Newcomer, SearchCrawler, LinkPreview, FeedReader, GitClient, PoliteCrawler, ImpoliteCrawler, Campaign}
}

// Expectation says what ought to happen to a client.
type Expectation string

// The expectations.
const (
	ExpectAdmit Expectation = "admit" // a person: never refused; may be asked once, since a browser passes by itself
	ExpectServe Expectation = "serve" // a welcome program: neither refused nor asked, since it cannot answer
	ExpectAny   Expectation = "any"   // the owner's choice
	ExpectStop  Expectation = "stop"  // unwanted: whatever keeps it from the pages is right
)

// Expectation returns what ought to happen to clients of that label.
func (l Label) Expectation() Expectation {
	switch l {
	case Reader, Newcomer:
		return ExpectAdmit
	case SearchCrawler, LinkPreview, FeedReader, GitClient:
		return ExpectServe
	case ImpoliteCrawler, Campaign:
		return ExpectStop
	}
	return ExpectAny
}

// CaseLabel returns the label as a person would give it to a case: a crawler is automation that says what it is and keeps to the rules.
func (l Label) CaseLabel() defense.CaseLabel {
	switch l {
	case Reader, Newcomer:
		return defense.LabelHuman
	case ImpoliteCrawler, Campaign:
		return defense.LabelBot
	}
	return defense.LabelCrawler
}

// Actor is one client. It must be played once only, since its behaviour has state.
type Actor struct {
	Name   string // unique within a scenario: "reader 17"
	Label  Label
	Client netip.Addr // where its requests come from; several actors behind one NAT share one
	// RoundTrip is how long the network takes for a request and its answer.
	RoundTrip time.Duration
	Behaviour Behaviour
}

// Behaviour is what a client does. A player calls its methods from one goroutine.
//
// Times are since the scenario's start. Requests may be returned in any order and wait for their time side by side.
type Behaviour interface {
	// Start returns the first requests.
	Start() []*Request
	// Send completes a request just before it is sent: with the cookies that are kept by then.
	Send(*Request)
	// Receive takes the answer to a request and returns the requests that follow from it.
	Receive(*Request, *Response) []*Request
}

// Request is one request of an actor.
type Request struct {
	At     time.Duration // when it is sent, since the scenario's start
	Method string
	Scheme string // "https" or "http"
	Host   string
	Target string // path and query
	Proto  string // "HTTP/2.0"; the live player speaks HTTP/1.1 whatever it says
	Header http.Header
	Body   []byte

	step any // the actor's own note of what the request is for
}

// Path returns the target without its query.
func (q *Request) Path() string {
	path, _, _ := strings.Cut(q.Target, "?")
	return path
}

// Response is the answer to a request.
type Response struct {
	At       time.Duration // when it was complete, since the scenario's start
	Duration time.Duration // since the request
	Status   int           // 0: no answer, the connection failed or was cut
	Header   http.Header
	Body     []byte // decoded, at most MaxBody bytes
}

// MaxBody is how many bytes of an answer's body are looked at.
const MaxBody = 1 << 20

// Labels returns what each address is. Of an address that several actors share, the label of the last counts: scenarios give
// an address to actors of one label only.
func Labels(actors []*Actor) map[netip.Addr]Label {
	m := make(map[netip.Addr]Label, len(actors))
	for _, a := range actors {
		m[a.Client] = a.Label
	}
	return m
}

// client is what all behaviours have: chance, and the site that they visit.
type client struct {
	rng    *rand.Rand
	scheme string
	host   string
}

func (c *client) request(at time.Duration, target string, h http.Header, step any) *Request {
	q := &Request{At: at, Method: http.MethodGet, Scheme: c.scheme, Host: c.host, Target: target, Proto: "HTTP/1.1", Header: h, step: step}
	if c.scheme == "https" {
		q.Proto = "HTTP/2.0"
	}
	return q
}

// origin is the site as a Referer names it: "https://wiki.example.org".
func (c *client) origin() string { return c.scheme + "://" + c.host }

// secure reports whether a browser counts the site as a secure context, where alone it sends fetch metadata and client hints.
func (c *client) secure() bool {
	host := c.host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return c.scheme == "https" || host == "localhost" || strings.HasPrefix(host, "127.") || host == "[::1]" || strings.HasSuffix(host, ".localhost")
}

// chance returns true with that probability.
func (c *client) chance(p float64) bool { return c.rng.Float64() < p }

// between returns a duration in [low, high).
func (c *client) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(c.rng.Int64N(int64(high-low)))
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// weighted returns an index with the probability of its weight.
func weighted(rng *rand.Rand, n int, weight func(int) float64) int {
	var sum float64
	for i := range n {
		sum += weight(i)
	}
	x := rng.Float64() * sum
	for i := range n {
		if x -= weight(i); x < 0 {
			return i
		}
	}
	return n - 1
}
