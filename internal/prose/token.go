package prose

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// piece is a word or a mark of punctuation.
type piece struct {
	text  string
	space bool // there is space before it
	word  bool
}

// maxWord bounds the words of a model, in bytes.
const maxWord = 64

// The longest and the shortest sentences that are learnt, in words.
const (
	minSentence = 2
	maxSentence = 80
)

// sentences calls f with each sentence of a text, which f must not keep. Paragraphs that are no sentences, such as headings and tables, are
// left out, and so are quotation marks and brackets, of which a text by chance would open one and close another.
func sentences(text string, f func([]piece)) {
	for text != "" {
		paragraph, rest := cutParagraph(text)
		text = rest
		if !isHeading(paragraph) {
			split(paragraph, f)
		}
	}
}

// cutParagraph cuts at the first empty line.
func cutParagraph(text string) (paragraph, rest string) {
	for at := 0; ; {
		i := strings.IndexByte(text[at:], '\n')
		if i < 0 {
			return text, ""
		}
		at += i + 1
		line, _, _ := strings.Cut(text[at:], "\n")
		if strings.TrimSpace(line) == "" {
			return text[:at], text[at+min(len(line)+1, len(text)-at):]
		}
	}
}

// isHeading reports whether a paragraph is set in capitals.
func isHeading(s string) bool {
	upper, lower := 0, 0
	for _, r := range s {
		switch {
		case unicode.IsLower(r):
			lower++
		case unicode.IsUpper(r):
			upper++
		}
	}
	return upper > 3 && upper > lower
}

// split finds the sentences of a paragraph. What has no end is none.
func split(s string, f func([]piece)) {
	var now []piece
	words, space, state := 0, false, -1
	last := rune(0) // of what was kept
	for s != "" {
		var segment string
		segment, s, state = uniseg.FirstWordInString(s, state)
		first, _ := utf8.DecodeRuneInString(segment)
		switch {
		case unicode.IsSpace(first):
			next, _ := utf8.DecodeRuneInString(s)
			// Where words are not set apart, the end of a line is no space.
			space = space || !strings.ContainsRune(segment, '\n') || !solid(last) && !solid(next)
			continue
		case unicode.IsLetter(first), unicode.IsNumber(first), first == '_':
			segment = strings.Trim(segment, "_")
			if segment == "" || len(segment) > maxWord {
				continue
			}
			now = append(now, piece{segment, space && len(now) > 0, true})
			words++
		case isMark(first):
			if len(now) == 0 {
				continue // no sentence begins with it
			}
			ends := isEnd(first, now, s)
			switch last := &now[len(now)-1]; {
			case last.word:
				now = append(now, piece{string(first), space && !strings.ContainsRune(",.", first) && !solid(first), false})
			case isDash(first) && last.text == "-":
				last.text = "—" // as typewriters have it
			default: // "?!": the first of them will do
			}
			if ends {
				if first, _ := utf8.DecodeRuneInString(now[0].text); words >= minSentence && words <= maxSentence && !unicode.IsLower(first) {
					f(now)
				}
				now, words = now[:0], 0
			}
		case isQuote(first):
			continue // and the space before it is one before what it opens
		default:
			space = true
			continue
		}
		last, _ = utf8.DecodeLastRuneInString(segment)
		space = false
	}
}

// solid reports whether a character is of a script that sets no spaces between words.
func solid(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) || r >= 0x3000 && r <= 0x303f || r >= 0xff00 && r <= 0xff65
}

func isMark(r rune) bool {
	return strings.ContainsRune(",;:.!?-–—…、。，．！？；：·،؛؟।॥۔", r)
}
func isDash(r rune) bool { return strings.ContainsRune("-–—", r) }
func isQuote(r rune) bool {
	return strings.ContainsRune("\"'()[]{}“”‘’„‚«»‹›「」『』（）【】《》〈〉*|", r)
}

const terminators = ".!?…。．！？؟।॥۔"

// abbreviations end with a full stop that ends no sentence.
const abbreviations = " mr mrs ms dr st messrs prop prof fig obs exper qu lib viz etc vol no ch pp e.g i.e cf bzw usw z.b ca nr "

// isEnd reports whether the mark ends the sentence, given what is before and behind it.
func isEnd(r rune, before []piece, after string) bool {
	if !strings.ContainsRune(terminators, r) {
		return false
	}
	if r == '.' {
		w := before[len(before)-1]
		if w.word && (utf8.RuneCountInString(w.text) == 1 && !solid([]rune(w.text)[0]) || strings.Contains(abbreviations, " "+strings.ToLower(w.text)+" ")) {
			return false
		}
	}
	for _, r := range after {
		switch {
		case unicode.IsSpace(r), isQuote(r), isMark(r):
		default:
			return !unicode.IsLower(r)
		}
	}
	return true
}
