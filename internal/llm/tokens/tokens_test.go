package tokens_test

import (
	"strings"
	"testing"

	"github.com/tiktoken-go/tokenizer/codec"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
)

func TestTextsHaveTheTokensThatTheTokenizerFinds(t *testing.T) {
	t.Parallel()
	var c tokens.Counter
	whole := codec.NewO200kBase()
	prose := strings.Repeat("It is a truth universally acknowledged, that a single man in possession of 3,142 pounds\nmust be in want of a wife.  Größe, 言語, naïve — émigré! ", 60)
	for _, text := range []string{"", "a", " ", "hello world", prose, strings.Repeat("word ", 3000), "\xff\xfe broken", "\n\n\n  \t x"} {
		want, err := whole.Count(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Text(text); got != want {
			t.Errorf("%.30q…: %d, want %d", text, got, want)
		}
	}
}

func TestALongTextIsCountedInPart(t *testing.T) {
	t.Parallel()
	var c tokens.Counter
	one := c.Text(strings.Repeat("lorem ipsum dolor ", 1000))
	if got := c.Text(strings.Repeat("lorem ipsum dolor ", 200_000)); got < 199*one || got > 201*one {
		t.Errorf("%d, want about %d", got, 200*one)
	}
	// A word without an end must not take the square of its length.
	if got := c.Text(strings.Repeat("a", 4<<20)); got < 100_000 || got > 4<<20 {
		t.Errorf("a long word has %d", got)
	}
	if got := c.Text(strings.Repeat("\x80", 4000)); got == 0 {
		t.Error("bytes that are no text have none")
	}
}

func TestCallsHaveTokensOfAllTheirParts(t *testing.T) {
	t.Parallel()
	var c tokens.Counter
	r, err := chat.ParseRequest([]byte(`{"model":"m","messages":[{"role":"user","content":"hello world"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Request(r); got != 2+4+3 {
		t.Errorf("%d, want 9", got)
	}
	e, err := chat.ParseEmbedding([]byte(`{"model":"m","input":[[1,2,3],[4]]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Embedding(e); got < 4 {
		t.Errorf("%d, want 4 at least", got)
	}
}

func FuzzText(f *testing.F) {
	var c tokens.Counter
	f.Add("hello  world")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if n := c.Text(s); n < 0 || n > len(s) || n == 0 && s != "" {
			t.Errorf("%d tokens of %d bytes", n, len(s))
		}
	})
}
