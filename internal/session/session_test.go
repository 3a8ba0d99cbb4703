package session

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/race"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func secret(c byte) []byte { return bytes.Repeat([]byte{c}, KeySize) }

func prover(t testing.TB, names ...string) *Prover {
	t.Helper()
	p, err := New(Options{Keys: [][]byte{secret('a')}, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// browser keeps cookies as browsers do, all for one path, and not for ever.
type browser struct {
	t       *testing.T
	p       *Prover
	site    string
	now     time.Time
	cookies map[string]string
	gone    map[string]time.Time
}

func visit(t *testing.T, p *Prover) *browser {
	return &browser{t: t, p: p, site: "shop", now: noon, cookies: map[string]string{}, gone: map[string]time.Time{}}
}

func (b *browser) header() http.Header {
	h := http.Header{}
	var pairs []string
	for name, value := range b.cookies {
		if end, ok := b.gone[name]; !ok || b.now.Before(end) {
			pairs = append(pairs, name+"="+value)
		}
	}
	if len(pairs) > 0 {
		h["Cookie"] = []string{strings.Join(pairs, "; ")}
	}
	return h
}

func (b *browser) loggedIn() bool {
	return b.p.Read(b.header(), b.site, b.now).LoggedIn()
}

// ask sends a request that is answered with that status and those cookies, and returns what the prover adds.
func (b *browser) ask(method string, status int, set ...string) []string {
	b.t.Helper()
	h := b.header()
	added := b.p.Renew(b.p.Read(h, b.site, b.now), &Answer{
		Site: b.site, Method: method, Request: h, Status: status, Header: http.Header{"Set-Cookie": set}, Secure: true, Now: b.now,
	})
	for _, line := range append(set, added...) {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			b.t.Fatalf("%q: %v", line, err)
		}
		delete(b.gone, c.Name)
		switch {
		case c.MaxAge < 0 || c.Value == "" || !c.Expires.IsZero() && !c.Expires.After(b.now):
			delete(b.cookies, c.Name)
			continue
		case c.MaxAge > 0:
			b.gone[c.Name] = b.now.Add(time.Duration(c.MaxAge) * time.Second)
		case !c.Expires.IsZero():
			b.gone[c.Name] = c.Expires
		}
		b.cookies[c.Name] = c.Value
		if c.Name == Cookie && (!c.HttpOnly || !c.Secure || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge > int(MaxAge/time.Second)+60) {
			b.t.Errorf("added: %q", line)
		}
	}
	return added
}

const (
	first  = "0123456789abcdef"
	second = "fedcba9876543210"
)

func TestWhoLogsInIsKnown(t *testing.T) {
	for _, c := range []struct {
		name   string
		names  []string
		method string
		status int
		set    string
		known  bool
	}{
		{"by a form", nil, "POST", 303, "sid=" + first + "; Path=/; HttpOnly", true},
		{"by a form that is answered with a page", nil, "POST", 200, "sid=" + first + "; httponly; Secure; SameSite=Lax", true},
		{"with a value in quotes", nil, "POST", 303, `sid="` + first + `"; HttpOnly`, true},
		{"with a value of signs", nil, "POST", 303, "sid=a%3Ab=.c/d+e==,f g; HttpOnly", true},
		{"for an hour", nil, "POST", 303, "sid=" + first + "; HttpOnly; Max-Age=3600", true},
		{"until a time", nil, "POST", 303, "sid=" + first + "; HttpOnly; Expires=Thu, 26 Nov 2026 12:00:00 GMT", true},
		{"not by looking at a page", nil, "GET", 200, "sid=" + first + "; HttpOnly", false},
		{"not by a form that is refused", nil, "POST", 401, "sid=" + first + "; HttpOnly", false},
		{"nor by one that cannot be answered", nil, "POST", 500, "sid=" + first + "; HttpOnly", false},
		{"not by a cookie that scripts can read", nil, "POST", 303, "sid=" + first, false},
		{"nor by a short one", nil, "POST", 303, "sid=" + first[1:] + "; HttpOnly", false},
		{"nor by one that is over", nil, "POST", 303, "sid=" + first + "; HttpOnly; Max-Age=0", false},
		{"nor by one of our own", nil, "POST", 303, "quickthorn-clearance=" + first + "; HttpOnly", false},
		{"nor by one without a name", nil, "POST", 303, "=" + first + first + "; HttpOnly", false},
		{"a cookie with a name, in any answer", []string{"sid"}, "GET", 404, "sid=" + first, true},
		{"or the beginning of one", []string{"x", "wp_*"}, "GET", 200, "wp_0123=" + first, true},
		{"no other, then", []string{"sid", "wp_*"}, "POST", 303, "sid2=" + first + "; HttpOnly", false},
		{"nor a short one", []string{"sid"}, "POST", 303, "sid=1; HttpOnly", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := prover(t, c.names...)
			h := http.Header{}
			added := p.Renew(p.Read(h, "shop", noon), &Answer{
				Site: "shop", Method: c.method, Request: h, Status: c.status, Header: http.Header{"Set-Cookie": {"theme=dark", c.set}}, Now: noon,
			})
			if !c.known {
				if added != nil {
					t.Errorf("added %q", added)
				}
				return
			}
			if len(added) != 1 || strings.Contains(added[0], "Secure") {
				t.Fatalf("added %q", added)
			}
			pair := func(line string) string { pair, _, _ := strings.Cut(line, ";"); return pair }
			h["Cookie"] = []string{"a=b;theme=dark; " + pair(added[0]), pair(c.set)}
			if !p.Read(h, "shop", noon.Add(time.Minute)).LoggedIn() {
				t.Error("is not known")
			}
		})
	}
}

func TestASessionIsKnownAsLongAsItLasts(t *testing.T) {
	b := visit(t, prover(t))
	expect := func(what string, want bool) {
		t.Helper()
		if b.loggedIn() != want {
			t.Errorf("%s: logged in is %v", what, !want)
		}
	}
	expect("a stranger", false)
	b.ask("GET", 200, "sid=anonymous0123456; HttpOnly")
	expect("a visitor with a session", false)
	b.ask("POST", 401)
	expect("after a wrong password", false)
	b.ask("POST", 303, "sid=anonymous0123456; HttpOnly")
	expect("with a session that was there before", false)
	b.ask("POST", 303, "sid="+first+"; HttpOnly")
	expect("after a log-in", true)
	if added := b.ask("GET", 200, "theme=dark; Max-Age=100"); added != nil {
		t.Errorf("a cookie of another kind adds %q", added)
	}
	b.ask("GET", 404, "sid="+second)
	expect("after a renewal on any page", true)
	b.ask("GET", 200, "sid=deleted; Expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0", "sid="+first+"; HttpOnly")
	expect("after it was replaced", true)
	b.ask("GET", 200, "sid="+second+"; HttpOnly", "sid=; Path=/old; Max-Age=0")
	delete(b.cookies, "sid") // as this browser keeps one path only
	b.cookies["sid"] = second
	expect("after that of another path was deleted", true)
	b.ask("POST", 303, "sid=; Max-Age=0")
	expect("after a log-out", false)
	if _, ok := b.cookies[Cookie]; ok {
		t.Error("the proof is left after a log-out")
	}
	b.ask("POST", 303, "sid="+first+"; HttpOnly; Max-Age=86400")
	b.now = b.now.Add(23 * time.Hour)
	expect("within the session's day", true)
	b.now = b.now.Add(2 * time.Hour)
	expect("after its day", false)
	b.ask("POST", 303, "sid="+second+"; HttpOnly")
	b.now = b.now.Add(MaxAge - time.Hour)
	expect("within a month", true)
	b.ask("GET", 200, "sid="+second+"; HttpOnly")
	b.now = b.now.Add(MaxAge - time.Hour)
	expect("a month after a renewal", true)
	b.now = b.now.Add(2 * time.Hour)
	expect("and no longer", false)
}

func TestAProofEndsWhateverTheClientDoes(t *testing.T) {
	p := prover(t)
	b := visit(t, p)
	b.ask("POST", 303, "sid="+first+"; HttpOnly; Max-Age=600")
	h := b.header()
	for after, want := range map[time.Duration]bool{0: true, 9 * time.Minute: true, 11 * time.Minute: false, -time.Hour: true} {
		if p.Read(h, "shop", noon.Add(after)).LoggedIn() != want {
			t.Errorf("after %v: logged in is %v", after, !want)
		}
	}
}

func TestAProofIsGoodForItsSessionAndSiteOnly(t *testing.T) {
	p := prover(t)
	b := visit(t, p)
	b.ask("POST", 303, "sid="+first+"; HttpOnly")
	proof := Cookie + "=" + b.cookies[Cookie]
	for _, c := range []struct {
		name, site, cookies string
		want                bool
	}{
		{"its session", "shop", "sid=" + first, true},
		{"beside another of the name", "shop", "sid=" + second + "; sid=" + first, true},
		{"in quotes", "shop", `sid="` + first + `"`, true},
		{"another session", "shop", "sid=" + second, false},
		{"a longer one", "shop", "sid=" + first + "0", false},
		{"another cookie", "shop", "side=" + first, false},
		{"another site", "shop2", "sid=" + first, false},
		{"what moves a byte from one to the other", "shops", "id=" + first, false},
		{"none", "shop", "", false},
		{"behind too many", "shop", strings.Repeat("sid="+second+"; ", maxTries) + "sid=" + first, false},
	} {
		for _, line := range []string{c.cookies + "; " + proof, proof + ";" + c.cookies} {
			if p.Read(http.Header{"Cookie": {line}}, c.site, noon).LoggedIn() != c.want {
				t.Errorf("%s: logged in is %v", c.name, !c.want)
			}
		}
	}
	for _, text := range []string{"", "1", "1.", ".", "2" + b.cookies[Cookie][1:], b.cookies[Cookie] + ".", b.cookies[Cookie] + "x", "1" + strings.Repeat("."+strings.Repeat("A", entryText), 5)} {
		if p.Read(http.Header{"Cookie": {"sid=" + first + "; " + Cookie + "=" + text}}, "shop", noon).LoggedIn() {
			t.Errorf("%q is a proof", text)
		}
	}
	if p.Read(http.Header{"Cookie": {"sid=" + first + "; x" + proof}}, "shop", noon).LoggedIn() {
		t.Error("a cookie of another name is a proof")
	}
	if !p.Read(http.Header{"Cookie": {Cookie + "=old; sid=" + first, Cookie + "=; " + proof}}, "shop", noon).LoggedIn() {
		t.Error("a good proof behind others does not count")
	}
}

func TestNoChangedProofIsGood(t *testing.T) {
	p := prover(t)
	b := visit(t, p)
	b.ask("POST", 303, "sid="+first+"; HttpOnly")
	text := b.cookies[Cookie]
	for i := range len(text) {
		for bit := range 7 {
			changed := []byte(text)
			changed[i] ^= 1 << bit
			if p.Read(http.Header{"Cookie": {"sid=" + first + "; " + Cookie + "=" + string(changed)}}, "shop", noon).LoggedIn() {
				t.Errorf("good with bit %d of character %d changed: %q", bit, i, changed)
			}
		}
	}
}

func TestApplicationsMayHaveSeveralSessionCookies(t *testing.T) {
	b := visit(t, prover(t))
	b.ask("POST", 303, "access="+first+"; HttpOnly; Max-Age=900", "remember="+second+"; HttpOnly; Max-Age=864000")
	b.now = b.now.Add(time.Hour)
	if !b.loggedIn() {
		t.Fatal("the longer session does not count")
	}
	b.ask("GET", 200, "access="+second+"; HttpOnly; Max-Age=900")
	delete(b.cookies, "access")
	if !b.loggedIn() {
		t.Fatal("the other session is forgotten when one is set by a page")
	}
	b.ask("POST", 303, "remember=; Max-Age=0")
	if b.loggedIn() || b.cookies[Cookie] != "" {
		t.Fatal("a proof is left")
	}
	for i := range 2 * maxProofs {
		b.ask("POST", 303, fmt.Sprintf("s%d=%s; HttpOnly", i, first))
	}
	for i := range 2*maxProofs - 1 {
		delete(b.cookies, fmt.Sprintf("s%d", i))
	}
	if !b.loggedIn() || len(b.cookies[Cookie]) != len(version)+maxProofs*(1+entryText) {
		t.Errorf("the last of many sessions: %q", b.cookies[Cookie])
	}
}

func TestKeysChangeWithoutAnybodyLoggingInAgain(t *testing.T) {
	b := visit(t, prover(t))
	b.ask("POST", 303, "sid="+first+"; HttpOnly")
	for _, step := range []struct {
		keys [][]byte
		want bool
	}{{[][]byte{secret('a'), secret('b')}, true}, {[][]byte{secret('b'), secret('a')}, true}, {[][]byte{secret('b')}, false}, {[][]byte{secret('a')}, true}} {
		if err := b.p.Replace(step.keys...); err != nil {
			t.Fatal(err)
		}
		if b.loggedIn() != step.want {
			t.Errorf("with keys %q: logged in is %v", step.keys, !step.want)
		}
	}
	for _, keys := range [][][]byte{{}, {secret('a')[1:]}, {secret('b'), nil}} {
		if err := b.p.Replace(keys...); err == nil || !strings.Contains(err.Error(), "key") {
			t.Errorf("%d keys: error %v", len(keys), err)
		}
	}
	if !b.loggedIn() {
		t.Error("a wrong key replaced the good one")
	}
}

func TestWhatIsNoCookiesNameIsRefused(t *testing.T) {
	for _, name := range []string{"", "*", "a b", "a=b", "a;b", "a*b", "a**", "\x00", "ä", Cookie, "quickthorn-*", strings.Repeat("a", maxName+1)} {
		if _, err := New(Options{Keys: [][]byte{secret('a')}, Names: []string{"good", name}}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: error %v", name, err)
		}
	}
	if _, err := New(Options{Keys: [][]byte{secret('a')}, Names: make([]string, maxNames+1)}); err == nil {
		t.Error("any number of names is taken")
	}
	prover(t, "a", "__Host-sid", "a_*", strings.Repeat("a", maxName)+"*")
}

func TestSetCookieIsReadAsBrowsersDo(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		line string
		want setCookie
		ok   bool
	}{
		{"a=b", setCookie{name: "a", value: "b"}, true},
		{" a = b=c ;HTTPONLY ; x", setCookie{name: "a", value: "b=c", httpOnly: true}, true},
		{"a=", setCookie{name: "a", deleted: true}, true},
		{"a=b; Max-Age=60", setCookie{name: "a", value: "b", age: time.Minute}, true},
		{"a=b; Max-Age=-1", setCookie{name: "a", value: "b", deleted: true}, true},
		{"a=b; Max-Age=99999999999999999999", setCookie{name: "a", value: "b", age: MaxAge}, true},
		{"a=b; Max-Age=9223372036854775807", setCookie{name: "a", value: "b", age: MaxAge}, true},
		{"a=b; Max-Age=soon; Max-Age; Max-Age=-", setCookie{name: "a", value: "b"}, true},
		{"a=b; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", setCookie{name: "a", value: "b", age: time.Minute}, true},
		{"a=b; expires=Thu, 01-Jan-1970 00:00:00 GMT; max-age=60", setCookie{name: "a", value: "b", age: time.Minute}, true},
		{"a=b; Expires=Thu, 26 Nov 2026 12:00:00 GMT", setCookie{name: "a", value: "b", age: day}, true},
		{"a=b; Expires=Thu, 26-Nov-26 12:00:00 GMT", setCookie{name: "a", value: "b", age: day}, true},
		{"a=b; Expires=Thu, 26-Nov-2099 12:00:00 GMT", setCookie{name: "a", value: "b", age: MaxAge}, true},
		{"a=b; Expires=Wed, 25 Nov 2026 12:00:00 GMT", setCookie{name: "a", value: "b", deleted: true}, true},
		{"a=b; Expires=0", setCookie{name: "a", value: "b"}, true},
		{"a", setCookie{}, false},
		{"", setCookie{}, false},
		{"=b", setCookie{}, false},
		{"quickthorn-session=b", setCookie{}, false},
		{strings.Repeat("a", maxName+1) + "=b", setCookie{}, false},
		{"a=" + strings.Repeat("b", maxValue+1), setCookie{}, false},
	} {
		var got setCookie
		if ok := got.parse(c.line, noon); ok != c.ok || ok && got != c.want {
			t.Errorf("%.60q: %+v, %v", c.line, got, ok)
		}
	}
}

