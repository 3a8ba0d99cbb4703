package defense

import (
	"fmt"
	"strconv"
	"strings"
)

// FingerprintKind is what the clients that share a fingerprint have in common.
type FingerprintKind uint8

// The fingerprint kinds, the narrowest first. None says who a client is: honest readers
// share them with scrapers that imitate their browser, which is why a fingerprint may slow or ask, never refuse.
const (
	FingerprintPattern FingerprintKind = iota // the same program (agent, headers, TLS) asking for pages of the same path pattern
	FingerprintShape                          // the same headers and TLS and path pattern, whatever the agent says: rotating agents
	FingerprintProgram                        // the same program: agent, headers and TLS
)

var fingerprintNames = [...]string{"pattern", "shape", "program"}

// FingerprintKinds is how many kinds there are.
const FingerprintKinds = len(fingerprintNames)

// String returns the kind's name.
func (k FingerprintKind) String() string { return nameOf(fingerprintNames[:], uint8(k)) }

// Fingerprint is what many clients of one campaign share. Its text, "program:9f2c41d07b3ea865", is the
// value of decisions of [ScopeFingerprint] and the key of campaign cases.
type Fingerprint struct {
	Kind FingerprintKind
	Hash uint64 // never 0 for what was observed
}

// String returns the canonical text.
func (f Fingerprint) String() string {
	return f.Kind.String() + ":" + hex16(f.Hash)
}

// hex16 writes a hash in 16 hexadecimal digits.
func hex16(h uint64) string {
	s := strconv.FormatUint(h, 16)
	return "0000000000000000"[len(s):] + s
}

// ParseFingerprint reads the canonical text.
func ParseFingerprint(s string) (Fingerprint, error) {
	name, digits, ok := strings.Cut(s, ":")
	kind, err := indexOf("fingerprint kind", fingerprintNames[:], name)
	if !ok || err != nil {
		return Fingerprint{}, fmt.Errorf("%q is not a fingerprint such as program:9f2c41d07b3ea865", s)
	}
	hash, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || len(digits) != 16 || hash == 0 {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: want 16 hexadecimal digits after the colon, not all 0", s)
	}
	return Fingerprint{FingerprintKind(kind), hash}, nil
}

// Fingerprints returns the request's fingerprints by kind; all hashes are 0 when the header shape was
// not observed (an access log shows none), since the agent alone says too little. It does not allocate.
func Fingerprints(agent string, shape uint64, ja4, path, query string) [FingerprintKinds]Fingerprint {
	f := [FingerprintKinds]Fingerprint{{Kind: FingerprintPattern}, {Kind: FingerprintShape}, {Kind: FingerprintProgram}}
	if shape == 0 {
		return f
	}
	headers := hashString(hashUint(fnvOffset, shape), ja4)
	program := hashString(headers, agent)
	pattern := hashPattern(fnvOffset, path, query)
	f[FingerprintPattern].Hash = nonZero(hashUint(program, pattern))
	f[FingerprintShape].Hash = nonZero(hashUint(headers, pattern))
	f[FingerprintProgram].Hash = nonZero(program)
	return f
}

// Fingerprints returns the fingerprints of the event's request; see the function of that name.
func (e *Event) Fingerprints() [FingerprintKinds]Fingerprint {
	r := &e.Request
	shape, err := strconv.ParseUint(r.Headers.Shape, 16, 64)
	if err != nil { // none was observed
		shape = 0
	}
	ja4 := ""
	if r.TLS != nil {
		ja4 = r.TLS.JA4
	}
	return Fingerprints(r.Agent, shape, ja4, r.Path, r.Query)
}

func nonZero(h uint64) uint64 {
	if h == 0 {
		return 1
	}
	return h
}

// FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * fnvPrime }

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return hashByte(h, 0xff) // not in UTF-8: "a"+"bc" is not "ab"+"c"
}

func hashUint(h, n uint64) uint64 {
	for range 8 {
		h = hashByte(h, byte(n))
		n >>= 8
	}
	return h
}

// maxPatternSegments is how many segments of a path count for its pattern.
const maxPatternSegments = 8

// hashPattern hashes the path pattern: see PathPattern for what it is.
func hashPattern(h uint64, path, query string) uint64 {
	for i, rest := 0, strings.TrimPrefix(path, "/"); i < maxPatternSegments; i++ {
		segment, after, more := strings.Cut(rest, "/")
		h = hashString(h, segmentPattern(segment))
		if rest = after; !more {
			break
		}
	}
	var names uint64 // a sum, so that the order does not count
	for rest := query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if name, _, _ := strings.Cut(pair, "="); name != "" {
			names += hashString(fnvOffset, name)
		}
	}
	return hashUint(h, names)
}

// PathPattern returns the pattern of a path and query for people: words that name a kind of page stay, numbers
// become "#", hashes "%", names "*", and of the query only the names of its parameters count. So /w/index.php?title=Hedge&oldid=7
// and /w/index.php?title=Thorn&oldid=9 have one pattern.
func PathPattern(path, query string) string {
	var b strings.Builder
	for i, rest := 0, strings.TrimPrefix(path, "/"); i < maxPatternSegments; i++ {
		segment, after, more := strings.Cut(rest, "/")
		b.WriteByte('/')
		b.WriteString(segmentPattern(segment))
		if rest = after; !more {
			break
		}
	}
	sep := byte('?')
	for rest := query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if name, _, _ := strings.Cut(pair, "="); name != "" && b.Len()+len(name) < 256 {
			b.WriteByte(sep)
			b.WriteString(name)
			sep = '&'
		}
	}
	return b.String()
}

// segmentPattern returns what stands for a path segment: itself where it names a kind of page.
func segmentPattern(s string) string {
	if structural(s) {
		return s
	}
	if name, ext, ok := strings.Cut(s, "."); ok && name != "" {
		switch ext {
		case "php", "asp", "aspx", "jsp", "cgi", "pl", "do":
			return s // a script is a kind of page
		case "html", "htm":
			s = name
		}
	}
	digits, hex := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			hex++
		}
	}
	switch {
	case s == "":
		return ""
	case digits == len(s):
		return "#"
	case hex == len(s) && len(s) >= 7 && digits > 0:
		return "%"
	}
	return "*"
}

// structural reports whether a path segment names a kind of page in the usual forges, wikis, shops, forums and catalogues.
func structural(s string) bool {
	switch s {
	case "commit", "commits", "blame", "raw", "tree", "blob", "src", "log", "history", "diff", "compare", "archive", "branch", "branches",
		"tags", "releases", "issues", "pulls", "merge_requests", "wiki", "activity", "graph", "stars", "watchers", "forks", "plain", "refs",
		"w", "edit", "revision", "revisions", "talk", "search", "tag", "category", "categories", "page", "pages", "user", "users", "author",
		"articles", "article", "posts", "post", "blog", "news", "docs", "doc", "topic", "topics", "thread", "threads", "forum", "board",
		"product", "products", "shop", "catalog", "collections", "browse", "record", "records", "item", "items", "bitstream", "handle",
		"discover", "api", "feed", "year", "month", "date", "calendar", "events", "login", "register", "-":
		return true
	}
	return false
}
