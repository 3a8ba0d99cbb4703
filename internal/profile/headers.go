package profile

import (
	"net/http"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// text returns a header's first value, bounded. name must be in canonical
// form. A header that is not there is Absent if all headers were seen, and Unobserved if not.
func text(h http.Header, name string, complete bool) defense.Text {
	v := h[name]
	if len(v) == 0 {
		if complete {
			return defense.Text{Presence: defense.Absent}
		}
		return defense.Text{}
	}
	return defense.Text{Value: v[0][:min(len(v[0]), maxValue)], Presence: defense.Present}
}

// fillHeaders copies the headers that signals and rules look at.
func fillHeaders(d *defense.Headers, h http.Header, complete bool) {
	d.Accept = text(h, "Accept", complete)
	d.AcceptLanguage = text(h, "Accept-Language", complete)
	d.AcceptEncoding = text(h, "Accept-Encoding", complete)
	d.Referer = text(h, "Referer", complete)
	d.SecFetchSite = text(h, "Sec-Fetch-Site", complete)
	d.SecFetchMode = text(h, "Sec-Fetch-Mode", complete)
	d.SecFetchDest = text(h, "Sec-Fetch-Dest", complete)
	d.SecFetchUser = text(h, "Sec-Fetch-User", complete)
	d.SecCHUA = text(h, "Sec-Ch-Ua", complete)
	d.SecCHUAMobile = text(h, "Sec-Ch-Ua-Mobile", complete)
	d.SecCHUAPlatform = text(h, "Sec-Ch-Ua-Platform", complete)
	d.UpgradeInsecure = text(h, "Upgrade-Insecure-Requests", complete)
	d.Connection = text(h, "Connection", complete)
	d.Upgrade = text(h, "Upgrade", complete)
	d.Range = text(h, "Range", complete)
	d.ContentType = text(h, "Content-Type", complete)
	d.RequestedWith = text(h, "X-Requested-With", complete)
	d.Purpose = text(h, "Sec-Purpose", complete)
	if !d.Purpose.IsPresent() { // the older names of the same thing
		if d.Purpose = text(h, "Purpose", complete); !d.Purpose.IsPresent() {
			d.Purpose = text(h, "X-Moz", complete)
		}
	}
	d.From = text(h, "From", complete)
	d.Via = text(h, "Via", complete)
	d.IfNoneMatch = text(h, "If-None-Match", complete)
	d.IfModifiedSince = text(h, "If-Modified-Since", complete)
	d.SignatureAgent = text(h, "Signature-Agent", complete)
	d.Authorization = text(h, "Authorization", complete).Presence
	d.Cookie = text(h, "Cookie", complete).Presence
}

// FNV-1a, 64 bits.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// shapeOf hashes which of a program's habitual headers are there and the values that
// tell programs and their settings apart. What changes from request to request
// of the same program (Referer, cookies, validators, ranges, Sec-Fetch-Site) is left out, so
// are the hop's own headers. Accept differs between pages and images, so a browser has
// a few shapes, not one. The result is the same in every process, never 0.
func shapeOf(d *defense.Headers) uint64 {
	h := uint64(fnvOffset)
	var mask uint64
	for i, t := range [...]*defense.Text{
		&d.Accept, &d.AcceptLanguage, &d.AcceptEncoding, &d.SecFetchSite, &d.SecFetchMode, &d.SecFetchDest,
		&d.SecCHUA, &d.SecCHUAMobile, &d.SecCHUAPlatform, &d.UpgradeInsecure, &d.RequestedWith, &d.From, &d.SignatureAgent,
	} {
		if t.IsPresent() {
			mask |= 1 << i
		}
	}
	h = (h ^ mask) * fnvPrime
	for _, s := range [...]string{d.Accept.Value, d.AcceptEncoding.Value, d.SecCHUAPlatform.Value, d.SecCHUAMobile.Value} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * fnvPrime
		}
		h = (h ^ 0xff) * fnvPrime // no header holds this byte: values cannot run together
	}
	if h == 0 {
		return 1
	}
	return h
}
