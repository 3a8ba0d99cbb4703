package clearance

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const week = 7 * 24 * time.Hour

func signer(t testing.TB, keys ...string) *Signer {
	t.Helper()
	var raw [][]byte
	for _, k := range keys {
		raw = append(raw, []byte(strings.Repeat(k, KeySize)))
	}
	s, err := NewSigner(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var earned = Clearance{
	ID: 0xfedcba9876543210, Issued: noon, Kind: defense.ChallengeWork, Budget: Budget{Minute: 60, Day: 2000}, Family: defense.AgentBrowser,
	Net: NetOf(netip.MustParsePrefix("192.0.2.0/24")),
}

func TestAClearanceComesBackAsItWas(t *testing.T) {
	s := signer(t, "a")
	got, ok := s.Read(s.Issue(&earned), week, noon.Add(time.Hour))
	if got.Issued = got.Issued.UTC(); !ok || got != earned {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, tt := range []struct {
		after time.Duration
		good  bool
	}{{-25 * time.Hour, false}, {-24 * time.Hour, true}, {week + 24*time.Hour, true}, {week + 25*time.Hour, false}} {
		if _, ok := s.Read(s.Issue(&earned), week, noon.Add(tt.after)); ok != tt.good {
			t.Errorf("after %v: good is %v", tt.after, ok)
		}
	}
}

func TestKeysChangeWithoutAnybodyNoticing(t *testing.T) {
	old := signer(t, "a")
	token := old.Issue(&earned)
	s := signer(t, "a")
	steps := []struct {
		keys []string
		good bool
	}{{[]string{"a", "b"}, true}, {[]string{"b", "a"}, true}, {[]string{"b"}, false}}
	for _, step := range steps {
		var raw [][]byte
		for _, k := range step.keys {
			raw = append(raw, []byte(strings.Repeat(k, KeySize)))
		}
		if err := s.Replace(raw...); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Read(token, week, noon); ok != step.good {
			t.Errorf("with keys %v: good is %v", step.keys, ok)
		}
		if _, ok := s.Read(s.Issue(&earned), week, noon); !ok {
			t.Errorf("with keys %v: its own token is no good", step.keys)
		}
	}
	if err := s.Replace([]byte("short")); err == nil {
		t.Error("a short key is taken")
	}
	if err := s.Replace(); err == nil {
		t.Error("no key is taken")
	}
	if _, ok := s.Read(s.Issue(&earned), week, noon); !ok {
		t.Error("a wrong key replaced the good ones")
	}
}

func TestKeysAreReadFromTheirFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), KeyFile)
	first, err := LoadKeys(path)
	if err != nil || len(first) != 1 || len(first[0]) != KeySize {
		t.Fatalf("%d keys, %v", len(first), err)
	}
	if err := os.WriteFile(path+PreviousSuffix, []byte(strings.Repeat("p", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+NextSuffix, []byte(strings.Repeat("n", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := LoadKeys(path)
	if err != nil || len(all) != 3 || string(all[0]) != string(first[0]) || string(all[1]) != strings.Repeat("p", 32) || all[2][0] != 'n' {
		t.Errorf("%q, %v", all, err)
	}
	if err := os.WriteFile(path+NextSuffix, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(path); err == nil || !strings.Contains(err.Error(), NextSuffix) || strings.Contains(err.Error(), "short") {
		t.Errorf("a short key: %v", err)
	}
}

// No token is good after any change of a single bit, and none with another character in any place.
func TestNoChangedTokenIsGood(t *testing.T) {
	s := signer(t, "a", "b")
	long, err := s.IssueLong(&Issued{ID: 1, Name: "partner", Issued: noon, Expires: noon.Add(week), Budget: Budget{1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]func(string) bool{
		s.Issue(&earned): func(text string) bool { _, ok := s.Read(text, week, noon); return ok },
		long:             func(text string) bool { _, ok := s.ReadLong(text); return ok },
	}
	for text, read := range good {
		if !read(text) {
			t.Fatalf("%q is no good", text)
		}
		for i := range len(text) {
			for bit := range 8 {
				b := []byte(text)
				b[i] ^= 1 << bit
				if read(string(b)) {
					t.Errorf("good with bit %d of character %d changed: %q", bit, i, b)
				}
			}
			if read(text[:i]) || read(text[:i]+text[i+1:]) || read(text[:i]+"A"+text[i:]) {
				t.Errorf("good when cut, or with a character more, at %d", i)
			}
		}
		// The raw bytes, too: every bit of what the text says.
		cut := strings.LastIndexByte(text, '.') + 1
		raw, err := encoding.DecodeString(text[cut:])
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(raw) * 8 {
			raw[i/8] ^= 1 << (i % 8)
			if read(text[:cut] + encoding.EncodeToString(raw)) {
				t.Errorf("good with bit %d changed", i)
			}
			raw[i/8] ^= 1 << (i % 8)
		}
	}
}

func TestATokenOfOneUseIsNoOther(t *testing.T) {
	s := signer(t, "a")
	var body [clearanceSize]byte
	token := s.Sign(0x7f, body[:], "")
	if _, ok := s.Read(token, week, time.Unix(0, 0)); ok {
		t.Error("a token of another use is a clearance")
	}
	if s.Verify(0x7f, token, body[:], "elsewhere") {
		t.Error("it is good for another text")
	}
	if _, ok := signer(t, "b").Read(s.Issue(&earned), week, noon); ok {
		t.Error("a token of another site is good")
	}
}

func TestIssuedTokens(t *testing.T) {
	s := signer(t, "a")
	i := Issued{ID: 5, Name: "partner-search", Issued: noon, Expires: noon.Add(week), Budget: Budget{Minute: 100_000, Day: 5_000_000}}
	text, err := s.IssueLong(&i)
	if err != nil || !strings.HasPrefix(text, "qt1.partner-search.") {
		t.Fatalf("%q, %v", text, err)
	}
	got, ok := s.ReadLong(text)
	if got.Issued, got.Expires = got.Issued.UTC(), got.Expires.UTC(); !ok || got != i {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := s.ReadLong(strings.Replace(text, "partner", "another", 1)); ok {
		t.Error("the name can be changed")
	}
	for d, good := range map[time.Duration]bool{0: true, -24 * time.Hour: true, -25 * time.Hour: false, week - time.Second: true, week: false} {
		if i.Good(noon.Add(d)) != good {
			t.Errorf("after %v: good is not %v", d, good)
		}
	}
	for name, change := range map[string]func(*Issued){
		"no name": func(i *Issued) { i.Name = "" }, "a long name": func(i *Issued) { i.Name = strings.Repeat("a", 41) }, "capitals": func(i *Issued) { i.Name = "Partner" },
		"a dot": func(i *Issued) { i.Name = "a.b" }, "a hyphen first": func(i *Issued) { i.Name = "-a" }, "no life": func(i *Issued) { i.Expires = i.Issued },
		"too long a life": func(i *Issued) { i.Expires = i.Issued.Add(MaxLife + time.Hour) }, "no budget": func(i *Issued) { i.Budget.Day = 0 },
	} {
		bad := i
		change(&bad)
		if text, err := s.IssueLong(&bad); err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func TestAllocVerification(t *testing.T) {
	race.SkipAllocations(t)
	s := signer(t, "a", "b")
	old := signer(t, "b").Issue(&earned)
	long, err := s.IssueLong(&Issued{ID: 1, Name: "partner", Issued: noon, Expires: noon.Add(week), Budget: Budget{1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	zeros := strings.Repeat("A", len(old))
	for name, do := range map[string]func() bool{
		"a clearance":         func() bool { _, ok := s.Read(s.Issue(&earned), week, noon); return ok },
		"of the previous key": func() bool { _, ok := s.Read(old, week, noon); return ok },
		"an issued token":     func() bool { _, ok := s.ReadLong(long); return ok },
		"junk":                func() bool { _, ok := s.Read(zeros, week, noon); return !ok },
	} {
		if !do() {
			t.Fatalf("%s: wrong", name)
		}
		if name == "a clearance" {
			token := s.Issue(&earned)
			do = func() bool { _, ok := s.Read(token, week, noon); return ok }
		}
		if n := testing.AllocsPerRun(200, func() { do() }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	s := signer(f, "a")
	token := s.Issue(&earned)
	f.Add(token)
	f.Add("qt1.partner." + strings.Repeat("A", Length(issuedSize)))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if _, ok := s.Read(text, week, noon); ok && text != token {
			t.Fatalf("%q is good", text)
		}
		if _, ok := s.ReadLong(text); ok {
			t.Fatalf("%q is good", text)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	s := signer(b, "a", "b")
	for name, token := range map[string]string{"current": s.Issue(&earned), "previous": signer(b, "b").Issue(&earned), "junk": strings.Repeat("A", Length(clearanceSize))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Read(token, week, noon)
			}
		})
	}
}
