package decision_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

func TestFingerprintsAreImportedExportedAndKept(t *testing.T) {
	f := newLog(t)
	r, err := f.Import(t.Context(), strings.NewReader("Program:9F2C41D07B3EA865, seen scraping\nshape:00000000000000ab\nprogram:12\n192.0.2.1\n"), decision.ImportOptions{Origin: "list:x"})
	if err != nil || r.Added != 3 || r.Rejected != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	r, err = f.Import(t.Context(), strings.NewReader("fingerprint,action,origin\npattern:00000000000000cd,throttle,operator\n"), decision.ImportOptions{Format: decision.FormatCSV})
	if err != nil || r.Added != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	before := f.all()
	if d := before[3]; d.Scope != defense.ScopeFingerprint || d.Value != "program:9f2c41d07b3ea865" || d.Reason != "seen scraping" {
		t.Errorf("%+v", d)
	}
	var out bytes.Buffer
	if err := f.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if l := f.restart(t); l.Decisions != 4 {
		t.Errorf("%+v", l)
	}
	if diff := cmp.Diff(before, f.all()); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
	other := newLog(t)
	if r, err := other.Import(t.Context(), &out, decision.ImportOptions{}); err != nil || r.Added != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	q := decision.Filter{Value: "SHAPE:00000000000000ab"}
	if ds := other.Set().List(q, noon, 10); len(ds) != 1 || ds[0].Scope != defense.ScopeFingerprint {
		t.Errorf("%+v", ds)
	}
	if n, err := other.DeleteWhere(t.Context(), q); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestTheSameFingerprintAgainChangesTheDecisionThereIs(t *testing.T) {
	f := newLog(t)
	d := defense.Decision{Scope: defense.ScopeFingerprint, Value: "program:9f2c41d07b3ea865", Action: defense.Challenge, Origin: "engine", Expires: noon.Add(time.Minute)}
	first := f.add(t, d)[0]
	d.Value, d.Expires = "PROGRAM:9F2C41D07B3EA865", noon.Add(time.Hour)
	if second := f.add(t, d)[0]; second.ID != first.ID || f.Set().Len() != 1 {
		t.Errorf("%+v", second)
	}
}

// FuzzWhatAnEventShowsIsFoundAtTheEdge: the intake makes fingerprints from events, which are cut and cleaned; the edge
// looks them up for requests, which are not. A client must not get away by a long or broken text.
func FuzzWhatAnEventShowsIsFoundAtTheEdge(f *testing.F) {
	f.Add("Mozilla/5.0", "/wiki/Hedge", "oldid=1")
	f.Add(strings.Repeat("x", 511)+"ü"+strings.Repeat("y", 90), "/"+strings.Repeat("a/", 1100), strings.Repeat("b&", 1500))
	f.Add("\xff\x00bot", "/\xc3", "q\xe2\x82=1")
	f.Fuzz(func(t *testing.T, agent, path, query string) {
		e := &defense.Event{Request: defense.EventRequest{
			Agent: agent, Path: path, Query: query, Headers: defense.EventHeaders{Shape: "0000000000000007"}, TLS: &defense.EventTLS{JA4: "t13d"},
		}}
		record.Bound(e)
		for _, p := range e.Fingerprints() {
			s := decision.NewSet(nil)
			if err := s.Put(defense.Decision{ID: "x", Scope: defense.ScopeFingerprint, Value: p.String(), Action: defense.Challenge, Origin: "engine"}); err != nil {
				t.Fatal(err)
			}
			if !s.Lookup(&decision.Subject{Agent: agent, Shape: 7, JA4: "t13d", Path: path, Query: query}, noon).Strong.OK {
				t.Errorf("%s is not found for %q %q %q", p, agent, path, query)
			}
		}
	})
}

func TestNoProgramDecidesAgainstWhomTheOperatorAllowed(t *testing.T) {
	f := newLog(t)
	allow := func(value, site string, expires time.Time) defense.Decision {
		return defense.Decision{Value: value, Action: defense.Allow, Origin: "operator", Site: site, Expires: expires}
	}
	f.add(t, allow("192.0.2.0/24", "", time.Time{}), allow("198.51.100.7", "", time.Time{}), allow("203.0.113.0/24", "wiki", time.Time{}),
		allow("2001:db8::/32", "", noon.Add(time.Minute)),
		defense.Decision{Value: "198.51.100.9", Action: defense.Allow, Origin: "list:friends"})
	by := func(origin, value, site string) defense.Decision {
		return defense.Decision{Value: value, Action: defense.Challenge, Origin: origin, Site: site, Expires: noon.Add(time.Hour)}
	}
	for _, tt := range []struct {
		name    string
		d       defense.Decision
		refused bool
	}{
		{"an address in an allowed range", by("engine", "192.0.2.9", ""), true},
		{"an allowed address", by("engine", "198.51.100.7", ""), true},
		{"a range within", by("engine", "192.0.2.128/25", ""), true},
		{"the range itself", by("engine", "192.0.2.0/24", ""), true},
		{"by a rule", by("rule:x", "192.0.2.9", ""), true},
		{"a range that holds others too", by("engine", "192.0.0.0/16", ""), false},
		{"an address beside it", by("engine", "198.51.100.8", ""), false},
		{"allowed on this site", by("engine", "203.0.113.5", "wiki"), true},
		{"allowed on another site", by("engine", "203.0.113.5", "shop"), false},
		{"allowed on one site, decided for all", by("engine", "203.0.113.6", ""), false},
		{"allowed by a list only", by("engine", "198.51.100.9", ""), false},
		{"by the operator", by("operator", "192.0.2.9", ""), false},
		{"an IPv6 client", by("engine", "2001:db8:1:2::/64", ""), true},
	} {
		err := f.Check(tt.d, decision.AddOptions{})
		var allowed *decision.AllowedError
		if got := errors.As(err, &allowed); got != tt.refused || !got && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if _, addErr := f.Add(t.Context(), []defense.Decision{tt.d}, decision.AddOptions{}); errors.As(addErr, &allowed) != tt.refused {
			t.Errorf("%s: %v", tt.name, addErr)
		}
	}
	f.pass(2 * time.Minute)
	if err := f.Check(by("engine", "2001:db8:1:2::/64", ""), decision.AddOptions{}); err != nil {
		t.Errorf("after the allow has ended: %v", err)
	}
}

func TestFoundSaysWhetherItIsAboutOneClient(t *testing.T) {
	q := decision.Subject{Agent: "badbot", Shape: 7, Path: "/"}
	program := defense.Fingerprints(q.Agent, q.Shape, "", q.Path, "")[defense.FingerprintProgram].String()
	for value, wide := range map[string]bool{
		"192.0.2.1": false, "192.0.2.0/31": true, "2001:db8::1": false, "2001:db8::/64": false, "2001:db8::/65": false, "2001:db8::/63": true,
		"0.0.0.0/0": true, "::/0": true, program: true, "badbot": true,
	} {
		d := defense.Decision{ID: "x", Value: value, Action: defense.Challenge, Origin: "engine"}
		q.Addr = netip.MustParseAddr("192.0.2.1")
		switch {
		case value == program:
			d.Scope, q.Addr = defense.ScopeFingerprint, netip.Addr{}
		case value == "badbot":
			d.Scope, q.Addr = defense.ScopeAgent, netip.Addr{}
		case strings.Contains(value, "::"):
			q.Addr = netip.MustParseAddr("2001:db8::1")
		}
		s := decision.NewSet(nil)
		if err := s.Put(d); err != nil {
			t.Fatal(err)
		}
		if f := s.Lookup(&q, noon).Strong; !f.OK || f.Wide != wide {
			t.Errorf("%s: found %v, wide %v, want %v", value, f.OK, f.Wide, wide)
		}
	}
}

func TestExpiredFingerprintsAreSwept(t *testing.T) {
	s := decision.NewSet(nil)
	for i := range 100 {
		d := defense.Decision{ID: fmt.Sprint(i), Scope: defense.ScopeFingerprint, Value: defense.Fingerprint{Kind: defense.FingerprintKind(i % 3), Hash: uint64(i + 1)}.String(),
			Action: defense.Challenge, Origin: "engine", Created: noon, Expires: noon.Add(time.Minute)}
		if err := s.Put(d); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Sweep(noon.Add(time.Hour), 1<<20); n != 100 || err != nil || s.Len() != 0 {
		t.Error(n, err, s.Len())
	}
}
