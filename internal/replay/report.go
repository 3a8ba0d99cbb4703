package replay

import (
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Report says what a policy would have done with a log. Sizes are in bytes.
type Report struct {
	Policy   string  `json:"policy"`
	Mode     string  `json:"mode"`
	Posture  string  `json:"posture"`
	Inputs   []Input `json:"inputs"`
	Requests uint64  `json:"requests"` // lines that were understood and judged
	Broken   uint64  `json:"broken"`

	Start    time.Time         `json:"start,omitzero"`
	End      time.Time         `json:"end,omitzero"`
	Bytes    int64             `json:"bytes"`
	Verdicts map[string]uint64 `json:"verdicts"` // by action
	Spared   Spared            `json:"spared"`
	Timeline Timeline          `json:"timeline"`

	// Readers are the requests that look like readers, by kind; Harm are those of them that
	// would have been stopped, by what would have stopped them.
	Readers     []Row  `json:"readers"`
	Harm        []Harm `json:"harm"`
	HarmOmitted uint64 `json:"harmOmitted,omitempty"`

	Crawlers        []CrawlerRow `json:"crawlers"`
	Clients         []Row        `json:"clients"`
	StoppedClients  []Row        `json:"stoppedClients"`
	StoppedPrefixes []Row        `json:"stoppedPrefixes"`
	StoppedAgents   []Row        `json:"stoppedAgents"`
	StoppedPaths    []Row        `json:"stoppedPaths"`
	Rules           []Row        `json:"rules"`
	Shadow          []Row        `json:"shadow,omitempty"`
	Signals         []Row        `json:"signals"`
	// Unrunnable are the signals that could not run because the log does not have what they need.
	Unrunnable  []string `json:"unrunnable,omitempty"`
	Approximate bool     `json:"approximate,omitempty"` // the log has more clients or paths than are kept; the lists' tails are not exact

	Comparison *Comparison `json:"comparison,omitempty"` // with a second policy, if there is one
}

// Input is one file that was read.
type Input struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	Lines  uint64 `json:"lines"`
	Broken uint64 `json:"broken"`
	// Reasons are what was wrong with broken lines, most frequent first.
	Reasons []Reason `json:"reasons,omitempty"`
}

// Reason is one kind of broken line.
type Reason struct {
	Text    string `json:"text"`
	Lines   uint64 `json:"lines"`
	Example string `json:"example,omitempty"`
	At      int    `json:"at,omitempty"` // line of the example
}

// Spared is the load that the site would not have had.
type Spared struct {
	Requests uint64  `json:"requests"`
	Bytes    int64   `json:"bytes"`
	Seconds  float64 `json:"seconds,omitempty"` // of the site's time, where the log says
}

// Timeline is the verdicts over time.
type Timeline struct {
	Start   time.Time `json:"start,omitzero"`
	Width   int64     `json:"width"` // seconds per bucket
	Buckets []Bucket  `json:"buckets"`
}

// Bucket is one step of the timeline.
type Bucket struct {
	Passed     uint64 `json:"passed"`
	Throttled  uint64 `json:"throttled"`
	Challenged uint64 `json:"challenged"`
	Refused    uint64 `json:"refused"`
}

// Row is a line of a table.
type Row struct {
	Name     string            `json:"name"`
	Requests uint64            `json:"requests"`
	Stopped  uint64            `json:"stopped"`
	Bytes    int64             `json:"bytes"`
	Actions  map[string]uint64 `json:"actions,omitempty"`
}

// CrawlerRow is a crawler that somebody claimed to be.
type CrawlerRow struct {
	Row
	ID       string `json:"id"`
	Operator string `json:"operator,omitempty"`
	Purpose  string `json:"purpose"`
}

// Harm is a group of requests that look like readers and would have been stopped.
type Harm struct {
	Reader   string         `json:"reader"`
	Action   defense.Action `json:"action"`
	Rule     string         `json:"rule"`
	Reason   string         `json:"reason"`
	Requests uint64         `json:"requests"`
	Clients  int            `json:"clients"`
	Examples []Example      `json:"examples"`
}

// Example is one line of a log.
type Example struct {
	File    string         `json:"file"`
	Line    int            `json:"line"`
	Time    time.Time      `json:"time"`
	Client  string         `json:"client"`
	Request string         `json:"request"`
	Agent   string         `json:"agent"`
	Action  defense.Action `json:"action"`
	Rule    string         `json:"rule"`
	Score   int            `json:"score"`
	Signals []string       `json:"signals,omitempty"`
}

// HarmTotal is how many requests that look like readers would have been stopped.
func (r *Report) HarmTotal() (stopped, all uint64) {
	for _, k := range r.Readers {
		stopped += k.Stopped
		all += k.Requests
	}
	return stopped, all
}
