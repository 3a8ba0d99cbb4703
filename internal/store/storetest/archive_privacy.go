package storetest

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
)

func key() []byte { return bytes.Repeat([]byte("k"), 32) }

func at(addresses ...string) []*defense.Event {
	var events []*defense.Event
	for i, s := range addresses {
		events = append(events, Event(i, func(e *defense.Event) { e.Client.Address = s }))
	}
	return events
}

func testAddressesAreStoredInTheChosenForm(t *testing.T, f ArchiveFactory) {
	in := []string{"192.0.2.77", "192.0.2.78", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", "2001:db8:1:3::9", "::ffff:192.0.2.77"}
	type stored struct{ address, prefix string }
	tests := []struct {
		mode privacy.AddressMode
		want []stored
	}{
		{privacy.Full, []stored{
			{"192.0.2.77", "192.0.2.0/24"}, {"192.0.2.78", "192.0.2.0/24"}, {"2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"},
			{"2001:db8:1:2::9", "2001:db8:1::/48"}, {"2001:db8:1:3::9", "2001:db8:1::/48"}, {"192.0.2.77", "192.0.2.0/24"},
		}},
		{privacy.Truncated, []stored{
			{"192.0.2.0", "192.0.2.0/24"}, {"192.0.2.0", "192.0.2.0/24"}, {"2001:db8:1::", "2001:db8:1::/48"},
			{"2001:db8:1::", "2001:db8:1::/48"}, {"2001:db8:1::", "2001:db8:1::/48"}, {"192.0.2.0", "192.0.2.0/24"},
		}},
		// HMAC-SHA-256 of the prefix's text under the key, computed with another implementation.
		{privacy.Hashed, []stored{
			{"eda90de963f99742", "e3752a98fbe3b6d9"}, {"7f14a2158f56d61a", "e3752a98fbe3b6d9"}, {"242290304ff271d2", "1f275018e890aa4e"}, {"242290304ff271d2", "1f275018e890aa4e"}, {"988792ed43b84f67", "1f275018e890aa4e"}, {"eda90de963f99742", "e3752a98fbe3b6d9"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.mode.String(), func(t *testing.T) {
			a := f.Open(t, privacy.Settings{Addresses: tt.mode, Key: key()})
			put(t, a, at(in...)...)
			got := find(t, a, record.Filter{})
			for i, w := range tt.want {
				if c := got[len(got)-1-i].Client; (stored{c.Address, c.Prefix}) != w {
					t.Errorf("%s is stored as %s in %s, want %v", in[i], c.Address, c.Prefix, w)
				}
			}
		})
	}
}

func testAPersonIsFoundAndErasedInEveryForm(t *testing.T, f ArchiveFactory) {
	prefix := netip.MustParsePrefix
	tests := []struct {
		mode   privacy.AddressMode
		client netip.Prefix
		want   int
	}{
		{privacy.Full, prefix("192.0.2.77/32"), 1},
		{privacy.Full, prefix("192.0.2.0/24"), 2},
		{privacy.Full, prefix("2001:db8:1:2::/64"), 2},
		{privacy.Truncated, prefix("192.0.2.77/32"), 2}, // neighbours cannot be told apart
		{privacy.Truncated, prefix("2001:db8:1:9::1/128"), 2},
		{privacy.Truncated, prefix("192.0.0.0/16"), 2},
		{privacy.Hashed, prefix("192.0.2.77/32"), 1},
		{privacy.Hashed, prefix("192.0.2.0/24"), 2},
		{privacy.Hashed, prefix("2001:db8:1:2::7/128"), 2},
		{privacy.Hashed, prefix("198.51.100.1/32"), 0},
	}
	for _, tt := range tests {
		a := f.Open(t, privacy.Settings{Addresses: tt.mode, Key: key()})
		put(t, a, at("192.0.2.77", "192.0.2.78", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", "203.0.113.1")...)
		if got := find(t, a, record.Filter{Client: tt.client}); len(got) != tt.want {
			t.Errorf("%s, %s: %d found, want %d", tt.mode, tt.client, len(got), tt.want)
		}
		if n, err := a.Erase(t.Context(), tt.client); n != tt.want || err != nil {
			t.Errorf("%s, %s: %d erased, want %d (%v)", tt.mode, tt.client, n, tt.want, err)
		}
		if left := len(find(t, a, record.Filter{})); left != 5-tt.want {
			t.Errorf("%s, %s: %d left", tt.mode, tt.client, left)
		}
	}
}

func testQueriesCanBeDropped(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, privacy.Settings{})
	put(t, a, Event(1, func(e *defense.Event) {
		e.Request.Query, e.Request.Referrer = "q=illness", "https://example.org/?q=illness"
	}))
	if e := find(t, a, record.Filter{})[0]; e.Request.Query != "" || e.Request.Referrer != "https://example.org/" {
		t.Errorf("stored %q and %q", e.Request.Query, e.Request.Referrer)
	}
}

func testAPersonStoredInFullIsFoundAfterHashingWasTurnedOn(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a, at("192.0.2.77", "192.0.2.78")...)
	keep(t, a, caseOf(1), caseOf(2, campaign))
	a = f.Reopen(t, a, privacy.Settings{Addresses: privacy.Hashed, Key: key()})
	put(t, a, Event(10))
	person := netip.MustParsePrefix("192.0.2.77/32")
	if got := find(t, a, record.Filter{Client: person}); len(got) != 2 {
		t.Errorf("%d found, want one of each form", len(got))
	}
	if got := cases(t, a, casebook.Filter{Key: "192.0.2.77"}); got != "1" {
		t.Errorf("cases %q found, want 1", got)
	}
	if n, err := a.Erase(t.Context(), person); n != 2 || err != nil {
		t.Errorf("%d erased, %v; want 2", n, err)
	}
	if got := cases(t, a, anyCase()); got != "2" {
		t.Errorf("cases %q left, want 2", got)
	}
	if got := readCase(t, a, 2).Members.Sample; len(got) != 3 {
		t.Errorf("members %v left, want 3", got)
	}
}
