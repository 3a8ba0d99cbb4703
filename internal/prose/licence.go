package prose

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLicence is the length of the licence and of the contact, in bytes each.
const MaxLicence = 4 << 10

// Licence says nothing but the site's licence and whom to ask: for owners who do not want to publish what is not true.
type Licence struct {
	sentences [][]byte
	titles    [][]byte
}

// NewLicence returns a text that repeats the sentences of the two. The contact may be empty.
func NewLicence(licence, contact string) (*Licence, error) {
	l := &Licence{}
	for _, s := range []string{licence, contact} {
		s = strings.Join(strings.Fields(s), " ")
		switch {
		case len(s) > MaxLicence:
			return nil, fmt.Errorf("prose: the licence or the contact has %d bytes: want at most %d", len(s), MaxLicence)
		case !utf8.ValidString(s):
			return nil, errors.New("prose: the licence or the contact is not UTF-8")
		case s == "":
			continue
		}
		if r, _ := utf8.DecodeLastRuneInString(s); !strings.ContainsRune(terminators, r) {
			s += "."
		}
		l.sentences = append(l.sentences, []byte(s))
		title := strings.Fields(s)
		title = title[:min(len(title), 8)]
		l.titles = append(l.titles, []byte(strings.TrimRight(strings.Join(title, " "), terminators+",;:")))
	}
	if strings.TrimSpace(licence) == "" {
		return nil, errors.New("prose: there is no licence to tell of")
	}
	return l, nil
}

// AppendSentence appends the licence or the contact, however many words are wanted.
func (l *Licence) AppendSentence(dst []byte, r Source, _ int) []byte {
	return append(dst, l.sentences[below(r, len(l.sentences))]...)
}

// AppendTitle appends the beginning of one of them.
func (l *Licence) AppendTitle(dst []byte, r Source, _ int) []byte {
	return append(dst, l.titles[below(r, len(l.titles))]...)
}
