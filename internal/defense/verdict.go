package defense

import "time"

// Signal is one observation with a weight and a sentence that a person can read.
type Signal struct {
	Name     string `json:"name"`
	Weight   int    `json:"weight"` // −100..100, added to the score
	Sentence string `json:"sentence"`
}

// MaxScore is the upper bound of a request's score; 0 is the lower.
const MaxScore = 100

// ClampScore bounds a sum of weights to 0..MaxScore.
func ClampScore(sum int) int { return max(0, min(MaxScore, sum)) }

// Basis says what a verdict rests on; ModeCertain carries out only BasisCertain.
type Basis uint8

// The bases.
const (
	BasisJudged   Basis = iota // a score, a budget, or somebody else's list
	BasisCertain               // the client's own declaration, a disproved claim, or a rule that says it is certain
	BasisOperator              // the operator's decision
)

var basisNames = [...]string{"judged", "certain", "operator"}

// String returns the basis's name.
func (b Basis) String() string { return nameOf(basisNames[:], uint8(b)) }

// MarshalText writes the basis's name.
func (b Basis) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a basis's name.
func (b *Basis) UnmarshalText(t []byte) error {
	i, err := indexOf("basis", basisNames[:], string(t))
	*b = Basis(i)
	return err
}

// ShadowHit is a rule in shadow mode that matched: what it would have done.
type ShadowHit struct {
	Rule   string `json:"rule"`
	Action Action `json:"action"`
	Score  int    `json:"score,omitempty"`
}

// Verdict is what the edge does with one request, and why.
type Verdict struct {
	Action Action // what is carried out
	// Intended is what would be carried out in ModeEnforce. It differs from Action
	// when the mode holds the verdict back; Action is then Observe.
	Intended Action
	Score    int // 0..100
	// Rule names what decided: a rule, "threshold:40", "budget:NAME",
	// "decision:ID"; "" when nothing asked for anything but to pass.
	Rule       string
	Reason     string // one sentence for people
	Basis      Basis
	Mode       Mode
	Posture    Posture
	DecisionID string
	RetryAfter time.Duration // for Throttle and answers to non-navigations; 0 if none
	// Ladder and Status are for Challenge, as the rule has them: the zero values leave them to the configuration.
	Ladder Ladder
	Status int
	// Spent says that a clearance would have satisfied the challenge, had its day's budget not been spent.
	Spent   bool
	Signals []Signal // all that fired, rules that adjust the score included
	Shadow  []ShadowHit
}
