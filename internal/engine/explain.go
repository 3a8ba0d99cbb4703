package engine

import (
	"fmt"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/policy"
)

// Explanation is the way to a verdict, step by step. A nil Explanation takes no
// notes. A note with a text among its arguments is made behind a comparison with nil:
// the argument would be allocated for every request otherwise.
type Explanation struct {
	Decisions []DecisionNote // found for this client, with what became of them
	Steps     []policy.Step  // every rule that was considered
	Notes     []string       // what was done to the verdict afterwards, in order
}

// DecisionNote is a decision that matched and what it did.
type DecisionNote struct {
	Found decision.Found
	Note  string
}

func (x *Explanation) note(format string, args ...any) {
	if x != nil {
		x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
	}
}

func (x *Explanation) decision(f *decision.Found, note string) {
	if x != nil {
		x.Decisions = append(x.Decisions, DecisionNote{Found: *f, Note: note})
	}
}

func (x *Explanation) policy(out *policy.Outcome) {
	if x != nil {
		x.Steps = append(x.Steps, out.Trace...)
	}
}
