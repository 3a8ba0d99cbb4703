package entry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The headers in which an edge tells a tarpit in another process whom it sends.
const (
	HeaderClient    = "Quickthorn-Client"
	HeaderSite      = "Quickthorn-Site"
	HeaderScheme    = "Quickthorn-Scheme"
	HeaderRequestID = "Quickthorn-Request-Id"
	HeaderWayOut    = "Quickthorn-Way-Out"
	HeaderSignature = "Quickthorn-Signature"
	// HeaderStay is the tarpit's answer about the request: "depth=3", "full" or "spent". The edge takes it out.
	HeaderStay = "Quickthorn-Stay"
)

// maxSkew is how far the time of a signature may be from ours.
const maxSkew = 60 * time.Second

// signed is the text that a signature is of. Lengths before the parts keep one from running into the next.
func signed(r *http.Request, at string) []byte {
	var b []byte
	for _, part := range [...]string{
		at, r.Method, r.Host, r.URL.RequestURI(), r.Header.Get(HeaderClient), r.Header.Get(HeaderSite), r.Header.Get(HeaderScheme),
		r.Header.Get(HeaderRequestID), r.Header.Get(HeaderWayOut),
	} {
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(b, ':')
		b = append(b, part...)
	}
	return b
}

func mac(key string, text []byte) []byte {
	m := hmac.New(sha256.New, []byte("quickthorn tarpit relay 1\n"+key))
	m.Write(text)
	return m.Sum(nil)
}

// Sign writes the guest and a signature into the request's headers.
func Sign(r *http.Request, g *Guest, key string, now time.Time) {
	h := r.Header
	h.Set(HeaderClient, g.Address.String())
	h.Set(HeaderSite, g.Site)
	h.Set(HeaderScheme, g.Scheme)
	h.Set(HeaderRequestID, g.RequestID)
	h.Set(HeaderWayOut, g.WayOut)
	at := strconv.FormatInt(now.Unix(), 10)
	h.Set(HeaderSignature, "t="+at+",v1="+hex.EncodeToString(mac(key, signed(r, at))))
}

var errUnsigned = errors.New("the request is not signed by an edge")

// Verify returns the guest whom a signed request names. Several keys may be in use while one is exchanged for another.
func Verify(r *http.Request, keys []string, now time.Time) (Guest, error) {
	s := r.Header.Get(HeaderSignature)
	at, rest, ok := strings.Cut(strings.TrimPrefix(s, "t="), ",v1=")
	if !ok || len(s) > 128 {
		return Guest{}, errUnsigned
	}
	sum, err := hex.DecodeString(rest)
	if err != nil {
		return Guest{}, errUnsigned
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > maxSkew {
		return Guest{}, errors.New("the signature is older than a minute, or the clocks of edge and tarpit differ")
	}
	text := signed(r, at)
	for _, key := range keys {
		if key != "" && hmac.Equal(sum, mac(key, text)) {
			return guestOf(r.Header)
		}
	}
	return Guest{}, errUnsigned
}

func guestOf(h http.Header) (Guest, error) {
	g := Guest{Site: h.Get(HeaderSite), Scheme: h.Get(HeaderScheme), RequestID: h.Get(HeaderRequestID), WayOut: h.Get(HeaderWayOut)}
	a, err := netip.ParseAddr(h.Get(HeaderClient))
	if err != nil && h.Get(HeaderClient) != "invalid IP" { // as netip writes that there is none: a client on a Unix socket
		return Guest{}, errors.New(HeaderClient + " is not an address")
	}
	g.Address = a
	return g, nil
}
