package decoy

import (
	"net/netip"
	"time"
)

// The forms of a mark.
const (
	FormHex   = "hex"   // 32 hexadecimal digits
	FormNames = "names" // made-up names of people
)

// Mark is a mark that was found.
type Mark struct {
	Prefix netip.Prefix // the client's address, or its IPv6 /64; invalid when it had no address
	Time   time.Time    // when it was given the data, to the minute
	Form   string       // FormHex or FormNames
	Offset int          // where in the text the mark begins first, in bytes
}

const (
	// MaxText is how much of a text Find looks at, in bytes.
	MaxText = 64 << 20
	// MaxMarks is how many marks Find returns at most.
	MaxMarks = 10000
)

// Find returns the marks in a text, each once in either form, in the order in which they end. Names are found also where case,
// spaces, digits or punctuation were changed, added or lost; hexadecimal digits in either case and with single hyphens between.
//
// The text is what was published, unpacked. Nothing else than a mark made with this seed is returned, but for one in four billion of
// the places that look like one. Time grows with the length of the text alone.
func (d *Decoy) Find(text []byte) []Mark {
	f := finder{d: d, seen: map[found]bool{}}
	text = text[:min(len(text), MaxText)]
	for i, c := range text {
		f.digit(i, c)
		f.letter(i, c)
		if len(f.out) == MaxMarks {
			break
		}
	}
	return f.out
}

// found is a mark that was found.
type found struct {
	mark [markLen]byte
	form string
}

// finder looks at one byte after the other.
type finder struct {
	d    *Decoy
	out  []Mark
	seen map[found]bool
	room room

	// The latest hexadecimal digits: a window of a mark's length over their values, and where each was.
	digits struct {
		n      int  // in a row
		hyphen bool // since the last
		at     [2 * markLen]int
		value  [2 * markLen]byte
	}
	// The latest letters, and for each way to divide letters into threes the latest syllables in a row.
	letters struct {
		n      int
		at     [syllableLen]int
		value  [syllableLen]byte
		chains [syllableLen]chain
	}
}

// chain is syllables in a row.
type chain struct {
	n     int
	at    [markLen]int
	value [markLen]byte
}

// digit takes the byte as part of the form of digits.
func (f *finder) digit(i int, c byte) {
	w := &f.digits
	v, ok := nibble(c)
	if !ok {
		if c == '-' && !w.hyphen {
			w.hyphen = true
		} else {
			w.n = 0
		}
		return
	}
	w.hyphen = false
	place := w.n % len(w.at)
	w.at[place], w.value[place] = i, v
	if w.n++; w.n < len(w.at) {
		return
	}
	var m [markLen]byte
	for k := range m {
		m[k] = w.value[(w.n+2*k)%len(w.at)]<<4 | w.value[(w.n+2*k+1)%len(w.at)]
	}
	if f.try(m, FormHex, w.at[w.n%len(w.at)]) {
		w.n = 0
	}
}

func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// letter takes the byte as part of the form of names.
func (f *finder) letter(i int, c byte) {
	c |= 0x20
	if c < 'a' || c > 'z' {
		return
	}
	w := &f.letters
	copy(w.at[:], w.at[1:])
	copy(w.value[:], w.value[1:])
	w.at[syllableLen-1], w.value[syllableLen-1] = i, c
	if w.n++; w.n < syllableLen {
		return
	}
	ch := &w.chains[w.n%syllableLen]
	b, ok := byteOf(w.value)
	if !ok {
		ch.n = 0
		return
	}
	place := ch.n % markLen
	ch.at[place], ch.value[place] = w.at[0], b
	if ch.n++; ch.n < markLen {
		return
	}
	var m [markLen]byte
	n := copy(m[:], ch.value[ch.n%markLen:])
	copy(m[n:], ch.value[:])
	if f.try(m, FormNames, ch.at[ch.n%markLen]) {
		ch.n = 0
	}
}

// try notes a mark if it is one.
func (f *finder) try(m [markLen]byte, form string, offset int) bool {
	f.room.mark = m
	client, at, ok := f.d.open(&f.room)
	if !ok {
		return false
	}
	if k := (found{m, form}); !f.seen[k] {
		f.seen[k] = true
		f.out = append(f.out, Mark{Prefix: client, Time: at, Form: form, Offset: offset})
	}
	return true
}
