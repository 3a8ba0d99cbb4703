package challenge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// What a visitor has sent with a form must not be lost to a challenge, and must not be sent
// on without the visitor's will: a form that another site has made the browser send would come from this site
// after the challenge. So a form is held only if the browser says that it came from this site, and it goes on by a click.

const (
	// MaxHeld is the largest body that is held, in bytes.
	MaxHeld = 64 << 10
	// HoldTime is how long it can be sent.
	HoldTime = 5 * time.Minute
	// HoldMark ends the query of the address that a held form is sent to.
	HoldMark = "quickthorn-hold=1"
	// MaxSend bounds what is sent to it, in bytes.
	MaxSend = MaxHeld*4/3 + MaxForm + 512

	maxContentType = 256
)

// Held is what a visitor has sent.
type Held struct {
	ContentType string
	Body        []byte
}

// FromThisSite reports whether the browser says that it sends what a page of this very origin made it send.
func FromThisSite(h http.Header, scheme, host string) bool {
	if site := h.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	u, err := url.Parse(h.Get("Origin"))
	return err == nil && u.Host != "" && u.Scheme == scheme && strings.EqualFold(u.Host, host)
}

// Holdable reports whether a body of that type can be sent again by a form.
func Holdable(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(t)) {
	case "application/x-www-form-urlencoded", "multipart/form-data", "text/plain":
		return len(contentType) <= maxContentType
	}
	return false
}

// SendAddress is where a held form for a target is sent to.
func SendAddress(to string) string {
	if strings.Contains(to, "?") {
		return to + "&" + HoldMark
	}
	return to + "?" + HoldMark
}

// CutMark returns the target without HoldMark; ok is false if it does not end with it.
func CutMark(target string) (to string, ok bool) {
	to, ok = strings.CutSuffix(target, HoldMark)
	if !ok || to == "" || to[len(to)-1] != '?' && to[len(to)-1] != '&' {
		return "", false
	}
	return to[:len(to)-1], true
}

// Hold starts a challenge for what a visitor has sent. The page's form carries sealed, so that
// nothing is kept here: sealed is readable by the edges alone, and good for this visitor and target, for HoldTime, once.
func (g *Gate) Hold(v *Visit, sent *Held) (p *Page, sealed string) {
	who, known := g.visitor(v)
	if !known {
		who = visitor{issued: v.Now, id: g.NewID()}
	}
	t := ticket{issued: v.Now, level: g.level(v), kind: defense.ChallengeRefresh, flags: flagDowngrade}
	to := Location(v.Target)
	p = g.page(v, &t, to)
	p.Refresh, p.Cookies = "", []string{g.visitorCookie(&who, v)}
	return p, p.Ticket + "." + g.seal(sent, t.id, who.id, to, v.Now)
}

// Release opens what was held for the address that it is sent to, and redeems its ticket. With Again what was sent is to be held anew: it
// waited for too long, which must not lose it. wait is how long the request is to be held before it goes on: the
// click takes the place of the page that refreshes.
func (g *Gate) Release(v *Visit, sealed string) (sent *Held, r Result, wait time.Duration) {
	to := Location(v.Target)
	text, sealed, _ := strings.Cut(sealed, ".")
	t, ok := readTicket(g.Signer, text, to)
	if !ok {
		return nil, Result{Outcome: Malformed, To: to}, 0
	}
	r = Result{Kind: t.kind, ID: defense.TokenID(t.id), To: to}
	who, known := g.visitor(v)
	if !known {
		r.Outcome = NoCookie
		return nil, r, 0
	}
	sent, at, ok := g.open(sealed, t.id, who.id, to)
	if !ok {
		r.Outcome = Malformed
		return nil, r, 0
	}
	if age := v.Now.Sub(at); age > HoldTime || age < -clearance.Skew {
		r.Outcome = Again
		return sent, r, 0
	}
	redeemed := defense.Redemption{Ticket: defense.TokenID(t.id), Visitor: defense.TokenID(who.id), At: time.Unix(v.Now.Unix(), 0), Share: 255}
	if _, before := g.redeem(v.context(), redeemed); before {
		r.Outcome = Used
		return nil, r, 0
	}
	wait = max(0, min(refreshDelay(t.level, true)-v.Now.Sub(t.issued), 10*time.Second))
	return sent, g.grant(v, &t, &who, redeemed, r), wait
}

func (g *Gate) aeads() []cipher.AEAD {
	var out []cipher.AEAD
	for _, secret := range g.Signer.Secrets("held forms") {
		block, err := aes.NewCipher(secret)
		if err != nil { // a key of 32 bytes always makes one
			panic(err)
		}
		a, err := cipher.NewGCM(block)
		if err != nil {
			panic(err)
		}
		out = append(out, a)
	}
	return out
}

// bound is what a sealed form is good for.
func bound(ticket, visitor uint64, to string) []byte {
	b := binary.BigEndian.AppendUint64(nil, ticket)
	b = binary.BigEndian.AppendUint64(b, visitor)
	return append(b, to...)
}

func (g *Gate) seal(sent *Held, ticket, visitor uint64, to string, now time.Time) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))
	plain = append(plain, byte(len(sent.ContentType)-1)) // 1 to 256
	plain = append(plain, sent.ContentType...)
	plain = append(plain, sent.Body...)
	a := g.aeads()[0]
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(plain)+a.Overhead())
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(a.Seal(nonce, nonce, plain, bound(ticket, visitor, to)))
}

func (g *Gate) open(sealed string, ticket, visitor uint64, to string) (sent *Held, at time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, time.Time{}, false
	}
	for _, a := range g.aeads() {
		if len(raw) < a.NonceSize() {
			continue
		}
		plain, err := a.Open(nil, raw[:a.NonceSize()], raw[a.NonceSize():], bound(ticket, visitor, to))
		if err != nil || len(plain) < 9 || len(plain) < 10+int(plain[8]) {
			continue
		}
		end := 10 + int(plain[8])
		at = time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
		return &Held{ContentType: string(plain[9:end]), Body: plain[end:]}, at, true
	}
	return nil, time.Time{}, false
}
