package clearance

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Issued is a long-lived token that the owner gives to a program: an API client, or
// a bot with consent.
type Issued struct {
	ID      uint64
	Name    string    // who has it: MaxName lower-case letters, digits and hyphens at most
	Issued  time.Time // whole seconds
	Expires time.Time // whole seconds
	Budget  Budget
}

const (
	// MaxName is the length of a name in bytes.
	MaxName = 40
	// MaxLife is the longest that an issued token may be good for.
	MaxLife = 10 * 366 * 24 * time.Hour

	issuedPrefix = "qt1."
	issuedSize   = 8 + 8 + 8 + 4 + 4
)

// CheckName says what is wrong with a name.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' {
		return fmt.Errorf("a token's name is 1 to %d lower-case letters, digits and hyphens, such as partner-search, not %q", MaxName, name)
	}
	return nil
}

// IssueLong returns the text of an issued token: qt1.NAME.TOKEN. The name is
// readable for who finds the token in a configuration, and signed.
func (s *Signer) IssueLong(i *Issued) (string, error) {
	if err := CheckName(i.Name); err != nil {
		return "", err
	}
	switch life := i.Expires.Sub(i.Issued); {
	case life <= 0 || life > MaxLife:
		return "", fmt.Errorf("a token is good for more than nothing and at most 10 years, not %s", life)
	case i.Budget.Minute == 0 || i.Budget.Day == 0:
		return "", fmt.Errorf("a token's budget is at least 1 a minute and 1 a day")
	}
	var b [issuedSize]byte
	binary.BigEndian.PutUint64(b[0:], uint64(i.Issued.Unix()))
	binary.BigEndian.PutUint64(b[8:], uint64(i.Expires.Unix()))
	binary.BigEndian.PutUint64(b[16:], i.ID)
	binary.BigEndian.PutUint32(b[24:], i.Budget.Minute)
	binary.BigEndian.PutUint32(b[28:], i.Budget.Day)
	return issuedPrefix + i.Name + "." + s.Sign(useIssued, b[:], i.Name), nil
}

// ReadLong returns the token of a text that IssueLong wrote. Whether it has run out is
// for the caller to say: see Issued.Good. It allocates nothing.
func (s *Signer) ReadLong(text string) (i Issued, ok bool) {
	rest, ok := strings.CutPrefix(text, issuedPrefix)
	if !ok {
		return Issued{}, false
	}
	name, token, ok := strings.Cut(rest, ".")
	var b [issuedSize]byte
	if !ok || len(name) > MaxName || !s.Verify(useIssued, token, b[:], name) {
		return Issued{}, false
	}
	return Issued{
		Name:   name,
		Issued: time.Unix(int64(binary.BigEndian.Uint64(b[0:])), 0), Expires: time.Unix(int64(binary.BigEndian.Uint64(b[8:])), 0),
		ID:     binary.BigEndian.Uint64(b[16:]),
		Budget: Budget{Minute: binary.BigEndian.Uint32(b[24:]), Day: binary.BigEndian.Uint32(b[28:])},
	}, true
}

// Good reports whether the token is good at now. The owner's and the edge's clocks may differ by Skew before its begin; its
// end is its end.
func (i *Issued) Good(now time.Time) bool {
	return now.Before(i.Expires) && now.Sub(i.Issued) >= -Skew
}
