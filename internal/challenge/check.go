package challenge

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

const (
	// Prefix is the path below which the edge answers itself. It is not under
	// /.well-known/ because sites and their other tools own that.
	Prefix = "/.quickthorn/"
	// PassPath is where a challenge page leads to.
	PassPath = Prefix + "pass"

	clearanceCookie = "quickthorn-clearance"
	checkCookie     = "quickthorn-check"

	// checkValidity is how long a challenge page may lie open before it is followed:
	// a tab restored in the background, a laptop that slept over lunch.
	checkValidity = 24 * time.Hour
	// maxCookies bounds how many cookies of one name are looked at in a line.
	maxCookies = 8
	// maxTarget bounds the address that a challenge returns to, in bytes.
	maxTarget = 4096
)

// RefreshDelay is how long a challenge page waits before it goes on. Long enough to
// read one sentence; a scraper that fetches pages in bulk does not wait.
const RefreshDelay = 2 * time.Second

// Check issues and redeems the refresh check. It is safe for concurrent use.
type Check struct {
	signer   *Signer
	validity time.Duration
}

// NewCheck returns a check whose clearances are valid for that long.
func NewCheck(s *Signer, validity time.Duration) *Check {
	return &Check{signer: s, validity: validity}
}

// Clearance reads the request's clearance cookie. Junk is no clearance, never an error.
// When several cookies of the name are sent (set for other paths or domains), one good one is enough.
func (c *Check) Clearance(h http.Header, now time.Time) defense.Clearance {
	if id, ok := c.goodCookie(h, clearanceCookie, useClearance, c.validity, now); ok {
		return defense.Clearance{Valid: true, ID: tokenID(id)}
	}
	return defense.Clearance{}
}

// goodCookie looks for a cookie of that name with a token for that use that is valid
// now, and returns the token's id.
func (c *Check) goodCookie(h http.Header, name string, u use, validity time.Duration, now time.Time) (id uint64, ok bool) {
	for _, line := range h["Cookie"] {
		for i := 0; i < maxCookies; i++ {
			var value string
			value, line = nextCookie(line, name)
			if value == "" {
				break
			}
			if issued, id, ok := c.signer.verify(u, value, ""); ok && within(issued, now, validity) {
				return id, true
			}
		}
	}
	return 0, false
}

func tokenID(id uint64) string {
	const hex = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = hex[id>>(60-4*i)&15]
	}
	return string(b[:])
}

// nextCookie returns the value of the first cookie of that name in a Cookie line and
// what follows it. It does not build the list of all cookies: this runs for every request.
func nextCookie(line, name string) (value, rest string) {
	for line != "" {
		var pair string
		pair, line, _ = strings.Cut(line, ";")
		pair = strings.TrimLeft(pair, " \t")
		if len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name {
			return strings.Trim(pair[len(name)+1:], "\" \t"), line
		}
	}
	return "", ""
}

// Issued is what a challenge page needs.
type Issued struct {
	Cookie string // Set-Cookie value
	Pass   string // same-site address that the page refreshes to
}

// Issue starts a check that returns to the given target (path and query as
// received). Secure says whether the client uses HTTPS; a Secure cookie on plain HTTP would be
// dropped and the reader sent round in circles.
func (c *Check) Issue(target string, secure bool, now time.Time) Issued {
	if len(target) > maxTarget || !strings.HasPrefix(target, "/") {
		target = "/"
	}
	token := c.signer.issue(usePass, now, target)
	return Issued{
		Cookie: cookie(checkCookie, c.signer.issue(useCheck, now, ""), Prefix, checkValidity, secure),
		Pass:   PassPath + "?token=" + token + "&to=" + queryEscape(target),
	}
}

func cookie(name, value, path string, age time.Duration, secure bool) string {
	// Max-Age, not Expires: the client's clock may be wrong by a day.
	s := fmt.Sprintf("%s=%s; Path=%s; Max-Age=%d; HttpOnly; SameSite=Lax", name, value, path, int(age.Seconds()))
	if secure {
		s += "; Secure"
	}
	return s
}

// Outcome is what became of a visit to the pass address.
type Outcome uint8

// The outcomes of a visit to the pass address.
const (
	Passed    Outcome = iota
	NoCookie          // the cookie did not come back: cookies are off, or another program follows
	Expired           // the page lay open for too long; a fresh check will do
	Malformed         // not an address that we issued
)

// String returns the outcome's name, as metrics label it.
func (o Outcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case NoCookie:
		return "no-cookie"
	case Expired:
		return "expired"
	}
	return "malformed"
}

// Redeem answers a visit to the pass address: when it passed, cookie is the
// Set-Cookie value of the clearance. to is where to go next, always a path on this site. Any unexpired check
// cookie will do, since parallel challenges overwrite each other's. Redeem never asks for the address to be
// the same as at issue: dual-stack and mobile clients change it.
func (c *Check) Redeem(h http.Header, rawQuery string, secure bool, now time.Time) (o Outcome, setCookie, to string) {
	token, target := passParameters(rawQuery)
	if len(target) > maxTarget || !strings.HasPrefix(target, "/") {
		return Malformed, "", "/"
	}
	issued, _, ok := c.signer.verify(usePass, token, target)
	if !ok {
		return Malformed, "", "/"
	}
	to = Location(target)
	if !within(issued, now, checkValidity) {
		return Expired, "", to
	}
	if _, ok := c.goodCookie(h, checkCookie, useCheck, checkValidity, now); ok {
		return Passed, cookie(clearanceCookie, c.signer.issue(useClearance, now, ""), "/", c.validity, secure), to
	}
	return NoCookie, "", to
}

// Location turns a request target of this site into a Location value that no
// client takes for another host: "//x" and "/\x" would be read as a network path.
func Location(target string) string {
	if len(target) > 1 && (target[1] == '/' || target[1] == '\\') {
		return "/." + target // RFC 3986 section 5.2.4 removes the "/."
	}
	return target
}

// passParameters reads token and to from a query. Only the form that Issue writes is understood.
func passParameters(raw string) (token, to string) {
	rest, ok := strings.CutPrefix(raw, "token=")
	if !ok {
		return "", ""
	}
	token, rest, ok = strings.Cut(rest, "&to=")
	if !ok || len(rest) > 3*maxTarget {
		return "", ""
	}
	to, ok = queryUnescape(rest)
	if !ok {
		return "", ""
	}
	return token, to
}

const upperHex = "0123456789ABCDEF"

// queryEscape escapes every byte that is not unreserved or "/", so that any
// target comes back byte for byte. net/url would turn invalid escapes and spaces into other bytes.
func queryEscape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '-' || c == '.' || c == '_' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

func queryUnescape(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	for _, c := range b {
		if c < 0x20 || c == 0x7f { // would be header injection in Location
			return "", false
		}
	}
	return string(b), true
}
