package maze

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// role is what a page is about. Skins show the same role as different things: a list is a category of a shop or a forum's board.
type role uint8

const (
	rolePage    role = iota // an article, a product, a topic, a repository
	roleTerm                // a page that a phrase within a sentence leads to; its title is in its address
	roleList                // pages of one category, in endless numbered pages
	roleTag                 // the same for a tag
	rolePerson              // an author, with what he or she wrote
	roleHistory             // changes to a page, in endless numbered pages; its title is in its address
	roleChange              // one change: a revision or commit
	roleTalk                // what people say of a page: comments, or a list of reports
	roleIssue               // a report with comments
	roleImage
	roleStream
	roleArchive
	roles // their number, at most 16
)

// ref is a place in the maze; a token is a ref in an address.
type ref struct {
	role  role
	depth uint16
	day   uint16 // age of the page: days before the newest, less than days
	nonce uint16
}

// named reports whether the place's title is read from its address.
func (f ref) named() bool {
	return f.role == roleTerm || f.role == roleHistory || f.role == roleTalk
}

// pack puts the ref into 48 bits.
func (f ref) pack() uint64 {
	return uint64(f.role)<<44 | uint64(f.depth)<<28 | uint64(f.day)<<16 | uint64(f.nonce)
}

func unpack(p uint64) ref {
	return ref{role: role(p >> 44 & 15), depth: uint16(p >> 28), day: uint16(p >> 16 & (days - 1)), nonce: uint16(p)}
}

// cipher is a Feistel network over 64 bits with a key for each round. It hides what a token says from those who look at a few
// thousand of them; a forged one would not gain anything but a page like all others.
type cipher [6]uint64

func (c *cipher) encipher(x uint64) uint64 {
	l, r := uint32(x>>32), uint32(x)
	for _, k := range c {
		l, r = r, l^uint32(mix(uint64(r)^k)>>32)
	}
	return uint64(l)<<32 | uint64(r)
}

func (c *cipher) decipher(x uint64) uint64 {
	l, r := uint32(x>>32), uint32(x)
	for i := len(c) - 1; i >= 0; i-- {
		l, r = r^uint32(mix(uint64(l)^c[i])>>32), l
	}
	return uint64(l)<<32 | uint64(r)
}

// mix spreads every bit of x over all of the result: the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// seal makes a token of the ref: 48 bits and 16 by which it is recognised.
func (m *Maze) seal(f ref) uint64 {
	p := f.pack()
	return m.cipher.encipher(p | mix(p^m.mixKey)<<48)
}

func (m *Maze) unseal(token uint64) (ref, bool) {
	x := m.cipher.decipher(token)
	p := x & (1<<48 - 1)
	f := unpack(p)
	return f, x>>48 == mix(p^m.mixKey)&0xffff && f.role < roles
}

// A token is written as 13 letters and digits, or as the beginning of a hash of 40 hexadecimal digits.
const (
	tokenLen  = 13
	tokenABC  = "abcdefghijklmnopqrstuvwxyz234567"
	hashLen   = 40
	hashToken = 16 // digits that are the token
)

func (m *Maze) appendToken(dst []byte, f ref) []byte {
	t := m.seal(f)
	for i := tokenLen - 1; i >= 0; i-- {
		dst = append(dst, tokenABC[t>>(5*i)&31])
	}
	return dst
}

// appendHash appends the token in the form of a commit's hash.
func (m *Maze) appendHash(dst []byte, f ref) []byte {
	t := m.seal(f)
	h := m.hashOf(t)
	return hex.AppendEncode(dst, h[:])
}

func (m *Maze) hashOf(token uint64) (h [hashLen / 2]byte) {
	binary.BigEndian.PutUint64(h[0:], token)
	rest := mix(token ^ m.mixKey)
	binary.BigEndian.PutUint64(h[8:], rest)
	binary.BigEndian.PutUint32(h[16:], uint32(mix(rest)))
	return h
}

// find returns the place that the path names: that of the last token in it.
func (m *Maze) find(path string) (ref, bool) {
	rest, ok := strings.CutPrefix(path, m.o.Prefix)
	if !ok {
		return ref{}, false
	}
	rest = rest[max(0, len(rest)-tail):]
	for end := len(rest); end > 0; {
		if !isAlnum(rest[end-1]) {
			end--
			continue
		}
		begin := end
		for begin > 0 && isAlnum(rest[begin-1]) {
			begin--
		}
		if f, ok := m.read(rest[begin:end]); ok {
			return f, true
		}
		end = begin
	}
	return ref{}, false
}

// read returns the place that a run of letters and digits stands for.
func (m *Maze) read(run string) (ref, bool) {
	switch len(run) {
	case tokenLen:
		var t uint64
		for i := range len(run) {
			d := strings.IndexByte(tokenABC, run[i])
			if d < 0 || i == 0 && d > 15 { // the first has four bits
				return ref{}, false
			}
			t = t<<5 | uint64(d)
		}
		return m.unseal(t)
	case hashLen:
		var got [hashLen / 2]byte
		for i := range got {
			hi, lo := strings.IndexByte("0123456789abcdef", run[2*i]), strings.IndexByte("0123456789abcdef", run[2*i+1])
			if hi < 0 || lo < 0 {
				return ref{}, false
			}
			got[i] = byte(hi<<4 | lo)
		}
		t := binary.BigEndian.Uint64(got[:])
		if got != m.hashOf(t) {
			return ref{}, false
		}
		return m.unseal(t)
	}
	return ref{}, false
}
