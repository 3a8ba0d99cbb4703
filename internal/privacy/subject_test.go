package privacy

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

func masker(m AddressMode) *Masker {
	return Settings{Addresses: m, Key: bytes.Repeat([]byte("k"), 32)}.Masker()
}

func TestSubjectsAreKeptInTheChosenForm(t *testing.T) {
	for _, tt := range []struct{ in, full, truncated, hashed string }{
		{"192.0.2.77", "192.0.2.77", "192.0.2.0/24", "eda90de963f99742"},
		{"192.0.2.64/26", "192.0.2.64/26", "192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.0.0/16", "192.0.0.0/16", "192.0.0.0/16", "192.0.0.0/16"},
		{"2001:db8:1:2::/64", "2001:db8:1:2::/64", "2001:db8:1::/48", "242290304ff271d2"},
		{"2001:db8:1:2::9", "2001:db8:1:2::9", "2001:db8:1::/48", "242290304ff271d2"},
		{"program:9f2c41d07b3ea865", "program:9f2c41d07b3ea865", "program:9f2c41d07b3ea865", "program:9f2c41d07b3ea865"},
		{"eda90de963f99742", "eda90de963f99742", "eda90de963f99742", "eda90de963f99742"},
		{"", "", "", ""},
	} {
		for mode, want := range map[AddressMode]string{Full: tt.full, Truncated: tt.truncated, Hashed: tt.hashed} {
			if got := masker(mode).Subject(tt.in); got != want {
				t.Errorf("%s: %q is kept as %q, want %q", mode, tt.in, got, want)
			}
		}
	}
}

func TestOnlyAHashLeadsBackToWhoNamesTheClient(t *testing.T) {
	for mode, want := range map[AddressMode]bool{Full: false, Truncated: false, Hashed: true} {
		m := masker(mode)
		if got := m.Restores("192.0.2.77", m.Subject("192.0.2.77")); got != want {
			t.Errorf("%s: %v", mode, got)
		}
		if m.Restores("192.0.2.78", m.Subject("192.0.2.77")) {
			t.Errorf("%s: a neighbour is shown the client", mode)
		}
	}
}

func TestRangesThatHashesDoNotShowAreRefused(t *testing.T) {
	for _, s := range []string{"192.0.0.0/16", "192.0.2.0/28", "2001:db8::/32", "2001:db8:1::/56"} {
		if _, err := masker(Hashed).Range(netip.MustParsePrefix(s)); !errors.Is(err, ErrTooWide) {
			t.Errorf("%s: range: %v", s, err)
		}
		if _, err := masker(Hashed).Matcher(netip.MustParsePrefix(s)); !errors.Is(err, ErrTooWide) {
			t.Errorf("%s: matcher: %v", s, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"192.0.2.77", "::ffff:192.0.2.77", "2001:db8::1%eth0", "2001:db8:1:2::/64", "192.0.2.0/24", "0.0.0.0/0", "::/0", "shape:0000000000000001", "eda90de963f99742"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, mode := range []AddressMode{Full, Truncated, Hashed} {
			m := masker(mode)
			once := m.Subject(s)
			if again := m.Subject(once); again != once {
				t.Errorf("%s: %q became %q, then %q", mode, s, once, again)
			}
			m.StoredSubject(s)
			p, ok := Counted(s)
			if !ok {
				continue
			}
			match, err := m.Matcher(p)
			if err != nil || !match(once) {
				t.Errorf("%s: %q is kept as %q and not found by %s (%v)", mode, s, once, p, err)
			}
		}
	})
}
