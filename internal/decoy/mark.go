package decoy

import (
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"
)

// Client is to whom a copy is given, and when. Time is kept to the minute.
type Client struct {
	Address netip.Addr
	Time    time.Time
}

// markLen is the length of a mark: 8 bytes of the client, 4 of the time, 4 of a check, enciphered as one block. Whoever has many
// marks learns nothing from them, and none can be forged or changed into another without the key.
const markLen = aes.BlockSize

// markEpoch is what the minutes of marks are counted from: 2025-01-01.
const markEpoch = 1735689600

// An IPv6 client is the first 64 bits of its address. The block ::/8 is reserved, so that others can be told apart by a beginning in it.
const (
	inIPv4     = 0x0000ffff // the other 32 bits are the address
	noAddress  = 0x0000fffe
	prefixBits = 64
)

// room is where a mark is worked on: what a cipher is given would be allocated each time.
type room struct{ mark, check [markLen]byte }

// mark returns the client's mark.
func (d *Decoy) mark(c Client) [markLen]byte {
	var r room
	m := &r.mark
	switch a := c.Address.Unmap(); {
	case a.Is4():
		b := a.As4()
		binary.BigEndian.PutUint32(m[0:], inIPv4)
		copy(m[4:], b[:])
	case a.Is6():
		b := a.As16()
		copy(m[:8], b[:])
	default:
		binary.BigEndian.PutUint32(m[0:], noAddress)
	}
	minutes := (c.Time.Unix() - markEpoch) / 60
	binary.BigEndian.PutUint32(m[8:], uint32(min(max(minutes, 0), 1<<32-1)))
	binary.BigEndian.PutUint32(m[12:], d.checkOf(&r))
	d.seal.Encrypt(m[:], m[:])
	return *m
}

// checkOf is the check of the plain mark in r.
func (d *Decoy) checkOf(r *room) uint32 {
	r.check = r.mark
	clear(r.check[12:])
	d.check.Encrypt(r.check[:], r.check[:])
	return binary.BigEndian.Uint32(r.check[:])
}

// open returns what the mark in r says; ok is false if it is none of ours. It does not allocate.
func (d *Decoy) open(r *room) (client netip.Prefix, at time.Time, ok bool) {
	m := &r.mark
	d.seal.Decrypt(m[:], m[:])
	if binary.BigEndian.Uint32(m[12:]) != d.checkOf(r) {
		return netip.Prefix{}, time.Time{}, false
	}
	switch binary.BigEndian.Uint32(m[:]) {
	case inIPv4:
		client = netip.PrefixFrom(netip.AddrFrom4([4]byte(m[4:8])), 32)
	case noAddress:
	default:
		var a [16]byte
		copy(a[:], m[:8])
		client = netip.PrefixFrom(netip.AddrFrom16(a), prefixBits)
	}
	return client, time.Unix(markEpoch+60*int64(binary.BigEndian.Uint32(m[8:])), 0).UTC(), true
}

// appendHex appends the mark as 32 hexadecimal digits.
func appendHex(dst []byte, m [markLen]byte) []byte { return hex.AppendEncode(dst, m[:]) }

// A syllable stands for a byte: one of 16 beginnings, 4 vowels and 4 ends. All have three letters, so that they can be read again where
// spaces, punctuation and capitals have been lost.
const (
	beginnings  = "bdfghjklmnprstvz"
	vowels      = "aeio"
	ends        = "lnrs"
	syllableLen = 3
)

func syllable(b byte) [syllableLen]byte {
	return [syllableLen]byte{beginnings[b>>4], vowels[b>>2&3], ends[b&3]}
}

// byteOf is the byte that a syllable of lower-case letters stands for.
func byteOf(s [syllableLen]byte) (b byte, ok bool) {
	i, j, k := index(beginnings, s[0]), index(vowels, s[1]), index(ends, s[2])
	return byte(i<<4 | j<<2 | k), i|j|k >= 0
}

func index(letters string, c byte) int { return strings.IndexByte(letters, c) }

// appendNames appends the mark as the names of three people, with commas between.
func appendNames(dst []byte, m [markLen]byte) []byte {
	at := 0
	for _, name := range [...]struct {
		syllables int
		before    string
	}{{2, ""}, {3, " "}, {2, ", "}, {3, " "}, {3, ", "}, {3, " "}} {
		dst = append(dst, name.before...)
		begin := len(dst)
		for _, b := range m[at : at+name.syllables] {
			s := syllable(b)
			dst = append(dst, s[:]...)
		}
		dst[begin] -= 'a' - 'A'
		at += name.syllables
	}
	return dst
}