// typical is the header of a request of somebody who is logged in, without our cookie.
func typical() http.Header {
	return http.Header{"Cookie": {"theme=dark; _ga=GA1.1.1234567890.1234567890; sid=" + first + second + "; csrftoken=" + second + "; cookie_consent=yes"}}
}

// proved is that with our cookie.
func proved(t testing.TB, p *Prover) http.Header {
	h := typical()
	added := p.Renew(Proof{}, &Answer{Site: "shop", Method: "POST", Status: 303, Header: http.Header{"Set-Cookie": {"sid=" + first + second + "; HttpOnly"}}, Now: noon})
	if len(added) != 1 {
		t.Fatal("no proof")
	}
	pair, _, _ := strings.Cut(added[0], ";")
	h["Cookie"][0] += "; " + pair
	return h
}

func TestReadingAProofAllocatesNothing(t *testing.T) {
	race.SkipAllocations(t)
	p := prover(t)
	good := proved(t, p)
	for name, h := range map[string]http.Header{"no cookie": {}, "no proof": typical(), "a proof": good, "a wrong one": {"Cookie": {strings.Replace(good.Get("Cookie"), "sid=0", "sid=1", 1)}}} {
		if n := testing.AllocsPerRun(100, func() { p.Read(h, "shop", noon) }); n > 0 {
			t.Errorf("%s: %g allocations", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { p.Renew(Proof{}, &Answer{Request: h, Header: http.Header{}}) }); n > 0 {
			t.Errorf("%s, an answer that sets nothing: %g allocations", name, n)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	p := prover(b)
	long := proved(b, p)
	long["Cookie"][0] = strings.Repeat("sid="+strings.Repeat("x", 4000)+"; ", 8) + long["Cookie"][0]
	for _, c := range []struct {
		name string
		h    http.Header
	}{{"no cookie", http.Header{}}, {"no proof", typical()}, {"a proof", proved(b, p)}, {"hostile", long}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Read(c.h, "shop", noon)
			}
		})
	}
}

