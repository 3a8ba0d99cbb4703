package trap

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	minSeed   = 16
	maxPrefix = 64
	// format changes when pages with the same links come out otherwise than before, so that clients fetch them anew.
	format = "1"

	defaultCompressed = 128
)

// Options say what links are made of.
type Options struct {
	Seed   []byte // secret, at least 16 bytes; the same on all replicas
	Prefix string // of the links' paths, as of Prefix; "": Prefix(Seed)

	// Compressed is how many compressed pages are changed at once, with half a megabyte of memory each; others pass without links. 0: 128.
	Compressed int
}

// Traps adds links to pages and knows them again. It may be used by many goroutines at once.
type Traps struct {
	prefix  string
	suffix  string // of our entity tags
	writers sync.Pool
	zips    sync.Pool
	zipping atomic.Int64 // compressed pages under way
	maxZips int64
}

// New returns traps. The error says which option is wrong and what would be right.
func New(o Options) (*Traps, error) {
	if len(o.Seed) < minSeed {
		return nil, fmt.Errorf("trap: the seed has %d bytes; it needs at least %d", len(o.Seed), minSeed)
	}
	if o.Prefix == "" {
		o.Prefix = Prefix(o.Seed)
	}
	if !validPrefix(o.Prefix) {
		return nil, fmt.Errorf("trap: prefix %q: want letters, digits and hyphens between slashes, such as \"/archive-k3p7/\", at most %d bytes", o.Prefix, maxPrefix)
	}
	if o.Compressed < 0 {
		return nil, fmt.Errorf("trap: %d compressed pages at once: want at least 1, or 0 for %d", o.Compressed, defaultCompressed)
	}
	if o.Compressed == 0 {
		o.Compressed = defaultCompressed
	}
	version := derive(o.Seed, "etag "+format+" "+o.Prefix)
	t := &Traps{prefix: o.Prefix, suffix: "-qt" + hex.EncodeToString(version[:2]), maxZips: int64(o.Compressed)}
	key := derive(o.Seed, "links")
	t.writers.New = func() any {
		w := &Writer{traps: t, mac: hmac.New(sha256.New, key)}
		w.links = w.makeLinks
		return w
	}
	t.zips.New = func() any { return newZipped() }
	return t, nil
}

// Prefix returns the path below which the traps of an install lie: such as "/archive-k3p7/", always the same for a seed. It begins and
// ends with "/".
func Prefix(seed []byte) string {
	const letters, digits = "bcdfghjkmnpqrstvwxz", "23456789" // in turn, so that they never make a word
	sum := derive(seed, "prefix")
	var r rand.PCG
	r.Seed(binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:]))
	b := append([]byte{'/'}, pick(&r, prefixWords)...)
	b = append(b, '-')
	for range 2 {
		b = append(b, letters[below(&r, len(letters))], digits[below(&r, len(digits))])
	}
	return string(append(b, '/'))
}

// Prefix returns the path below which these traps lie.
func (t *Traps) Prefix() string { return t.prefix }

// Hit reports whether a path, percent-decoded and without a query, is that of a trap: whether it lies below the prefix. No client is told of
// such a path but by a link that it must not follow.
func (t *Traps) Hit(path string) bool { return strings.HasPrefix(path, t.prefix) }

// derive returns 32 bytes that depend on the seed and the purpose and tell nothing of either.
func derive(seed []byte, purpose string) []byte {
	m := hmac.New(sha256.New, seed)
	m.Write([]byte("quickthorn trap " + purpose))
	return m.Sum(nil)
}

func validPrefix(p string) bool {
	if len(p) < 3 || len(p) > maxPrefix || p[0] != '/' || p[len(p)-1] != '/' || strings.Contains(p, "//") {
		return false
	}
	for i := range len(p) {
		if c := p[i]; c != '/' && c != '-' && !letter(c) && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
