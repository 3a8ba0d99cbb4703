package reputation

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const bl = "bl.example.org"

func openZone(t *testing.T, s *nameserver, c *clock, o ZoneOptions) *zone {
	t.Helper()
	o.Zone, o.Resolver = bl, s.resolver()
	z, err := newZone(o, c.now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestZoneIsAskedByReversedAddress(t *testing.T) {
	t.Parallel()
	six := "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.f.e.e.0.8.b.d.0.1.0.0.2"
	s := newNameserver(t, bl, map[string][]string{"7.100.51.198": {"127.0.0.4"}, six: {"127.0.0.2"}})
	z := openZone(t, s, newClock(), ZoneOptions{IPv6: true})
	for in, want := range map[string]bool{"198.51.100.7": true, "198.51.100.8": false, "2001:db8:eef::1/128": true, "2001:db8:eef::/64": false} {
		f, err := z.Check(t.Context(), client(in))
		if err != nil || f.Listed != want || want && f.Score != 0.7 {
			t.Errorf("%s: %+v %v, want listed %v", in, f, err, want)
		}
	}
	if asked := s.questions(); !slices.Contains(asked, six+"."+bl+".") || !slices.Contains(asked, "7.100.51.198."+bl+".") {
		t.Errorf("asked %v", asked)
	}
}

func TestZoneWithoutIPv6IsNotAskedAboutIt(t *testing.T) {
	t.Parallel()
	s := newNameserver(t, bl, nil)
	z := openZone(t, s, newClock(), ZoneOptions{})
	if f, err := z.Check(t.Context(), client("2001:db8::/64")); err != nil || f.Listed || len(s.questions()) > 0 {
		t.Errorf("%+v %v, asked %v", f, err, s.questions())
	}
}

func TestOnlyAnswersOfABlocklistCount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answers []string
		listed  bool
		problem string
	}{
		{"listed", []string{"127.0.0.4"}, true, ""},
		{"a household's address", []string{"127.0.0.10"}, false, ""},
		{"a household's address that is listed too", []string{"127.0.0.11", "127.0.0.4"}, true, ""},
		{"asked through a public resolver", []string{"127.255.255.254"}, false, "refuses to answer"},
		{"asked too often", []string{"127.0.0.4", "127.255.255.255"}, false, "refuses to answer"},
		{"somebody else's server", []string{"203.0.113.80"}, false, "not an answer of a blocklist"},
	}
	for _, tt := range tests {
		s := newNameserver(t, bl, map[string][]string{"7.100.51.198": tt.answers})
		z := openZone(t, s, newClock(), ZoneOptions{})
		f, err := z.Check(t.Context(), client("198.51.100.7"))
		if f.Listed != tt.listed || (err != nil) != (tt.problem != "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: %+v %v", tt.name, f, err)
		}
	}
}

func TestAZoneThatListsEverybodyHasNoOpinion(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newNameserver(t, bl, map[string][]string{"1.0.0.127": {"127.0.0.2"}, "7.100.51.198": {"127.0.0.2"}})
	z := openZone(t, s, c, ZoneOptions{})
	if f, err := z.Check(t.Context(), client("198.51.100.7")); err == nil || f.Listed || !strings.Contains(err.Error(), "given up") {
		t.Errorf("%+v %v", f, err)
	}
	n := len(s.questions())
	if _, err := z.Check(t.Context(), client("198.51.100.8")); err == nil || len(s.questions()) != n || !z.state.Failing() {
		t.Errorf("it was asked again at once (%d questions), or nobody would know: %v", len(s.questions())-n, err)
	}
	s.mu.Lock()
	delete(s.names, "1.0.0.127."+bl+".")
	s.mu.Unlock()
	c.advance(zoneRetry)
	if f, err := z.Check(t.Context(), client("198.51.100.7")); err != nil || !f.Listed || z.state.Failing() {
		t.Errorf("in its right mind again: %+v %v", f, err)
	}
}

func TestAZoneThatDoesNotExistIsNoticed(t *testing.T) {
	t.Parallel()
	s := newNameserver(t, "other.example", nil)
	z := openZone(t, s, newClock(), ZoneOptions{})
	if _, err := z.Check(t.Context(), client("198.51.100.7")); err == nil || !strings.Contains(err.Error(), "127.0.0.2") {
		t.Errorf("got %v", err)
	}
}

func TestZoneRemembersForALimitedTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newNameserver(t, bl, map[string][]string{"7.100.51.198": {"127.0.0.4"}})
	z := openZone(t, s, c, ZoneOptions{TTL: 30 * time.Minute, NegativeTTL: 10 * time.Minute, CacheSize: 2})
	check := func(client string, listed bool, questions int) {
		t.Helper()
		before := len(s.questions())
		f, err := z.Check(t.Context(), netip.MustParsePrefix(client+"/32"))
		if got := len(s.questions()) - before; err != nil || f.Listed != listed || got != questions {
			t.Errorf("%s: %+v %v, %d questions, want %d", client, f, err, got, questions)
		}
	}
	check("198.51.100.7", true, 3) // two of them are whether the zone is in its right mind
	check("198.51.100.8", false, 1)
	check("198.51.100.7", true, 0)
	check("198.51.100.8", false, 0)
	c.advance(10 * time.Minute)
	check("198.51.100.7", true, 0)
	check("198.51.100.8", false, 1)
	check("198.51.100.9", false, 1) // there is room for two: 7 goes
	check("198.51.100.7", true, 1)
}

func TestZoneThatFailsHasNoOpinionAndIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	s := newNameserver(t, bl, nil)
	z := openZone(t, s, newClock(), ZoneOptions{})
	if _, err := z.Check(t.Context(), client("198.51.100.1")); err != nil {
		t.Fatal(err)
	}
	s.fail(dnsmessage.RCodeServerFailure)
	for range 6 {
		if f, err := z.Check(t.Context(), client("198.51.100.7")); err == nil || f.Listed {
			t.Fatalf("%+v %v", f, err)
		}
	}
	n := len(s.questions())
	if _, err := z.Check(t.Context(), client("198.51.100.7")); err == nil || len(s.questions()) != n {
		t.Errorf("asked again: %v", err)
	}
}

func TestBudgetOfLookups(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newNameserver(t, bl, nil)
	z := openZone(t, s, c, ZoneOptions{PerMinute: 3})
	if _, err := z.Check(t.Context(), client("198.51.100.1")); err != nil {
		t.Fatal(err)
	}
	for range 10 { // more often than a breaker would stand
		if _, err := z.Check(t.Context(), client("198.51.100.2")); !errors.Is(err, ErrSpent) {
			t.Fatalf("got %v", err)
		}
	}
	c.advance(time.Minute)
	if _, err := z.Check(t.Context(), client("198.51.100.2")); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func FuzzReversed(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1})
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		parts := strings.Split(reversed(a), ".")
		slices.Reverse(parts)
		text := strings.Join(parts, ".")
		if a.Is6() {
			digits := strings.Join(parts, "")
			var groups []string
			for i := 0; i+4 <= len(digits); i += 4 {
				groups = append(groups, digits[i:i+4])
			}
			text = strings.Join(groups, ":")
		}
		if back, err := netip.ParseAddr(text); err != nil || back != a {
			t.Fatalf("%v became %s: %v", a, reversed(a), err)
		}
	})
}
