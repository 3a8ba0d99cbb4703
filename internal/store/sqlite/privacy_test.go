package sqlite

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

var key = bytes.Repeat([]byte("k"), 32)

func at(addresses ...string) []*defense.Event {
	var events []*defense.Event
	for i, s := range addresses {
		events = append(events, event(i, func(e *defense.Event) { e.Client.Address = s }))
	}
	return events
}

func TestAddressesAreStoredInTheChosenForm(t *testing.T) {
	in := []string{"192.0.2.77", "192.0.2.78", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", "2001:db8:1:3::9", "::ffff:192.0.2.77"}
	type stored struct{ address, prefix string }
	tests := []struct {
		mode AddressMode
		want []stored
	}{
		{Full, []stored{
			{"192.0.2.77", "192.0.2.0/24"}, {"192.0.2.78", "192.0.2.0/24"}, {"2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"},
			{"2001:db8:1:2::9", "2001:db8:1::/48"}, {"2001:db8:1:3::9", "2001:db8:1::/48"}, {"192.0.2.77", "192.0.2.0/24"},
		}},
		{Truncated, []stored{
			{"192.0.2.0", "192.0.2.0/24"}, {"192.0.2.0", "192.0.2.0/24"}, {"2001:db8:1::", "2001:db8:1::/48"},
			{"2001:db8:1::", "2001:db8:1::/48"}, {"2001:db8:1::", "2001:db8:1::/48"}, {"192.0.2.0", "192.0.2.0/24"},
		}},
		// HMAC-SHA-256 of the prefix's text under the key, computed with another implementation.
		{Hashed, []stored{
			{"eda90de963f99742", "e3752a98fbe3b6d9"}, {"7f14a2158f56d61a", "e3752a98fbe3b6d9"}, {"242290304ff271d2", "1f275018e890aa4e"}, {"242290304ff271d2", "1f275018e890aa4e"}, {"988792ed43b84f67", "1f275018e890aa4e"}, {"eda90de963f99742", "e3752a98fbe3b6d9"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.mode.String(), func(t *testing.T) {
			a := newArchive(t, func(o *Options) { o.Privacy = Privacy{Addresses: tt.mode, Key: key} })
			appendAll(t, a, at(in...)...)
			got := find(t, a, record.Filter{})
			for i, w := range tt.want {
				if c := got[len(got)-1-i].Client; (stored{c.Address, c.Prefix}) != w {
					t.Errorf("%s is stored as %s in %s, want %v", in[i], c.Address, c.Prefix, w)
				}
			}
		})
	}
}

func TestAPersonIsFoundAndErasedInEveryForm(t *testing.T) {
	prefix := netip.MustParsePrefix
	tests := []struct {
		mode   AddressMode
		client netip.Prefix
		want   int
	}{
		{Full, prefix("192.0.2.77/32"), 1},
		{Full, prefix("192.0.2.0/24"), 2},
		{Full, prefix("2001:db8:1:2::/64"), 2},
		{Truncated, prefix("192.0.2.77/32"), 2}, // neighbours cannot be told apart
		{Truncated, prefix("2001:db8:1:9::1/128"), 2},
		{Truncated, prefix("192.0.0.0/16"), 2},
		{Hashed, prefix("192.0.2.77/32"), 1},
		{Hashed, prefix("192.0.2.0/24"), 2},
		{Hashed, prefix("2001:db8:1:2::7/128"), 2},
		{Hashed, prefix("198.51.100.1/32"), 0},
	}
	for _, tt := range tests {
		a := newArchive(t, func(o *Options) { o.Privacy = Privacy{Addresses: tt.mode, Key: key} })
		appendAll(t, a, at("192.0.2.77", "192.0.2.78", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", "203.0.113.1")...)
		if got := find(t, a, record.Filter{Client: tt.client}); len(got) != tt.want {
			t.Errorf("%s, %s: %d found, want %d", tt.mode, tt.client, len(got), tt.want)
		}
		if n, err := a.Erase(t.Context(), tt.client); n != tt.want || err != nil {
			t.Errorf("%s, %s: %d erased, want %d (%v)", tt.mode, tt.client, n, tt.want, err)
		}
		if left := count(t, a, "events"); left != 5-tt.want {
			t.Errorf("%s, %s: %d left", tt.mode, tt.client, left)
		}
	}
}

func TestAPersonStoredInFullIsStillFoundAfterHashingWasTurnedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, options())
	appendAll(t, a, at("192.0.2.77", "192.0.2.78")...)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Privacy = Privacy{Addresses: Hashed, Key: key}
	a = open(t, path, o)
	appendAll(t, a, event(10))
	if got := find(t, a, record.Filter{Client: netip.MustParsePrefix("192.0.2.77/32")}); len(got) != 2 {
		t.Errorf("%d found, want one of each form", len(got))
	}
}

func TestAHashedAddressIsNowhereInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	o := options()
	o.Privacy = Privacy{Addresses: Hashed, Key: key}
	a := open(t, path, o)
	appendAll(t, a, event(1))
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{[]byte("192.0.2"), {192, 0, 2, 77}} {
		if bytes.Contains(b, s) {
			t.Errorf("the file holds %q", s)
		}
	}
}

func TestPrivacySettingsThatCannotWorkAreRefused(t *testing.T) {
	for _, p := range []Privacy{{Addresses: Hashed}, {Addresses: Hashed, Key: []byte("short")}, {Addresses: 9}} {
		o := options()
		o.Privacy = p
		if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "archive.db"), o); err == nil || !strings.Contains(err.Error(), "privacy") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if _, err := ParseAddressMode("hased"); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsInQueriesAreMasked(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"q=hedge&page=2":                 "q=hedge&page=2",
		"title=Special:Search&go=%E2%98": "title=Special:Search&go=%E2%98",
		"a=1&token=abc&b=2":              "a=1&token=***&b=2",
		"TOKEN=abc":                      "TOKEN=***",
		"%74oken=abc":                    "%74oken=***",
		"access_token=x;PHPSESSID=y":     "access_token=***;PHPSESSID=***",
		"code=4/abc&state=xyz&scope=a":   "code=***&state=***&scope=a",
		"X-Amz-Signature=00ff&x=1":       "X-Amz-Signature=***&x=1",
		"user%5Bpassword%5D=hunter2":     "user%5Bpassword%5D=***",
		"keyword=privet":                 "keyword=privet",
		"token=&token":                   "token=&token",
		"=x&&;=":                         "=x&&;=",
		"key=a=b=c":                      "key=***",
		"%zz=1&secret=1":                 "%zz=1&secret=***",
	} {
		if got := maskQuery(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestReferrersLoseCredentialsFragmentsAndSecrets(t *testing.T) {
	keep, drop := masker{Privacy: Privacy{KeepQuery: true}}, masker{}
	for _, tt := range []struct{ in, kept, dropped string }{
		{"https://example.org/a?q=1", "https://example.org/a?q=1", "https://example.org/a"},
		{"https://user:pw@example.org/a?token=1#frag", "https://example.org/a?token=***", "https://example.org/a"},
		{"https://user@example.org", "https://example.org", "https://example.org"},
		{"android-app://org.example/", "android-app://org.example/", "android-app://org.example/"},
		{"https://example.org/@user/1", "https://example.org/@user/1", "https://example.org/@user/1"},
		{"", "", ""},
	} {
		if got := keep.referrer(tt.in); got != tt.kept {
			t.Errorf("%q kept as %q, want %q", tt.in, got, tt.kept)
		}
		if got := drop.referrer(tt.in); got != tt.dropped {
			t.Errorf("%q without query is %q, want %q", tt.in, got, tt.dropped)
		}
	}
}

func TestQueriesCanBeDropped(t *testing.T) {
	a := newArchive(t, func(o *Options) { o.Privacy.KeepQuery = false })
	appendAll(t, a, event(1, func(e *defense.Event) {
		e.Request.Query, e.Request.Referrer = "q=illness", "https://example.org/?q=illness"
	}))
	if e := find(t, a, record.Filter{})[0]; e.Request.Query != "" || e.Request.Referrer != "https://example.org/" {
		t.Errorf("stored %q and %q", e.Request.Query, e.Request.Referrer)
	}
}

func FuzzMaskQuery(f *testing.F) {
	for _, s := range []string{"a=1&token=abc&b=2", "%74oken=abc", "access_token=x;PHPSESSID=y", "key=a=b=c", "=&;", "%zz=1&secret=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, q string) {
		got := maskQuery(q)
		if utf8.ValidString(q) && !utf8.ValidString(got) {
			t.Errorf("%q became invalid UTF-8: %q", q, got)
		}
		if again := maskQuery(got); again != got {
			t.Errorf("%q became %q, then %q", q, got, again)
		}
		if n := strings.Count(q, "&") + strings.Count(q, ";"); n != strings.Count(got, "&")+strings.Count(got, ";") {
			t.Errorf("%q became %q: another number of parameters", q, got)
		}
	})
}
