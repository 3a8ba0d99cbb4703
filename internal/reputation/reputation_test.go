package reputation

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestNobodyIsAskedUntilItIsConfigured(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Checker{c, nil} {
		v, err := c.Check(t.Context(), client("198.51.100.7"))
		if err != nil || len(v.Listed) != 0 || v.Score != 0.5 || c.Enabled() {
			t.Errorf("%+v %v enabled %v", v, err, c.Enabled())
		}
	}
}

// known is a source that knows one finding.
type known struct {
	name  string
	f     Finding
	err   error
	asked []netip.Prefix
}

func (k *known) Name() string { return k.name }
func (k *known) Check(_ context.Context, c netip.Prefix) (Finding, error) {
	k.asked = append(k.asked, c)
	return k.f, k.err
}

func TestOneSourceThatFailsDoesNotSilenceTheOthers(t *testing.T) {
	c, err := New(Options{More: []Source{
		&known{name: "broken", err: errors.New("away"), f: Finding{Listed: true, Score: 1}},
		&known{name: "a", f: Finding{Listed: true, Score: 0.6}},
		&known{name: "b", f: Finding{Listed: true, Score: 0.8, Detail: "80 %"}},
		&known{name: "c"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Check(t.Context(), client("198.51.100.7"))
	if err == nil || !strings.Contains(err.Error(), "broken: away") {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(v.Listed, []string{"a", "b"}) || v.Score != 0.8 || v.Sentence != "is listed by a and b (80 %)" {
		t.Errorf("%+v", v)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v %v", families, err)
	}
	got := make(map[string]float64)
	for _, m := range families[0].GetMetric() {
		got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	if want := map[string]float64{"broken failed": 1, "a listed": 1, "b listed": 1, "c unlisted": 1}; !maps.Equal(got, want) {
		t.Errorf("counted %v", got)
	}
}

func TestThirdPartiesAreNeverAskedAboutPrivateAddresses(t *testing.T) {
	k := &known{name: "k"}
	c, err := New(Options{More: []Source{k}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "100.64.3.4", "0.0.0.0", "0.1.2.3", "198.18.0.1", "224.0.0.1",
		"255.255.255.255", "240.1.1.1", "192.0.0.8", "::1/128", "::/64", "fe80::/64", "fd00:1::/64", "ff02::1/128", "::ffff:10.0.0.1/128",
	} {
		if v, err := c.Check(t.Context(), client(s)); err != nil || len(v.Listed) > 0 {
			t.Errorf("%s: %+v %v", s, v, err)
		}
	}
	if len(k.asked) > 0 {
		t.Errorf("asked about %v", k.asked)
	}
	for _, s := range []string{"8.8.8.8", "2001:4860:4860::/64", "::ffff:8.8.4.4/128"} {
		if _, err := c.Check(t.Context(), client(s)); err != nil {
			t.Error(err)
		}
	}
	if len(k.asked) != 3 || k.asked[2] != client("8.8.4.4") {
		t.Errorf("asked about %v", k.asked)
	}
}

func TestOnlySingleClientsCanBeAskedAbout(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/48")} {
		if _, err := c.Check(t.Context(), p); err == nil {
			t.Errorf("%v was accepted", p)
		}
	}
}

func TestOptionsThatAreWrongAreNamed(t *testing.T) {
	tests := []struct {
		o    Options
		want string
	}{
		{Options{Reload: 1}, "reload"},
		{Options{Lists: []ListOptions{{Name: "a"}}}, "lists[0].path"},
		{Options{Lists: []ListOptions{{Path: "x"}}}, "lists[0].name"},
		{Options{Lists: []ListOptions{{Name: "a", Path: "x", Score: 2}}}, "lists[0].score"},
		{Options{Lists: []ListOptions{{Name: "a", Path: "x", MaxBytes: -1}}}, "maxBytes"},
		{Options{Zones: []ZoneOptions{{Zone: "x y"}}}, "zones[0].zone"},
		{Options{Zones: []ZoneOptions{{}}}, "zones[0].zone"},
		{Options{Zones: []ZoneOptions{{Zone: "bl.example", Timeout: -1}}}, "zones[0].timeout"},
		{Options{Zones: []ZoneOptions{{Zone: "bl.example", PerMinute: -1}}}, "zones[0].perMinute"},
		{Options{Zones: []ZoneOptions{{Zone: "bl.example"}, {Zone: "bl.example."}}}, "used twice"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "https://a.example/"}}}, "http[0].url"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "http://a.example/{address}", Field: "x"}}}, "use https"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "https://{address}.example/", Field: "x"}}}, "http[0].url"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "https://a.example/{address}"}}}, "http[0].field"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "https://a.example/{address}", Field: "x", Key: "k"}}}, "http[0].keyHeader"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "https://a.example/{address}", Field: "x", Listed: 3}}}, "http[0].listed"},
		{Options{HTTP: []HTTPOptions{{Name: "a", URL: "https://a.example/{address}", Field: "x", Scale: -3}}}, "http[0].scale"},
		{Options{More: []Source{&known{name: "a b"}}}, "more[0].name"},
	}
	for _, tt := range tests {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.o, err, tt.want)
		}
	}
}
