package defense

import "time"

// CaseKind says what a case is about.
type CaseKind string

// The kinds of case.
const (
	CaseClient   CaseKind = "client"   // one client; Key is its address or /64
	CaseCampaign CaseKind = "campaign" // many clients that share something; Key is a fingerprint's text or a CIDR prefix
)

// CaseOutcome is what came of judging a case.
type CaseOutcome string

// The outcomes.
const (
	OutcomeOpen    CaseOutcome = ""        // not judged yet
	OutcomeClear   CaseOutcome = "clear"   // looks like readers or welcome crawlers
	OutcomeWatch   CaseOutcome = "watch"   // doubtful: nothing is done, it is judged again with more evidence
	OutcomeDecided CaseOutcome = "decided" // a decision was proposed
)

// CaseLabel is what a person says that a case was: the truth that models are trained on.
type CaseLabel string

// The labels.
const (
	LabelNone    CaseLabel = ""
	LabelHuman   CaseLabel = "human"
	LabelBot     CaseLabel = "bot"
	LabelCrawler CaseLabel = "crawler"
)

// Case is the grouped suspicious events of one client or campaign. Scores are probabilities, 0..1.
type Case struct {
	ID       string   `json:"id"`       // ULID; stays while the same subject is suspicious
	Revision uint64   `json:"revision"` // grows with every change of the evidence; with ID it makes a judgement idempotent
	Kind     CaseKind `json:"kind"`
	Key      string   `json:"key"`
	Site     string   `json:"site"`

	FirstSeen  time.Time `json:"firstSeen"`
	LastSeen   time.Time `json:"lastSeen"`
	EventCount uint64    `json:"eventCount"`
	// Members are the clients of a campaign; of a client's case, itself.
	Members CaseMembers `json:"members"`
	// Readers is how many clients of the last day share the key and behaved like readers:
	// earned a clearance, fetched what pages are made of, or proved who they are. They would be hit too.
	Readers uint64 `json:"readers"`

	Identity EventIdentity `json:"identity"`         // of a client: the crawler that it claims to be
	Family   AgentFamily   `json:"family"`           // that the events claim, the most frequent one
	Agents   []string      `json:"agents,omitempty"` // examples, at most 8
	Paths    []string      `json:"paths,omitempty"`  // examples of what was asked for, with query, at most 16
	Posture  Posture       `json:"posture"`          // the tensest that its latest events met
	// ObserveOnly is set when the events come from a source that does not vouch for the client's
	// address: a decision could fall on somebody's proxy, so there is none.
	ObserveOnly bool `json:"observeOnly,omitempty"`

	Features Features `json:"features"`

	Stages      []Stage     `json:"stages,omitempty"`
	Score       float64     `json:"score"`
	Outcome     CaseOutcome `json:"outcome,omitempty"`
	JudgedAt    time.Time   `json:"judgedAt,omitzero"`
	Label       CaseLabel   `json:"label,omitempty"`
	DecisionIDs []string    `json:"decisionIds,omitempty"`
	// Strikes is how many decisions the subject has earned before, less what has been forgiven for quiet time:
	// each doubles the next decision's time to live.
	Strikes int `json:"strikes,omitempty"`
}

// CaseMembers is who belongs to a case.
type CaseMembers struct {
	Count  uint64   `json:"count"`            // an estimate for large campaigns (HyperLogLog, about 2 %)
	Sample []string `json:"sample,omitempty"` // clients (address or /64), at most 64
}

// Features are the measured behaviour of a case by name, in the units of package behaviour's schema. A feature that
// could not be observed is missing, which is not 0.
type Features struct {
	Schema int                `json:"schema"` // version of the list of names
	Values map[string]float64 `json:"values"`
}

// Stage is what one stage of the escalation found, kept so that a case can be explained and judged again.
type Stage struct {
	Name     string    `json:"name"`   // "behaviour", "model", "reputation", "opinion"
	Score    float64   `json:"score"`  // probability that this is unwanted automation, 0..1
	Weight   float64   `json:"weight"` // how much it counted
	Sentence string    `json:"sentence"`
	At       time.Time `json:"at"`
	// Contributions are the parts of the score, the weightiest first, at most 12.
	Contributions []Contribution `json:"contributions,omitempty"`
	Problem       string         `json:"problem,omitempty"` // why the stage could not judge; Weight is then 0
}

// Contribution is one observation's part in a stage's score. The parts of a stage add up in log-odds.
type Contribution struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`   // what was measured
	LogOdds  float64 `json:"logOdds"` // above 0: towards unwanted automation
	Sentence string  `json:"sentence"`
}

// Judgement is the answer of the escalation engine to a case.
type Judgement struct {
	CaseID    string      `json:"caseId"`
	Revision  uint64      `json:"revision"`
	Stages    []Stage     `json:"stages"`
	Score     float64     `json:"score"`
	Outcome   CaseOutcome `json:"outcome"`
	Proposals []Proposal  `json:"proposals,omitempty"` // what ought to be decided; the intake checks and carries out
}

// Proposal is a decision that the engine asks for.
type Proposal struct {
	Scope   Scope  `json:"scope"`
	Value   string `json:"value"`
	Action  Action `json:"action"`
	Seconds int64  `json:"seconds"` // time to live
	Reason  string `json:"reason"`
}
