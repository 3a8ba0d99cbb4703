package challenge

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func newCheck(t testing.TB) *Check {
	t.Helper()
	s, err := NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return NewCheck(s, 7*24*time.Hour)
}

func cookies(set ...string) http.Header {
	h := http.Header{}
	for _, s := range set {
		pair, _, _ := strings.Cut(s, ";")
		h.Add("Cookie", pair)
	}
	return h
}

func redeem(c *Check, pass string, h http.Header, now time.Time) (Outcome, string, string) {
	_, query, _ := strings.Cut(pass, "?")
	return c.Redeem(h, query, false, now)
}

func TestKeptCookieEarnsClearance(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/wiki/A?x=1&y=%zz", false, noon)
	o, set, to := redeem(c, is.Pass, cookies(is.Cookie), noon.Add(3*time.Second))
	if o != Passed || to != "/wiki/A?x=1&y=%zz" {
		t.Fatalf("outcome %v, to %q", o, to)
	}
	cl := c.Clearance(cookies("theme=dark", set), noon.Add(24*time.Hour))
	if !cl.Valid || len(cl.ID) != 16 {
		t.Fatalf("clearance %+v", cl)
	}
}

func TestParallelChallengesAreEachRedeemable(t *testing.T) {
	c := newCheck(t)
	a := c.Issue("/a", false, noon)
	b := c.Issue("/b", false, noon) // overwrites a's cookie in the browser
	for _, is := range []Issued{a, b, a} {
		if o, _, _ := redeem(c, is.Pass, cookies(b.Cookie), noon.Add(time.Minute)); o != Passed {
			t.Errorf("outcome %v", o)
		}
	}
}

func TestWrongClocksDoNotLockOut(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/", false, noon)
	for _, d := range []time.Duration{-10 * time.Minute, -23 * time.Hour, 5 * time.Hour, 24 * time.Hour} {
		if o, _, _ := redeem(c, is.Pass, cookies(is.Cookie), noon.Add(d)); o != Passed {
			t.Errorf("clock moved by %v: outcome %v", d, o)
		}
	}
	if strings.Contains(is.Cookie, "Expires") || !strings.Contains(is.Cookie, "Max-Age=") {
		t.Errorf("cookie %q must use Max-Age", is.Cookie)
	}
}

func TestOldPageAsksForAFreshCheck(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/x", false, noon)
	if o, set, to := redeem(c, is.Pass, cookies(is.Cookie), noon.Add(48*time.Hour)); o != Expired || set != "" || to != "/x" {
		t.Fatalf("%v %q %q", o, set, to)
	}
}

func TestCookielessClientIsTold(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/x", false, noon)
	if o, set, to := redeem(c, is.Pass, cookies("other=1"), noon); o != NoCookie || set != "" || to != "/x" {
		t.Fatalf("%v %q %q", o, set, to)
	}
}

func TestForgedPassAddressesLeadNowhere(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/x", false, noon)
	token := strings.TrimPrefix(strings.Split(is.Pass, "&")[0], PassPath+"?token=")
	for _, q := range []string{
		"", "token=", "token=" + token, "token=" + token + "&to=/y", "token=" + token + "&to=//evil.example",
		"token=" + token + "&to=https:evil.example", "token=" + token + "&to=%2F%2Fevil", "to=/x&token=" + token,
		"token=" + token[:len(token)-1] + "A&to=/x", "token=" + token + "&to=/x%0d%0aSet-Cookie:a", "token=" + token + "&to=/x%",
		"token=" + strings.Repeat("A", 1<<16) + "&to=/x",
	} {
		if o, set, to := c.Redeem(cookies(is.Cookie), q, false, noon); o != Malformed || set != "" || to != "/" {
			t.Errorf("%.80q: outcome %v, to %q", q, o, to)
		}
	}
}

