package decoy

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// namesEvery is in how many records there is one with the contributors.
	namesEvery = 16
	// maxTitle, maxText and maxShort bound the text of a record in bytes; the last is for the last record of a member.
	maxTitle, maxText, maxShort = 120, 1500, 200
	// lastLen is how many bytes are kept for the last record at least, which makes a member as long as was promised. Without its
	// embedding it has less than 700.
	lastLen = 1 << 10
	// drawn is how many random bytes each record has beside its embedding: a number and a checksum.
	drawn = 8 + 32
)

const csvHead = "id,revision,created,title,text,sha256,contributors,embedding\n"

// records writes size bytes of records; size is several times lastLen.
func (x *file) records(p *sheet, f format, aspect, part uint64, size int64) error {
	r := x.source(aspect, part)
	left := size
	if f == formatCSV {
		left -= int64(len(csvHead))
		if err := p.add([]byte(csvHead)); err != nil {
			return err
		}
	}
	record := make([]byte, 0, 4<<10)
	for first := true; ; first = false {
		record = x.record(record[:0], f, r, first)
		if left-int64(len(record)) < lastLen {
			return p.add(x.last(record[:0], f, r, int(left)))
		}
		left -= int64(len(record))
		if err := p.add(record); err != nil {
			return err
		}
	}
}

// record appends a record. The first of a member names the contributors, and so do others now and then.
func (x *file) record(b []byte, f format, r *rand.PCG, first bool) []byte {
	begin := len(b)
	b = x.head(b, f, r)
	b = x.d.paragraph(b, r, between(r, 1, 5), maxText)
	b = x.tail(b, f, r, below(r, namesEvery) == 0 || first)
	b = appendBase64(b, r, x.padding(len(b)-begin)+4*below(r, 6))
	return append(b, closing(f)...)
}

// last appends a record of exactly n bytes, at least lastLen.
func (x *file) last(b []byte, f format, r *rand.PCG, n int) []byte {
	end := len(b) + n
	b = x.head(b, f, r)
	b = x.d.paragraph(b, r, 1, maxShort)
	text := len(b)
	b = x.tail(b, f, r, true)
	padding := end - len(closing(f)) - len(b)
	dots := padding % 4 // base64 comes in fours
	b = append(b, "...."[:dots]...)
	copy(b[text+dots:], b[text:])
	copy(b[text:], "...."[:dots])
	b = appendBase64(b, r, padding-dots)
	return append(b, closing(f)...)
}

// head appends the fields before the text.
func (x *file) head(b []byte, f format, r *rand.PCG) []byte {
	if f == formatJSONL {
		b = append(b, `{"id":`...)
	}
	b = append(b, '"')
	b = appendDigits(b, r, 16)
	b = next(b, f, "revision")
	b = append(b, x.hex...)
	b = next(b, f, "created")
	age := time.Duration(below(r, 3000*24*3600)) * time.Second
	b = x.date.Add(-age).AppendFormat(b, time.RFC3339)
	b = next(b, f, "title")
	b = x.d.title(b, r)
	return next(b, f, "text")
}

// tail appends the fields after the text, without the end of the last.
func (x *file) tail(b []byte, f format, r *rand.PCG, named bool) []byte {
	b = next(b, f, "sha256")
	b = appendDigits(b, r, 64)
	b = next(b, f, "contributors")
	if named {
		b = append(b, x.names...)
	}
	return next(b, f, "embedding")
}

// next ends a field and begins the one with the name. Every field is a string.
func next(b []byte, f format, name string) []byte {
	if f == formatCSV {
		return append(b, `","`...)
	}
	b = append(b, `","`...)
	b = append(b, name...)
	return append(b, `":"`...)
}

// closing ends the last field and the record.
func closing(f format) string {
	if f == formatCSV {
		return "\"\n"
	}
	return "\"}\n"
}

// padding is how many characters of base64, in fours, a record of n bytes needs, so that it cannot be compressed by more than Options.MaxRatio
// whatever its text is: what is random cannot be compressed at all.
func (x *file) padding(n int) int {
	// 3q random bytes are 4q characters: n + 4q is to be at most ratio × (drawn + 3q).
	ratio := x.d.o.MaxRatio
	n += len(`"}`) + 1
	if n <= ratio*drawn {
		return 0
	}
	by := 3*ratio - 4
	return 4 * ((n - ratio*drawn + by - 1) / by)
}

// appendBase64 appends n random characters of base64; n is a multiple of 4.
func appendBase64(b []byte, r *rand.PCG, n int) []byte {
	for ; n > 0; n -= 4 {
		v := r.Uint64()
		b = base64.StdEncoding.AppendEncode(b, []byte{byte(v), byte(v >> 8), byte(v >> 16)})
	}
	return b
}

// appendDigits appends n random hexadecimal digits; n is a multiple of 16.
func appendDigits(b []byte, r *rand.PCG, n int) []byte {
	for ; n > 0; n -= 16 {
		v := r.Uint64()
		for range 16 {
			b = append(b, "0123456789abcdef"[v&15])
			v >>= 4
		}
	}
	return b
}

// title appends a heading that needs no escaping.
func (d *Decoy) title(b []byte, r *rand.PCG) []byte {
	begin := len(b)
	b = d.text.AppendTitle(b, r, between(r, 2, 8))
	return tidy(b, begin, maxTitle)
}

// paragraph appends so many sentences, as far as they fit into most bytes, that need no escaping.
func (d *Decoy) paragraph(b []byte, r *rand.PCG, sentences, most int) []byte {
	begin := len(b)
	for i := range sentences {
		if i > 0 {
			b = append(b, ' ')
		}
		b = d.text.AppendSentence(b, r, between(r, 6, 24))
	}
	return tidy(b, begin, most)
}

// tidy cuts what was appended since begin to most bytes, and puts other characters where quotes, backslashes, controls and what is no UTF-8
// would need escaping in JSON, CSV or Markdown.
func tidy(b []byte, begin, most int) []byte {
	text := b[begin:]
	if len(text) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	for i := 0; i < len(text); {
		c, n := utf8.DecodeRune(text[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			text[i] = '?'
		case strings.ContainsRune("\"\\`|", c):
			text[i] = '\''
		case c < ' ' || c == 0x7f:
			text[i] = ' '
		}
		i += n
	}
	return b[:begin+len(text)]
}