// FuzzRead checks that no cookies but those that were proved are a proof.
func FuzzRead(f *testing.F) {
	p := prover(f)
	good := proved(f, p).Get("Cookie")
	entry := good[len(good)-entryText:]
	f.Add(good)
	f.Add("sid=" + first + "; " + Cookie + "=1." + strings.Repeat("A", entryText))
	f.Add(Cookie + "=" + Cookie + "=; " + Cookie)
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Cookie": {line}}
		proof := p.Read(h, "shop", noon)
		if proof.LoggedIn() && (!strings.Contains(line, first+second) || !strings.Contains(proof.text, entry)) {
			t.Errorf("%q is a proof", line)
		}
		p.Renew(proof, &Answer{Site: "shop", Method: "POST", Status: 200, Request: h, Header: http.Header{"Set-Cookie": {"sid=" + first}}, Now: noon})
	})
}

// FuzzSetCookie checks that whatever an upstream sets, our own line is one, and that it sets nothing else.
func FuzzSetCookie(f *testing.F) {
	f.Add("sid="+first+"; HttpOnly; Max-Age=10", "sid=; Expires=Thu, 01-Jan-1970 00:00:00 GMT")
	f.Add("a=\x00\r\n"+first+"; HttpOnly", "a;b=;;=")
	p := prover(f)
	f.Fuzz(func(t *testing.T, one, two string) {
		h := proved(t, p)
		for _, line := range p.Renew(p.Read(h, "shop", noon), &Answer{Site: "shop", Method: "POST", Status: 200, Request: h, Header: http.Header{"Set-Cookie": {one, two}}, Now: noon}) {
			c, err := http.ParseSetCookie(line)
			if err != nil || c.Name != Cookie || c.MaxAge > int(MaxAge/time.Second)+60 || c.Path != "/" || !c.HttpOnly {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}
