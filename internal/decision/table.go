package decision

import (
	"math/bits"
	"net/netip"
	"sync/atomic"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// key is an address or prefix in comparable form: IPv4 stands at ::ffff:0:0/96,
// where no IPv6 value can (see defense.ParseAddressOrPrefix). Fingerprints stand
// where no prefix can: beyond 128 bits.
type key struct {
	hi, lo uint64
	bits   uint8 // 0..128, or fingerprintBits and the kind, or tokenBits
}

const (
	fingerprintBits = 200
	tokenBits       = 255
)

// tokenKey returns the key of a clearance or an issued token.
func tokenKey(t defense.TokenID) key { return key{hi: uint64(t), bits: tokenBits} }

// fingerprintKey returns the key of a fingerprint.
func fingerprintKey(f defense.Fingerprint) key {
	return key{hi: f.Hash, bits: fingerprintBits + uint8(f.Kind)}
}

// fingerprint is the inverse of fingerprintKey.
func (k key) fingerprint() defense.Fingerprint {
	return defense.Fingerprint{Kind: defense.FingerprintKind(k.bits - fingerprintBits), Hash: k.hi}
}

// keyOf returns the key of the prefix of that many bits that holds a. The
// address must be valid and the prefix masked.
func keyOf(a netip.Addr, ones int) key {
	if a.Is4() {
		ones += 96
	}
	b := a.As16()
	return key{
		hi:   uint64(b[0])<<56 | uint64(b[1])<<48 | uint64(b[2])<<40 | uint64(b[3])<<32 | uint64(b[4])<<24 | uint64(b[5])<<16 | uint64(b[6])<<8 | uint64(b[7]),
		lo:   uint64(b[8])<<56 | uint64(b[9])<<48 | uint64(b[10])<<40 | uint64(b[11])<<32 | uint64(b[12])<<24 | uint64(b[13])<<16 | uint64(b[14])<<8 | uint64(b[15]),
		bits: uint8(ones),
	}
}

// prefix is the inverse of keyOf.
func (k key) prefix() netip.Prefix {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(k.hi>>(56-8*i)), byte(k.lo>>(56-8*i))
	}
	a := netip.AddrFrom16(b)
	if a.Is4In6() && k.bits >= 96 {
		return netip.PrefixFrom(a.Unmap(), int(k.bits)-96)
	}
	return netip.PrefixFrom(a, int(k.bits))
}

const shardCount = 256

// table is a hash table of entries by key that is read without locks while one
// writer changes it. Entries never move within a shard's slots; growing builds new slots and
// swaps them in. Several entries may have the same key.
//
// It is written for this package because a million entries in Go maps behind
// locks cost twice the memory and make readers on many cores wait for each other.
type table struct {
	seed   [2]uint64 // an attacker chooses addresses: the hash must not be predictable
	shards [shardCount]shard
}

type shard struct {
	slots atomic.Pointer[slots] // nil until something is put
	used  int                   // slots taken, those of removed entries included; writer only
	live  int                   // entries; writer only
}

// slots is open addressing with linear probing. An entry is touched only when 30
// bits of its hash agree, so that a look-up costs one cache miss, and another when it finds something.
type slots []slot

type slot struct {
	tag   atomic.Uint32
	entry atomic.Pointer[entry]
}

const (
	tagEmpty   = 0 // ends a probe
	tagRemoved = 1
	tagTaken   = 2 // or-ed with the hash
)

func (sh *shard) load() slots {
	if s := sh.slots.Load(); s != nil {
		return *s
	}
	return nil
}

func (t *table) hash(k key) uint64 {
	h1, l1 := bits.Mul64(k.hi^t.seed[0]^uint64(k.bits), k.lo^t.seed[1])
	h2, l2 := bits.Mul64(h1^l1^t.seed[1], 0x9E3779B97F4A7C15^t.seed[0])
	return h2 ^ l2
}

func tagOf(h uint64) uint32 { return uint32(h>>32)<<2 | tagTaken }

