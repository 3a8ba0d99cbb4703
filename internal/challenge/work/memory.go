package work

import "encoding/binary"

// The parameters of Equihash here: 2^(n/(k+1)+1) values of n=60 bits, of which 2^k=8 with exclusive-or zero are sought. Two megabytes
// of working memory are what a phone gives a worker without noticing, and are more than a core of a graphics card has to itself.
const (
	leaves     = 8       // 2^k
	digit      = 15      // n/(k+1) bits: what each round makes collide
	values     = 1 << 16 // per salt
	perHash    = 4       // 64-bit words of a hash, each a value's top 60 bits
	hashes     = values / perHash
	unusedBits = 4 // of each word
)

// value returns the value of an index as a word whose last unusedBits bits mean nothing.
func value(s *seed, puzzle uint32, salt, index uint16) uint64 {
	h := s.hash(puzzle, uint32(salt)*hashes+uint32(index)/perHash)
	return binary.BigEndian.Uint64(h[8*(index%perHash):])
}

// solvesMemory reports whether the payload, a salt and eight indices, solves the puzzle. Everything that can be
// seen without hashing is looked at first.
func solvesMemory(s *seed, puzzle uint32, payload []byte) bool {
	salt := binary.BigEndian.Uint16(payload)
	var x [leaves]uint16
	for i := range x {
		x[i] = binary.BigEndian.Uint16(payload[2+2*i:])
	}
	if !ordered(&x) || !distinct(&x) {
		return false
	}
	var quad [2]uint64
	for i := 0; i < leaves; i += 2 {
		pair := value(s, puzzle, salt, x[i]) ^ value(s, puzzle, salt, x[i+1])
		if pair>>(64-digit) != 0 {
			return false
		}
		quad[i/4] ^= pair
		if i%4 == 2 && quad[i/4]>>(64-2*digit) != 0 {
			return false
		}
	}
	return (quad[0]^quad[1])>>unusedBits == 0
}

// ordered reports whether, at each node of the tree, the left subtree's first index is below the right's. Without this rule,
// a solution could be written in 2^7 ways.
func ordered(x *[leaves]uint16) bool {
	for width := 1; width < leaves; width *= 2 {
		for i := 0; i < leaves; i += 2 * width {
			if x[i] >= x[i+width] {
				return false
			}
		}
	}
	return true
}

// distinct reports whether no index occurs twice: a value cancels itself out, so that repeating any four would be a solution.
func distinct(x *[leaves]uint16) bool {
	for i := range x {
		for _, other := range x[:i] {
			if x[i] == other {
				return false
			}
		}
	}
	return true
}
