package maze

import (
	"strings"
)

// plainText makes sentences of a few hundred words at random: no language, but the lengths of one.
type plainText struct{ words []string }

func newPlainText() *plainText {
	t := &plainText{}
	onset := strings.Fields("b br c ch d dr f fl g gr h j k l m n p pr qu r s sh st t tr v w")
	vowel := strings.Fields("a e i o u ea ou ai")
	coda := strings.Fields("n r l s t nd st m ck th")
	for i := range 400 {
		w := onset[i*7%len(onset)] + vowel[i*5%len(vowel)]
		if i%3 > 0 {
			w += onset[i*11%len(onset)] + vowel[i*3%len(vowel)]
		}
		if i%5 > 1 {
			w += coda[i%len(coda)]
		}
		t.words = append(t.words, w)
	}
	return t
}

func (t *plainText) word(r Source) string {
	// Common words come first, as in a language.
	return t.words[below(r, 1+below(r, len(t.words)))]
}

func (t *plainText) AppendSentence(dst []byte, r Source, words int) []byte {
	start := len(dst)
	for i := range max(words, 1) {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, t.word(r)...)
	}
	dst[start] -= 0x20
	return append(dst, '.')
}

func (t *plainText) AppendTitle(dst []byte, r Source, words int) []byte {
	dst = t.AppendSentence(dst, r, words)
	return dst[:len(dst)-1]
}

// hostileText says what breaks markup that is not escaped.
type hostileText struct{}

func (hostileText) AppendSentence(dst []byte, r Source, _ int) []byte {
	pieces := [...]string{"</p><script>alert(1)</script>", `" onload="x`, "' & < >", "]]>", "\x00\x1b\xff\xfe", "{{main}}", "\u2028", "\ufffe", "</title></textarea>", `\"}`, "&#0;", "<!--"}
	for range 3 {
		dst = append(dst, pieces[below(r, len(pieces))]...)
	}
	return dst
}

func (h hostileText) AppendTitle(dst []byte, r Source, words int) []byte {
	return h.AppendSentence(dst, r, words)
}

// silentText says nothing at all.
type silentText struct{}

func (silentText) AppendSentence(dst []byte, _ Source, _ int) []byte { return dst }
func (silentText) AppendTitle(dst []byte, _ Source, _ int) []byte    { return dst }
