package plain

import (
	"strings"
	"testing"
)

func TestWhatATerminalActsOnIsUnsafe(t *testing.T) {
	for _, s := range []string{"\x1b", "\r", "\n", "\x00", "\x7f", "\u009b", "\u202e", "\u2066", "\xff"} {
		if strings.IndexFunc(s, Unsafe) != 0 {
			t.Errorf("%q is taken for plain", s)
		}
	}
	if i := strings.IndexFunc("GET /wiki/Weißdorn?q=山 … ~", Unsafe); i >= 0 {
		t.Errorf("plain text is unsafe at %d", i)
	}
}