func (t *table) shard(h uint64) *shard { return &t.shards[h>>56] }

// probe is an iteration over the entries of one key. Use: for p := t.find(k); p.next(); { p.e }.
type probe struct {
	s   slots
	k   key
	tag uint32
	i   uint64 // of the next slot
	e   *entry // found by next
	at  uint64 // e's slot
}

func (t *table) find(k key) probe {
	h := t.hash(k)
	return probe{s: t.shard(h).load(), k: k, tag: tagOf(h), i: h}
}

func (p *probe) next() bool {
	if len(p.s) == 0 {
		return false
	}
	mask := uint64(len(p.s) - 1)
	for {
		at := p.i & mask
		tag := p.s[at].tag.Load()
		if tag == tagEmpty {
			return false
		}
		p.i++
		if tag != p.tag {
			continue
		}
		// Between tag and entry the writer may have removed it or put another one here.
		if e := p.s[at].entry.Load(); e != nil && e.hi == p.k.hi && e.lo == p.k.lo && e.bits == p.k.bits {
			p.e, p.at = e, at
			return true
		}
	}
}

// put adds e, or replaces the entry of the same key and id. Writer only.
func (t *table) put(e *entry) {
	for p := t.find(e.key()); p.next(); {
		if p.e.id == e.id {
			p.s[p.at].entry.Store(e)
			return
		}
	}
	h := t.hash(e.key())
	sh := t.shard(h)
	s := sh.load()
	if (sh.used+1)*4 > len(s)*3 {
		s = t.grow(sh)
	}
	if s.insert(h, e) {
		sh.used++
	}
	sh.live++
}

// insert puts e into a free slot and reports whether that slot was never used before.
func (s slots) insert(h uint64, e *entry) (fresh bool) {
	mask := uint64(len(s) - 1)
	for i := h; ; i++ {
		at := i & mask
		tag := s[at].tag.Load()
		if tag > tagRemoved {
			continue
		}
		s[at].entry.Store(e) // before the tag, so that a reader who sees the tag sees the entry
		s[at].tag.Store(tagOf(h))
		return tag == tagEmpty
	}
}

// grow gives the shard new slots with room for twice its entries.
func (t *table) grow(sh *shard) slots {
	n := 4
	for n*3 < (sh.live+1)*4+sh.live {
		n *= 2
	}
	next := make(slots, n)
	old := sh.load()
	for i := range old {
		if e := old[i].entry.Load(); e != nil {
			next.insert(t.hash(e.key()), e)
		}
	}
	sh.used = sh.live
	sh.slots.Store(&next)
	return next
}

// remove takes out the entry of this key and id, and reports whether others of
// the same key remain. Writer only.
func (t *table) remove(k key, id string) (others bool) {
	sh := t.shard(t.hash(k))
	for p := t.find(k); p.next(); {
		if p.e.id != id {
			others = true
			continue
		}
		p.s[p.at].entry.Store(nil)
		p.s[p.at].tag.Store(tagRemoved)
		sh.live--
	}
	return others
}

// each calls fn for every entry until it returns false. An entry that changes
// meanwhile may be seen in its old or its new form.
func (t *table) each(fn func(*entry) bool) {
	for i := range t.shards {
		s := t.shards[i].load()
		for j := range s {
			if e := s[j].entry.Load(); e != nil && !fn(e) {
				return
			}
		}
	}
}

// sweepPoint is where an incremental walk over a table stands.
type sweepPoint struct{ shard, slot int }

// walk goes on from at over at most n slots, round and round.
func (t *table) walk(at sweepPoint, n int, fn func(*entry)) sweepPoint {
	for shards := 0; n > 0 && shards <= shardCount; shards++ {
		s := t.shards[at.shard].load()
		for ; at.slot < len(s) && n > 0; at.slot++ {
			if e := s[at.slot].entry.Load(); e != nil {
				fn(e)
			}
			n--
		}
		if at.slot < len(s) {
			return at
		}
		at = sweepPoint{shard: (at.shard + 1) % shardCount}
	}
	return at
}
