package maze

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// maxHashed is how much of a path or query makes a page differ; no address of the maze comes near.
const maxHashed = 8 << 10

// identify makes the numbers that everything on the page follows from.
func (w *writer) identify() {
	host := w.q.Host
	if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	b := append(w.scratch[:0], w.m.pageKey[:]...)
	b = appendPart(b, w.q.Site)
	for i := range min(len(host), 255) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	site := sha256.Sum256(b)
	w.siteKey = binary.LittleEndian.Uint64(site[:])
	b = append(b, 0)
	b = appendPart(b, w.q.Path)
	b = appendPart(b, w.q.Query)
	w.digest = sha256.Sum256(b)
	w.scratch = b
}

// appendPart writes a text and its length, so that one text cannot run into the next.
func appendPart(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s[:min(len(s), maxHashed)]...)
}

// Aspects of a page that are drawn apart from its content, so that a change to the one leaves the others as they are.
const (
	aspectDelay = iota
	aspectModified
	aspectSelf
	aspectLook
)

// draw returns a number that the address determines.
func (w *writer) draw(aspect uint64) uint64 {
	return mix(binary.LittleEndian.Uint64(w.digest[8:]) + aspect*0x9e3779b97f4a7c15)
}

// etag returns a strong tag: an address has one content.
func (w *writer) etag() string {
	var b [26]byte
	b[0] = '"'
	hex.Encode(b[1:25], w.digest[20:])
	b[25] = '"'
	return string(b[:])
}

// readHost takes what of the Host header may be shown.
func (w *writer) readHost() {
	w.host, w.brand = w.q.Host, ""
	if w.host == "" || len(w.host) > 255 {
		w.host = "localhost"
	}
	for i := range len(w.host) {
		if c := w.host[i]; !isAlnum(c) && c != '.' && c != '-' && c != ':' && c != '[' && c != ']' {
			w.host = "localhost"
			break
		}
	}
	// The name of the site is the longest label but for the last: "www.example.co.uk" is "Example".
	rest := w.host
	if i := strings.IndexAny(rest, ":["); i >= 0 {
		rest = rest[:i]
	}
	for {
		label, after, more := strings.Cut(rest, ".")
		if !more && w.brand != "" {
			break
		}
		if len(label) > len(w.brand) && label != "www" {
			w.brand = label
		}
		if !more {
			break
		}
		rest = after
	}
	if w.brand == "" || w.brand[0] < 'A' { // an IP address
		w.brand = "archive"
	}
	w.scheme = "https"
	if w.q.Scheme == "http" {
		w.scheme = "http"
	}
}

// pool returns one of a site's recurring places: its authors, categories and tags are few, and the same on every page.
func (w *writer) pool(r role, i int) ref {
	h := mix(w.siteKey ^ uint64(r)<<32 ^ uint64(i))
	return ref{role: r, depth: 1, day: uint16(h & (days - 1)), nonce: uint16(h >> 16)}
}

// Sizes of the pools.
const (
	people     = 48
	categories = 7
	topics     = 80
)

// of returns a number that belongs to a place for ever, for instance which of the authors wrote it.
func (w *writer) of(f ref, aspect uint64) uint64 { return mix(f.pack() ^ w.siteKey ^ aspect<<52) }

func (w *writer) author(f ref) ref   { return w.pool(rolePerson, int(w.of(f, 1)%people)) }
func (w *writer) category(f ref) ref { return w.pool(roleList, int(w.of(f, 2)%categories)) }
func (w *writer) topic(f ref, i int) ref {
	return w.pool(roleTag, int((w.of(f, 3)+uint64(i)*17)%topics))
}
