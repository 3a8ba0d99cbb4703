package behaviour

import (
	"math/bits"
	"net/url"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Page is what a page is known by: hashes, not text, so that it takes little memory. They are the same in every
// process, which makes measurements reproducible; who wants two pages to be taken for one can have that, and gains
// nothing from it.
type Page struct {
	Full uint64 // of site, path and query, whatever the order of its parameters
	Path uint64 // of site and path
}

// PageOf returns the page of a normalised path and a raw query of a site.
func PageOf(site, path, query string) Page {
	h := mix(xxhash.Sum64String(path) ^ bits.RotateLeft64(xxhash.Sum64String(site), 17))
	p := Page{Full: h, Path: h}
	if query == "" {
		return p
	}
	var sum uint64 // does not depend on the order
	for rest := query; rest != ""; {
		var pair string
		if pair, rest, _ = strings.Cut(rest, "&"); pair != "" {
			sum += mix(xxhash.Sum64String(pair))
		}
	}
	p.Full = mix(h + sum | 1)
	return p
}

// mix spreads the bits of a hash (the finalizer of MurmurHash3, in the public domain).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// referrer is what a Referer header names.
type referrer struct {
	sameSite bool
	root     bool // only the host: a policy of the site or the browser may have cut the rest off
	page     Page
}

// parseReferrer reads a Referer. What is not an absolute address of the host is not of the same site.
func parseReferrer(text, host, site string) (r referrer) {
	_, rest, ok := strings.Cut(text, "://")
	if !ok || host == "" {
		return r
	}
	authority, target := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		authority = authority[:i]
	}
	if !strings.EqualFold(authority, host) {
		return r
	}
	target, _, _ = strings.Cut(target, "#")
	path, query, _ := strings.Cut(target, "?")
	if path == "" {
		path = "/"
	}
	if strings.IndexByte(path, '%') >= 0 { // events hold decoded paths
		if decoded, err := url.PathUnescape(path); err == nil {
			path = decoded
		}
	}
	return referrer{sameSite: true, root: path == "/" && query == "", page: PageOf(site, path, query)}
}

// maxNumbers is how many numbers of an address are compared with those of the one before.
const maxNumbers = 4

// numbersOf collects the numbers that stand by themselves in a path and query: ids, pages, revisions. Digits within
// a word or a hash are none, nor are those with more than 15 digits.
func numbersOf(dst *[maxNumbers]int64, path, query string) (n int) {
	for _, s := range [...]string{path, query} {
		for i := 0; i < len(s) && n < maxNumbers; {
			if !isDigit(s[i]) {
				i++
				continue
			}
			start, v := i, int64(0)
			for ; i < len(s) && isDigit(s[i]); i++ {
				if i-start < 15 {
					v = v*10 + int64(s[i]-'0')
				}
			}
			if i-start <= 15 && (start == 0 || !isLetter(s[start-1]) && s[start-1] != '%') && (i == len(s) || !isLetter(s[i])) {
				dst[n] = v
				n++
			}
			for i < len(s) && isLetter(s[i]) { // the rest of a word such as 3rd or 0a1b
				i++
				for i < len(s) && isDigit(s[i]) {
					i++
				}
			}
		}
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }

// depthOf counts the segments of a path.
func depthOf(path string) int {
	n := 0
	for i := range len(path) {
		if path[i] != '/' && (i == 0 || path[i-1] == '/') {
			n++
		}
	}
	return n
}
