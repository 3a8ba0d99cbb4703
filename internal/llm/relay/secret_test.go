package relay

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzNoSplitLetsTheKeyThrough(f *testing.F) {
	f.Add("sk-0123456789abcdef", "data: sk-0123456789abcdef\n\ndata: sk-0123456789abcd\n\n", uint8(3))
	f.Add("aaaaaaaaaaaaaaab", strings.Repeat("a", 40)+"b", uint8(1))
	f.Add("abababababababab", strings.Repeat("ab", 30), uint8(5))
	f.Add("sk-0123456789abcdef", "ends in the middle: sk-0123", uint8(7))
	f.Fuzz(func(t *testing.T, key, text string, step uint8) {
		if len(key) < minSecret || strings.Trim(key, "*") == "" {
			return // a key of asterisks looks like what replaces it
		}
		m := masker{secret: secret(key)}
		var got []byte
		for rest := []byte(text); len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			got, rest = append(got, m.next(rest[:n])...), rest[n:]
		}
		got = append(got, m.rest()...)
		whole := bytes.ReplaceAll([]byte(text), []byte(key), bytes.Repeat([]byte{'*'}, len(key)))
		if strings.Contains(key, "*") {
			// What replaces one key may complete another; only that none gets through is certain.
			if bytes.Contains(got, []byte(key)) && !bytes.Contains(whole, []byte(key)) {
				t.Errorf("key %q in %q", key, got)
			}
			return
		}
		if !bytes.Equal(got, whole) {
			t.Errorf("key %q in pieces of %d: %q became %q, want %q", key, int(step)+1, text, got, whole)
		}
	})
}

func TestAWholeEventIsNotHeldBack(t *testing.T) {
	t.Parallel()
	m := masker{secret: "sk-0123456789abcdef"}
	if event := "data: {\"x\":\"sk-0123456789abcde\"}\n\n"; string(m.next([]byte(event))) != event {
		t.Errorf("%q was held back", m.held)
	}
	if out := m.next([]byte("data: sk-01")); string(out) != "data: " {
		t.Errorf("the beginning of a key went on: %q", out)
	}
}

func TestACauseIsShortAndWithoutTheKey(t *testing.T) {
	t.Parallel()
	const key = "sk-0123456789abcdef"
	got := secret(key).short("malformed " + key + strings.Repeat("é", 10_000))
	if strings.Contains(got, key) || len(got) > maxCause+len("…") || !strings.HasPrefix(got, "malformed ***") {
		t.Errorf("%q", got)
	}
}
