// Package tokens counts the tokens of texts and calls, as OpenAI's models of the last years have them (o200k_base). Other providers' differ by some
// per cent; for choosing a route and for reserving a budget that is near enough, and what is charged is what the provider tells.
package tokens

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer/codec"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

const (
	// maxExact is how much of a text is counted, in bytes; a longer one has as many tokens for each byte as that.
	maxExact = 256 << 10
	// maxPiece bounds what the tokenizer sees at once, in bytes: it takes the square of a word's length.
	maxPiece = 1 << 10

	perMessage = 4    // the role and what is between messages
	perAnswer  = 3    // what begins the answer
	perImage   = 1100 // about what a large one takes at OpenAI
	perTool    = 12
)

// Counter counts tokens. Its vocabulary, some 30 MB, is made at the first count. It is safe for concurrent use.
type Counter struct {
	once    sync.Once
	codec   *codec.Codec
	missing []byte // of which the library's vocabulary has no token, and which it leaves out
}

func (c *Counter) open() {
	c.codec = codec.NewO200kBase()
	for b := range utf8.RuneSelf {
		if n, err := c.codec.Count(string(rune(b))); err == nil && n == 0 {
			c.missing = append(c.missing, byte(b))
		}
	}
}

// Text is the number of tokens of a text.
func (c *Counter) Text(s string) int {
	if s == "" {
		return 0
	}
	c.once.Do(c.open)
	whole, n := len(s), 0
	s = cut(s, maxExact)
	counted := len(s)
	for s != "" {
		p := piece(s)
		k, err := c.codec.Count(p)
		if err != nil {
			k = len(p) // one for each byte is the most that there can be
		}
		for _, b := range c.missing {
			k += strings.Count(p, string(rune(b)))
		}
		if k == 0 {
			k = 1
		}
		n, s = n+k, s[len(p):]
	}
	if whole > counted {
		n = int(float64(n) * float64(whole) / float64(counted))
	}
	return n
}

// cut is the beginning of a text, of at most that many bytes and whole characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// piece is the beginning of a text up to where a word begins, if there is such a place: there the tokenizer cuts as well.
func piece(s string) string {
	p := cut(s, maxPiece)
	if len(p) == 0 { // no character begins there
		return s[:min(len(s), maxPiece)]
	}
	if len(p) == len(s) {
		return s
	}
	for i := len(p) - 1; i > len(p)/2; i-- {
		before, _ := utf8.DecodeLastRuneInString(p[:i])
		if p[i] == ' ' && !unicode.IsSpace(before) && i+1 < len(s) && s[i+1] > ' ' {
			return p[:i]
		}
	}
	return p
}

// Request is about the number of tokens of a call's prompt.
func (c *Counter) Request(r *chat.Request) int {
	n := perAnswer
	for i := range r.Messages {
		m := &r.Messages[i]
		n += perMessage + c.Text(m.Name)
		for j := range m.Content {
			p := &m.Content[j]
			if p.ImageURL != nil {
				n += perImage
			}
			n += c.Text(p.Text) + c.Text(p.Refusal)
		}
		for j := range m.ToolCalls {
			n += c.Text(m.ToolCalls[j].Function.Name) + c.Text(m.ToolCalls[j].Function.Arguments) + perMessage
		}
	}
	for i := range r.Tools {
		f := &r.Tools[i].Function
		n += perTool + c.Text(f.Name) + c.Text(f.Description) + c.Text(string(f.Parameters))
	}
	if f := r.ResponseFormat; f != nil && f.JSONSchema != nil {
		n += c.Text(f.JSONSchema.Name) + c.Text(string(f.JSONSchema.Schema))
	}
	return n
}

// Embedding is about the number of tokens of texts that are to be embedded.
func (c *Counter) Embedding(r *chat.EmbeddingRequest) int {
	if r.Tokens {
		return 1 + strings.Count(string(r.Raw), ",")
	}
	n := 0
	for _, s := range r.Input {
		n += c.Text(s)
	}
	return n
}
