package defense

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestNamesSurviveTextRoundTrip(t *testing.T) {
	for a := Allow; a <= Charge; a++ {
		got, err := ParseAction(a.String())
		if err != nil || got != a {
			t.Errorf("ParseAction(%q) = %v, %v", a.String(), got, err)
		}
	}
	for k := KindOther; k <= KindWellKnown; k++ {
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		var got Kind
		if err := json.Unmarshal(b, &got); err != nil || got != k {
			t.Errorf("kind %s came back as %v, %v", b, got, err)
		}
	}
}

func TestUnknownNameListsTheKnownOnes(t *testing.T) {
	_, err := ParseAction("blokc")
	if err == nil || !strings.Contains(err.Error(), `"blokc"`) || !strings.Contains(err.Error(), "tarpit") {
		t.Fatalf("got %v", err)
	}
}

func TestOutOfRangeValueDoesNotParseBack(t *testing.T) {
	if _, err := ParseMode(Mode(200).String()); err == nil {
		t.Fatal("a made-up mode parsed")
	}
}

func TestClientIsCountedPerAddressOrHomeNetwork(t *testing.T) {
	tests := []struct{ in, counted, prefix string }{
		{"192.0.2.77", "192.0.2.77/32", "192.0.2.0/24"},
		{"::ffff:192.0.2.77", "192.0.2.77/32", "192.0.2.0/24"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"fe80::1%eth0", "fe80::/64", "fe80::/48"},
	}
	for _, tt := range tests {
		c := NewClient(netip.MustParseAddr(tt.in))
		if c.Counted.String() != tt.counted || c.Prefix.String() != tt.prefix {
			t.Errorf("%s: counted %v, prefix %v", tt.in, c.Counted, c.Prefix)
		}
	}
	if c := NewClient(netip.Addr{}); c.Counted.IsValid() || c.Prefix.IsValid() {
		t.Error("no address must give no prefix")
	}
}

func TestDecisionNormalize(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	base := Decision{Action: Deny, Origin: "operator", Created: now, Expires: now.Add(time.Hour)}
	with := func(f func(*Decision)) Decision { d := base; f(&d); return d }
	tests := []struct {
		name  string
		d     Decision
		scope Scope
		value string
		err   string
	}{
		{"address", with(func(d *Decision) { d.Value = " 192.0.2.1 " }), ScopeAddress, "192.0.2.1", ""},
		{"mapped address", with(func(d *Decision) { d.Value = "::ffff:192.0.2.1" }), ScopeAddress, "192.0.2.1", ""},
		{"host bits", with(func(d *Decision) { d.Scope, d.Value = ScopeRange, "192.0.2.9/24" }), ScopeRange, "192.0.2.0/24", ""},
		{"range given as address scope", with(func(d *Decision) { d.Value = "2001:db8::1/32" }), ScopeRange, "2001:db8::/32", ""},
		{"single-address range", with(func(d *Decision) { d.Scope, d.Value = ScopeRange, "192.0.2.9/32" }), ScopeAddress, "192.0.2.9", ""},
		{"mapped range", with(func(d *Decision) { d.Scope, d.Value = ScopeRange, "::ffff:192.0.2.0/120" }), ScopeRange, "192.0.2.0/24", ""},
		{"agent", with(func(d *Decision) { d.Scope, d.Value = ScopeAgent, "BadBot" }), ScopeAgent, "BadBot", ""},
		{"short agent", with(func(d *Decision) { d.Scope, d.Value = ScopeAgent, "b" }), 0, "", "3 to 256"},
		{"nonsense", with(func(d *Decision) { d.Value = "example.org" }), 0, "", "not an IP address"},
		{"zone", with(func(d *Decision) { d.Value = "fe80::1%eth0" }), 0, "", "not an IP address"},
		{"observe", with(func(d *Decision) { d.Value, d.Action = "192.0.2.1", Observe }), 0, "", "cannot"},
		{"unbuilt scope", with(func(d *Decision) { d.Scope, d.Value = ScopeASN, "64500" }), 0, "", "not enforced"},
		{"list without name", with(func(d *Decision) { d.Value, d.Origin = "192.0.2.1", "list:" }), 0, "", "needs a name"},
		{"unknown origin", with(func(d *Decision) { d.Value, d.Origin = "192.0.2.1", "me" }), 0, "", "unknown origin"},
		{"already over", with(func(d *Decision) { d.Value, d.Expires = "192.0.2.1", now }), 0, "", "not after"},
		{"long reason", with(func(d *Decision) { d.Value, d.Reason = "192.0.2.1", strings.Repeat("x", 2000) }), 0, "", "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.d
			err := d.Normalize()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.Scope != tt.scope || d.Value != tt.value {
				t.Fatalf("got %v %q", d.Scope, d.Value)
			}
		})
	}
}

func TestOnlyAnOperatorsAllowBeatsEveryBan(t *testing.T) {
	rank := func(origin string, a Action) Rank { d := Decision{Origin: origin, Action: a}; return d.Rank() }
	ban := rank("operator", Deny)
	if rank("operator", Allow) <= ban {
		t.Error("an operator's allow must beat an operator's ban")
	}
	order := []Rank{rank("list:x", Allow), rank("peer:x", Allow), rank("rule:x", Deny), rank("engine", Allow), ban}
	for i := 1; i < len(order); i++ {
		if order[i-1] >= order[i] {
			t.Errorf("rank %d (%v) is not below %v", i-1, order[i-1], order[i])
		}
	}
}

func TestClampScore(t *testing.T) {
	for in, want := range map[int]int{-5: 0, 0: 0, 55: 55, 300: 100} {
		if got := ClampScore(in); got != want {
			t.Errorf("ClampScore(%d) = %d", in, got)
		}
	}
}
