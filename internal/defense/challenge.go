package defense

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ChallengeKind is one way to tell a browser from a program.
type ChallengeKind uint8

// The kinds of challenge.
const (
	ChallengeNone     ChallengeKind = iota // none; what ends a ladder
	ChallengeSilent                        // nothing shown: the page's own style sheet is loaded as a browser does
	ChallengeRefresh                       // a cookie is kept and a timed refresh followed
	ChallengeWork                          // a calculation by the browser, in a few seconds at most
	ChallengeQuestion                      // a word to be chosen from a few
	ChallengeCaptcha                       // a provider's check, configured by the owner
)

var challengeNames = [...]string{"none", "silent", "refresh", "work", "question", "captcha"}

// ChallengeKinds lists the kinds that a ladder can have.
func ChallengeKinds() []ChallengeKind {
	return []ChallengeKind{ChallengeSilent, ChallengeRefresh, ChallengeWork, ChallengeQuestion, ChallengeCaptcha}
}

// String returns the kind's name.
func (k ChallengeKind) String() string { return nameOf(challengeNames[:], uint8(k)) }

// MarshalText writes the kind's name.
func (k ChallengeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind's name; none is no kind.
func (k *ChallengeKind) UnmarshalText(b []byte) error {
	i, err := indexOf("challenge", challengeNames[:], string(b))
	if err == nil && i == 0 {
		err = fmt.Errorf("unknown challenge %q (known: %s)", "none", strings.Join(challengeNames[1:], ", "))
	}
	*k = ChallengeKind(i)
	return err
}

// Ladder is the order in which kinds of challenge are tried, from the first; ChallengeNone ends it.
// The zero Ladder says nothing: the configured one counts.
type Ladder [5]ChallengeKind

// NewLadder returns a ladder of these kinds, each once.
func NewLadder(kinds ...ChallengeKind) (Ladder, error) {
	var l Ladder
	for i, k := range kinds {
		if i == len(l) {
			return Ladder{}, fmt.Errorf("a ladder has at most %d kinds of challenge", len(l))
		}
		if l.Has(k) {
			return Ladder{}, fmt.Errorf("%s stands twice in the ladder", k)
		}
		l[i] = k
	}
	return l, nil
}

// Has reports whether the kind is a rung of the ladder.
func (l Ladder) Has(k ChallengeKind) bool {
	for _, r := range l {
		if r == k && k != ChallengeNone {
			return true
		}
	}
	return false
}

// String lists the kinds.
func (l Ladder) String() string {
	var names []string
	for _, k := range l {
		if k != ChallengeNone {
			names = append(names, k.String())
		}
	}
	return strings.Join(names, ", ")
}

// TokenID is the public number of a clearance or an issued token: it says which
// token it was and is no credential. 0 is none.
type TokenID uint64

// String returns 16 hexadecimal digits, "" for none.
func (t TokenID) String() string {
	if t == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", uint64(t))
}

// ParseTokenID reads what String writes.
func ParseTokenID(s string) (TokenID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || n == 0 {
		return 0, fmt.Errorf("%q is not a token's number, which has 16 hexadecimal digits", s)
	}
	return TokenID(n), nil
}

// MarshalText writes what String returns.
func (t TokenID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes of any but none.
func (t *TokenID) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTokenID(string(b))
	return err
}

// Clearance is the state of the token that a solved challenge earned, or that the owner issued to a program.
type Clearance struct {
	Valid bool
	ID    TokenID
	Name  string        // of an issued token; "" for a solved challenge
	Kind  ChallengeKind // what was solved; ChallengeNone for an issued token
	// Changed counts what differs from when it was earned: the client's neighbourhood, what its agent claims to be. Each
	// doubles what a request costs.
	Changed uint8
	Minute  uint32    // requests a minute that it is good for
	Day     uint32    // requests a day that it is good for
	Issued  time.Time // when it was earned or renewed last
}

// Cost is how many requests of its budget one request spends.
func (c *Clearance) Cost() float64 { return float64(uint(1) << c.Changed) }

// Redemption is the fact that a challenge's ticket was redeemed. Each ticket
// earns one clearance; a second redemption by the same visitor is a repeated request and earns the same one.
type Redemption struct {
	Ticket  TokenID   `json:"ticket"`
	Visitor TokenID   `json:"visitor"`
	At      time.Time `json:"at"`
	Share   uint8     `json:"share"` // of a full budget, in 255ths
}
