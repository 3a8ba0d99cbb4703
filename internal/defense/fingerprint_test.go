package defense

import (
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/race"
)

func TestPathPatterns(t *testing.T) {
	for _, tt := range []struct{ path, query, want string }{
		{"/", "", "/"},
		{"/wiki/Hedge", "", "/wiki/*"},
		{"/w/index.php", "title=Hedge&oldid=7&action=edit", "/w/index.php?title&oldid&action"},
		{"/alice/project/commit/0f3c2a9b", "", "/*/*/commit/%"},
		{"/alice/project/commit/abcdefab", "", "/*/*/commit/*"}, // could be a word
		{"/topic/10423.html", "page=2", "/topic/#?page"},
		{"/a/b/c/d/e/f/g/h/i/j", "", "/*/*/*/*/*/*/*/*"},
		{"/search", "&&q=x&=y", "/search?q"},
		{"/item/42/", "", "/item/#/"},
	} {
		if got := PathPattern(tt.path, tt.query); got != tt.want {
			t.Errorf("PathPattern(%q, %q) = %q, want %q", tt.path, tt.query, got, tt.want)
		}
	}
}

func TestFingerprintsTellProgramsAndPatternsApart(t *testing.T) {
	base := Fingerprints("Chrome", 7, "t13", "/w/index.php", "title=Hedge&oldid=7")
	tests := []struct {
		name                    string
		got                     [FingerprintKinds]Fingerprint
		pattern, shape, program bool // stays the same
	}{
		{"another page of the same pattern", Fingerprints("Chrome", 7, "t13", "/w/index.php", "oldid=9&title=Thorn"), true, true, true},
		{"another pattern", Fingerprints("Chrome", 7, "t13", "/wiki/Hedge", ""), false, false, true},
		{"another agent", Fingerprints("Firefox", 7, "t13", "/w/index.php", "title=Hedge&oldid=7"), false, true, false},
		{"other headers", Fingerprints("Chrome", 8, "t13", "/w/index.php", "title=Hedge&oldid=7"), false, false, false},
		{"other TLS", Fingerprints("Chrome", 7, "t12", "/w/index.php", "title=Hedge&oldid=7"), false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for kind, same := range map[FingerprintKind]bool{FingerprintPattern: tt.pattern, FingerprintShape: tt.shape, FingerprintProgram: tt.program} {
				if got := tt.got[kind] == base[kind]; got != same {
					t.Errorf("%s the same: %v, want %v", kind, got, same)
				}
			}
		})
	}
	for _, f := range Fingerprints("Chrome", 0, "t13", "/", "") {
		if f.Hash != 0 {
			t.Errorf("a %s fingerprint without a header shape: %s", f.Kind, f)
		}
	}
}

func TestFingerprintsHaveOneText(t *testing.T) {
	for _, f := range Fingerprints("Chrome", 7, "", "/", "") {
		got, err := ParseFingerprint(f.String())
		if err != nil || got != f {
			t.Errorf("%s came back as %s, %v", f, got, err)
		}
	}
	for _, bad := range []string{"", "program", "program:", "program:12", "program:0000000000000000", "other:9f2c41d07b3ea865", "program:9f2c41d07b3ea865x", "program:+f2c41d07b3ea865"} {
		if f, err := ParseFingerprint(bad); err == nil {
			t.Errorf("%q was taken for %s", bad, f)
		}
	}
}

func TestFingerprintsDoNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	path, query := "/w/index.php/"+strings.Repeat("x", 40), "title=Hedge&oldid=7"
	if n := testing.AllocsPerRun(100, func() { Fingerprints("Chrome", 7, "t13", path, query) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFingerprints(b *testing.B) {
	const agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	for b.Loop() {
		Fingerprints(agent, 7, "", "/w/index.php", "title=Hedge&oldid=7&action=edit")
	}
}