func TestTokensOfOneUseAreNotAnother(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/x", false, noon)
	check, _, _ := strings.Cut(strings.TrimPrefix(is.Cookie, checkCookie+"="), ";")
	if c.Clearance(cookies(clearanceCookie+"="+check), noon).Valid {
		t.Fatal("a check cookie served as clearance")
	}
}

func TestReturnNeverLeavesTheSite(t *testing.T) {
	c := newCheck(t)
	for _, target := range []string{"//evil.example/", `/\evil.example`, "///x", "/a//b", "https://evil.example/", "", "/" + strings.Repeat("x", maxTarget)} {
		is := c.Issue(target, false, noon)
		o, _, to := redeem(c, is.Pass, cookies(is.Cookie), noon)
		if o != Passed {
			t.Errorf("%.40q: %v", target, o)
		}
		base, _ := url.Parse("https://site.example/.quickthorn/pass")
		u, err := base.Parse(strings.ReplaceAll(to, `\`, "/")) // browsers read a backslash as a slash
		if err != nil || u.Host != "site.example" {
			t.Errorf("%.40q leads to %q: host %v, %v", target, to, u, err)
		}
	}
}

func TestSecureFollowsTheScheme(t *testing.T) {
	c := newCheck(t)
	if is := c.Issue("/", true, noon); !strings.Contains(is.Cookie, "; Secure") {
		t.Error("https without Secure")
	}
	if is := c.Issue("/", false, noon); strings.Contains(is.Cookie, "Secure") {
		t.Error("a Secure cookie on http would be dropped")
	}
}

func TestClearanceExpiresAndForgeriesFail(t *testing.T) {
	c := newCheck(t)
	is := c.Issue("/", false, noon)
	_, set, _ := redeem(c, is.Pass, cookies(is.Cookie), noon)
	if !c.Clearance(cookies(set), noon.Add(7*24*time.Hour)).Valid {
		t.Error("not valid to the end")
	}
	if c.Clearance(cookies(set), noon.Add(7*24*time.Hour+time.Hour)).Valid {
		t.Error("valid after its time")
	}
	other, err := NewSigner([]byte("another key, of 32 bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	if NewCheck(other, time.Hour).Clearance(cookies(set), noon).Valid {
		t.Error("another key's clearance was taken")
	}
	h := http.Header{"Cookie": {clearanceCookie + "=junk; " + strings.Split(set, ";")[0]}}
	if !c.Clearance(h, noon).Valid {
		t.Error("a junk cookie of the same name hid the good one")
	}
}

func TestKeyFileIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clearance.key")
	a, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadKey(path)
	if err != nil || string(a) != string(b) {
		t.Fatalf("second load differs: %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "want at least") {
		t.Fatalf("short key: %v", err)
	}
}

func FuzzRedeem(f *testing.F) {
	c := newCheck(f)
	is := c.Issue("/x?y", false, noon)
	f.Add(strings.TrimPrefix(is.Pass, PassPath+"?"), strings.Split(is.Cookie, ";")[0])
	f.Add("token=x&to=%2F", "quickthorn-check=; quickthorn-check")
	f.Fuzz(func(t *testing.T, query, cookie string) {
		o, _, to := c.Redeem(http.Header{"Cookie": {cookie}}, query, true, noon)
		if !strings.HasPrefix(to, "/") || strings.ContainsAny(to, "\r\n") || strings.HasPrefix(to, "//") {
			t.Fatalf("outcome %v leads to %q", o, to)
		}
		c.Clearance(http.Header{"Cookie": {cookie}}, noon)
	})
}

func BenchmarkClearance(b *testing.B) {
	c := newCheck(b)
	is := c.Issue("/", false, noon)
	_, set, _ := redeem(c, is.Pass, cookies(is.Cookie), noon)
	h := http.Header{"Cookie": {"session=abcdefabcdef; theme=dark; " + strings.Split(set, ";")[0]}}
	b.ReportAllocs()
	for b.Loop() {
		if !c.Clearance(h, noon).Valid {
			b.Fatal("not valid")
		}
	}
}
