package defense

import (
	"fmt"
	"strings"
)

// nameOf returns the name at index i, or a number that nothing parses.
func nameOf(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

// indexOf returns the index of name among names; the error lists them.
func indexOf(what string, names []string, name string) (uint8, error) {
	for i, n := range names {
		if n == name {
			return uint8(i), nil
		}
	}
	return 0, fmt.Errorf("unknown %s %q: use one of %s", what, name, strings.Join(names, ", "))
}

// Action is what the edge does with a request, or what a decision asks for.
// The zero value is Allow.
type Action uint8

// The actions, mildest first. Observe lets the request pass but records it as
// one that another mode or posture would have stopped.
const (
	Allow Action = iota
	Observe
	Throttle
	Challenge
	Tarpit
	Deny
	// Charge asks a crawler for payment. It is reserved: nothing carries it out yet,
	// and the policy compiler refuses it by name.
	Charge
)

var actionNames = [...]string{"allow", "observe", "throttle", "challenge", "tarpit", "deny", "charge"}

// String returns the action's name as used in policies, events and metrics.
func (a Action) String() string { return nameOf(actionNames[:], uint8(a)) }

// Stops reports whether the action keeps the request from the upstream.
func (a Action) Stops() bool { return a >= Throttle }

// ParseAction returns the action with that name. The error lists the names.
func ParseAction(s string) (Action, error) {
	i, err := indexOf("action", actionNames[:], s)
	return Action(i), err
}

// MarshalText writes the action's name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an action's name.
func (a *Action) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAction(string(b))
	return err
}

// Posture is how tense the edge is. Rules and thresholds may ask for a least
// posture, so that nobody meets a challenge on a quiet day.
type Posture uint8

// The postures, calmest first.
const (
	Calm Posture = iota
	Guarded
	Siege
)

var postureNames = [...]string{"calm", "guarded", "siege"}

// String returns the posture's name.
func (p Posture) String() string { return nameOf(postureNames[:], uint8(p)) }

// ParsePosture returns the posture with that name.
func ParsePosture(s string) (Posture, error) {
	i, err := indexOf("posture", postureNames[:], s)
	return Posture(i), err
}

// MarshalText writes the posture's name.
func (p Posture) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a posture's name.
func (p *Posture) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosture(string(b))
	return err
}

// Mode says which verdicts an edge carries out. The zero value is ModeCertain,
// what a first install does.
type Mode uint8

// The modes. In every mode but ModeOff requests are judged and recorded alike;
// a verdict that the mode does not carry out becomes Observe with Verdict.Intended set.
const (
	// ModeCertain carries out what is certain (agents that declare themselves,
	// rules marked certain, the operator's decisions) and observes what is judged.
	ModeCertain Mode = iota
	// ModeEnforce carries out every verdict.
	ModeEnforce
	// ModeObserve carries out none.
	ModeObserve
	// ModeOff passes every request unjudged.
	ModeOff
)

var modeNames = [...]string{"certain", "enforce", "observe", "off"}

// String returns the mode's name.
func (m Mode) String() string { return nameOf(modeNames[:], uint8(m)) }

// ParseMode returns the mode with that name.
func ParseMode(s string) (Mode, error) {
	i, err := indexOf("mode", modeNames[:], s)
	return Mode(i), err
}

// MarshalText writes the mode's name.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads a mode's name.
func (m *Mode) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMode(string(b))
	return err
}
