package clientaddr

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func newResolver(t testing.TB, c Config) *Resolver {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func trusting(t testing.TB, ranges ...string) *Resolver {
	t.Helper()
	var c Config
	for _, s := range ranges {
		c.Trusted = append(c.Trusted, netip.MustParsePrefix(s))
	}
	return newResolver(t, c)
}

// header builds a header from name, value pairs.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestClientIsTheFirstUntrustedHopFromTheRight(t *testing.T) {
	r := trusting(t, "10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "::1/128", "169.254.0.0/16")
	tests := []struct {
		name, peer string
		h          http.Header
		want, how  string
	}{
		{"no header", "10.0.0.1", header(), "10.0.0.1", Peer},
		{"untrusted peer's headers are nothing", "198.51.100.9", header("X-Forwarded-For", "203.0.113.5", "X-Real-Ip", "5.6.7.8", "Forwarded", "for=6.7.8.9"), "198.51.100.9", Peer},
		{"one hop", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5"), "203.0.113.5", XForwardedFor},
		{"forged hop left of the real one", "10.0.0.1", header("X-Forwarded-For", "1.1.1.1, 203.0.113.5"), "203.0.113.5", XForwardedFor},
		{"forged trusted hop left of the real one", "10.0.0.1", header("X-Forwarded-For", "9.9.9.9, 10.1.1.1, 203.0.113.5"), "203.0.113.5", XForwardedFor},
		{"trusted hops between", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5, 192.0.2.1,10.2.3.4"), "203.0.113.5", XForwardedFor},
		{"several lines", "10.0.0.1", header("X-Forwarded-For", "1.1.1.1", "X-Forwarded-For", "203.0.113.5, 10.1.1.1", "X-Forwarded-For", "10.2.2.2"), "203.0.113.5", XForwardedFor},
		{"all trusted: the leftmost", "10.0.0.1", header("X-Forwarded-For", "10.9.9.9, 10.2.2.2"), "10.9.9.9", XForwardedFor},
		{"link-local container bridge after empty elements", "10.0.0.1", header("X-Forwarded-For", ",,169.254.1.2"), "169.254.1.2", XForwardedFor},
		{"junk is skipped", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5, unknown, _hidden, , 999.1.1.1, \x00\xff, <script>, unix:, 10.0.0.7"), "203.0.113.5", XForwardedFor},
		{"only junk: next header", "10.0.0.1", header("X-Forwarded-For", "unknown, -", "X-Real-Ip", "203.0.113.6"), "203.0.113.6", XRealIP},
		{"only junk: peer", "10.0.0.1", header("X-Forwarded-For", "unknown", "X-Real-Ip", "localhost", "Forwarded", "for=_x"), "10.0.0.1", Peer},
		{"port", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5:51234"), "203.0.113.5", XForwardedFor},
		{"no port after the colon", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5:"), "10.0.0.1", Peer},
		{"v6", "10.0.0.1", header("X-Forwarded-For", "2001:db8::7"), "2001:db8::7", XForwardedFor},
		{"v6 in brackets", "10.0.0.1", header("X-Forwarded-For", "[2001:db8::7]"), "2001:db8::7", XForwardedFor},
		{"v6 in brackets with port", "10.0.0.1", header("X-Forwarded-For", "[2001:db8::7]:443"), "2001:db8::7", XForwardedFor},
		{"v4 in brackets is junk", "10.0.0.1", header("X-Forwarded-For", "[203.0.113.5]"), "10.0.0.1", Peer},
		{"zone", "10.0.0.1", header("X-Forwarded-For", "fe80::7%eth0"), "fe80::7", XForwardedFor},
		{"v4 in v6", "::ffff:10.0.0.1", header("X-Forwarded-For", "::ffff:203.0.113.5"), "203.0.113.5", XForwardedFor},
		{"v4 in v6 peer without header", "::ffff:198.51.100.9", header(), "198.51.100.9", Peer},
		{"peer with zone", "fd00::1%eth0", header("X-Forwarded-For", "203.0.113.5"), "203.0.113.5", XForwardedFor},
		{"unspecified and multicast are no clients", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5, 0.0.0.0, ::, 224.0.0.1"), "203.0.113.5", XForwardedFor},
		{"long junk", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5, "+strings.Repeat("1", 500)), "203.0.113.5", XForwardedFor},

		{"forwarded", "10.0.0.1", header("Forwarded", "for=203.0.113.5;proto=https;by=10.0.0.1"), "203.0.113.5", Forwarded},
		{"forwarded v6 with port", "10.0.0.1", header("Forwarded", `For="[2001:db8::1]:4711"`), "2001:db8::1", Forwarded},
		{"forwarded obfuscated port", "10.0.0.1", header("Forwarded", `for="203.0.113.5:_http"`), "203.0.113.5", Forwarded},
		{"forwarded trusted hops", "10.0.0.1", header("Forwarded", `for=1.1.1.1, for=203.0.113.5, for="[fd00::9]";proto=http, for=unknown`), "203.0.113.5", Forwarded},
		{"forwarded comma and escaped quote inside quotes", "10.0.0.1", header("Forwarded", `for=203.0.113.5;ext="a, for=6.6.6.6, \", for=7.7.7.7"`), "203.0.113.5", Forwarded},
		{"forwarded client leaves a quote open", "10.0.0.1", header("Forwarded", `for=9.9.9.9, x=", for=203.0.113.5`), "203.0.113.5", Forwarded},
		{"forwarded client leaves a quote open in a line of its own", "10.0.0.1", header("Forwarded", `for=9.9.9.9, x="`, "Forwarded", `for="203.0.113.5"`), "203.0.113.5", Forwarded},
		{"forwarded escapes hide no address", "10.0.0.1", header("Forwarded", `for="203.0.113.\5"`), "10.0.0.1", Peer},
		{"forwarded without for", "10.0.0.1", header("Forwarded", `proto=https;host=example.org`), "10.0.0.1", Peer},
		{"forwarded for twice: the first", "10.0.0.1", header("Forwarded", `for=203.0.113.5;for=6.6.6.6`), "203.0.113.5", Forwarded},
		{"x-forwarded-for comes before forwarded", "10.0.0.1", header("Forwarded", "for=203.0.113.5", "X-Forwarded-For", "203.0.113.6"), "203.0.113.6", XForwardedFor},
		{"x-real-ip of a trusted hop is believed", "10.0.0.1", header("X-Real-Ip", "10.3.3.3"), "10.3.3.3", XRealIP},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, how := r.Client(addr(tt.peer), tt.h)
			if got != addr(tt.want) || how != tt.how {
				t.Errorf("got %v by %s, want %s by %s", got, how, tt.want, tt.how)
			}
		})
	}
}

func TestOnlyConfiguredHeadersAreBelieved(t *testing.T) {
	r := newResolver(t, Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Headers: []string{"x-real-ip", "forwarded"}})
	h := header("X-Forwarded-For", "1.1.1.1", "Forwarded", "for=203.0.113.5", "X-Real-Ip", "203.0.113.6")
	if got, how := r.Client(addr("10.0.0.1"), h); got != addr("203.0.113.6") || how != XRealIP {
		t.Errorf("got %v by %s", got, how)
	}
	h.Del("X-Real-Ip")
	if got, how := r.Client(addr("10.0.0.1"), h); got != addr("203.0.113.5") || how != Forwarded {
		t.Errorf("got %v by %s", got, how)
	}
	h.Del("Forwarded")
	if got, how := r.Client(addr("10.0.0.1"), h); got != addr("10.0.0.1") || how != Peer {
		t.Errorf("got %v by %s", got, how)
	}
}

func TestPeerOnUnixSocketIsTrustedOnlyWhenTold(t *testing.T) {
	h := header("X-Forwarded-For", "203.0.113.5")
	if got, how := trusting(t, "10.0.0.0/8").Client(netip.Addr{}, h); got.IsValid() || how != Peer {
		t.Errorf("untrusted: got %v by %s", got, how)
	}
	r := newResolver(t, Config{TrustUnix: true})
	if got, _ := r.Client(netip.Addr{}, h); got != addr("203.0.113.5") {
		t.Errorf("trusted: got %v", got)
	}
	if got, how := r.Client(netip.Addr{}, header()); got.IsValid() || how != Peer {
		t.Errorf("trusted without header: got %v by %s", got, how)
	}
}

func TestListIsLookedAtWithinBounds(t *testing.T) {
	r := trusting(t, "10.0.0.0/8")
	many := "203.0.113.5" + strings.Repeat(", 10.1.1.1", maxHops)
	if got, _ := r.Client(addr("10.0.0.1"), header("X-Forwarded-For", many)); got != addr("10.1.1.1") {
		t.Errorf("beyond %d hops: got %v", maxHops, got)
	}
	just := "203.0.113.5" + strings.Repeat(", 10.1.1.1", maxHops-1)
	if got, _ := r.Client(addr("10.0.0.1"), header("X-Forwarded-For", just)); got != addr("203.0.113.5") {
		t.Errorf("hop %d: got %v", maxHops, got)
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded"} {
		long := "203.0.113.5, " + strings.Repeat("x", maxBytes)
		if name == "Forwarded" {
			long = "for=" + long
		}
		if got, how := r.Client(addr("10.0.0.1"), header(name, long)); got != addr("10.0.0.1") {
			t.Errorf("%s beyond %d bytes: got %v by %s", name, maxBytes, got, how)
		}
		// The cut must not turn the tail of an element into an address of its own.
		tail := "for=" + strings.Repeat("2", maxBytes) + "03.0.113.5"
		if got, how := r.Client(addr("10.0.0.1"), header(name, tail)); got != addr("10.0.0.1") {
			t.Errorf("%s cut through an element: got %v by %s", name, got, how)
		}
	}
}

func TestConfigProblemsAreNamed(t *testing.T) {
	tests := []struct {
		c    Config
		want string
	}{
		{Config{Headers: []string{"X-Client"}}, `unknown header "X-Client"`},
		{Config{Headers: []string{"forwarded", "Forwarded"}}, "Forwarded is named twice"},
		{Config{Trusted: []netip.Prefix{{}}}, "is not a range"},
		{Config{Trusted: []netip.Prefix{netip.MustParsePrefix("::ffff:0:0/90")}}, "write the IPv4 range itself"},
	}
	for _, tt := range tests {
		if _, err := New(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.c, err, tt.want)
		}
	}
	if r := trusting(t, "::ffff:10.0.0.0/104"); !r.Trusts(addr("10.1.2.3")) {
		t.Error("a range of IPv4 in IPv6 must hold for IPv4")
	}
}

func TestSchemeIsBelievedFromTrustedPeersOnly(t *testing.T) {
	r := trusting(t, "10.0.0.0/8")
	tests := []struct {
		name, peer string
		h          http.Header
		tls        bool
		want       string
	}{
		{"plain", "203.0.113.5", header(), false, "http"},
		{"tls", "203.0.113.5", header(), true, "https"},
		{"untrusted claim", "203.0.113.5", header("X-Forwarded-Proto", "https", "Forwarded", "for=1.2.3.4;proto=https"), false, "http"},
		{"trusted", "10.0.0.1", header("X-Forwarded-Proto", "https"), false, "https"},
		{"trusted, other case", "10.0.0.1", header("X-Forwarded-Proto", " HTTPS "), false, "https"},
		{"list", "10.0.0.1", header("X-Forwarded-Proto", "https, http"), false, "https"},
		{"web socket", "10.0.0.1", header("X-Forwarded-Proto", "wss"), false, "https"},
		{"terminated again behind a plain client", "10.0.0.1", header("X-Forwarded-Proto", "http"), true, "http"},
		{"nonsense", "10.0.0.1", header("X-Forwarded-Proto", "javascript"), true, "https"},
		{"nonsense, then Forwarded", "10.0.0.1", header("X-Forwarded-Proto", "x", "Forwarded", `for=203.0.113.5;proto="https"`), false, "https"},
		{"Forwarded: the client's element", "10.0.0.1", header("Forwarded", "for=9.9.9.9;proto=http, for=203.0.113.5;proto=https, for=10.0.0.7;proto=http"), false, "https"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.Scheme(addr(tt.peer), tt.h, tt.tls); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzXForwardedFor(f *testing.F) {
	for _, s := range []string{"203.0.113.5", ",,169.254.1.2", "unknown, [2001:db8::1]:80", "fe80::1%eth0", "1.1.1.1, 10.0.0.1:99", "::ffff:1.2.3.4,"} {
		f.Add(s, "10.0.0.9")
	}
	r := trusting(f, "10.0.0.0/8", "fd00::/8")
	peer := addr("10.0.0.1")
	f.Fuzz(func(t *testing.T, left, right string) {
		got, _ := r.Client(peer, http.Header{keyXFF: {left, right}})
		checkClient(t, got)
		// What a trusted proxy appends cannot be overruled by what is left of it.
		if got, _ := r.Client(peer, http.Header{keyXFF: {left + ", 203.0.113.77"}}); got != addr("203.0.113.77") {
			t.Errorf("%q hides the appended hop: got %v", left, got)
		}
	})
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{`for=203.0.113.5;proto=https`, `for="[2001:db8::1]:4711"`, `for=_x, for="unknown"`, `x="`, `x="\"`, `for="a\\",for=1.2.3.4;;=`} {
		f.Add(s)
	}
	r := trusting(f, "10.0.0.0/8")
	peer := addr("10.0.0.1")
	f.Fuzz(func(t *testing.T, s string) {
		got, _ := r.Client(peer, http.Header{keyForwarded: {s}})
		checkClient(t, got)
		if s := r.Scheme(peer, http.Header{keyForwarded: {s}, keyProto: {s}}, false); s != "http" && s != "https" {
			t.Errorf("scheme %q", s)
		}
		h := http.Header{keyForwarded: {s + ", for=203.0.113.77"}}
		if got, _ := r.Client(peer, h); got != addr("203.0.113.77") {
			t.Errorf("%q hides the appended hop: got %v", s, got)
		}
	})
}

func checkClient(t *testing.T, a netip.Addr) {
	t.Helper()
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() {
		t.Errorf("unfit client %v", a)
	}
}

func BenchmarkClient(b *testing.B) {
	r := trusting(b, "10.0.0.0/8", "172.16.0.0/12", "fd00::/8", "173.245.48.0/20", "103.21.244.0/22", "2400:cb00::/32")
	for _, bm := range []struct {
		name string
		peer netip.Addr
		h    http.Header
	}{
		{"direct", addr("203.0.113.5"), header("X-Forwarded-For", "1.1.1.1")},
		{"two-hops", addr("10.0.0.1"), header("X-Forwarded-For", "203.0.113.5, 173.245.48.9, 10.0.0.2")},
		{"forwarded", addr("10.0.0.1"), header("Forwarded", `for="[2001:db8::1]:4711";proto=https;host=example.org, for=10.0.0.2`)},
		{"hostile-8KiB", addr("10.0.0.1"), header("X-Forwarded-For", strings.Repeat("10.1.1.x,", 1000))},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Client(bm.peer, bm.h)
			}
		})
	}
}
