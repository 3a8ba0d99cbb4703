// Package work is the server's side of the proof of work: a browser computes for
// about a second, and checking what it found takes microseconds.
//
// A challenge is made of several small puzzles rather than one large one: the time that
// many small ones take varies little, a slow phone may hand in a share of them when its time is up, and
// progress can be shown. There are two algorithms. SHA256 asks for hashes that begin with zero bits: every
// browser can do it, and a graphics card does it a thousand times faster. Memory asks for solutions of
// Equihash, whose cost is the sorting of two megabytes: it narrows the distance to a graphics card.
//
// Nothing in here remembers anything. Whether a ticket is genuine, fresh and not used before is for the caller to know; a ticket that
// cannot be guessed is what keeps answers from being computed beforehand.
//
// The one rule that must never break: Verify spends nothing on an answer before its length and form are right, and stops at the
// first entry that is wrong, so that junk costs its sender more than it costs us.
package work

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Bounds of a puzzle and of what is sent for it.
const (
	MaxPuzzles = 64
	MinBits    = 8
	MaxBits    = 24
	// MaxTicket is the longest ticket, in bytes.
	MaxTicket = 200
	// MaxAnswer is the longest answer that can be right, in bytes: what is longer need not even be read.
	MaxAnswer = (MaxPuzzles*memoryEntry*8 + 5) / 6
)

// An entry of an answer is the puzzle's number and what solves it.
const (
	sha256Entry = 1 + 4
	memoryEntry = 1 + 2 + 2*leaves
)

// Algorithm is the kind of computation that is asked for.
type Algorithm uint8

// The algorithms.
const (
	SHA256 Algorithm = iota // nonces whose SHA-256 begins with zero bits (as in Hashcash, Back 2002)
	Memory                  // Equihash (Biryukov and Khovratovich, NDSS 2016) with n=60, k=3
)

// String returns the name that ParseAlgorithm reads.
func (a Algorithm) String() string {
	switch a {
	case SHA256:
		return "sha256"
	case Memory:
		return "memory"
	}
	return fmt.Sprintf("Algorithm(%d)", uint8(a))
}

// ParseAlgorithm returns the algorithm of that name; the error lists the names that there are.
func ParseAlgorithm(name string) (Algorithm, error) {
	switch name {
	case "sha256":
		return SHA256, nil
	case "memory":
		return Memory, nil
	}
	return 0, fmt.Errorf("unknown algorithm %q, want sha256 or memory", name)
}

// The classes of answers that are refused. Verify returns them as they are, without a word about the sender's input.
var (
	// ErrMalformed says that it is no answer to this kind of puzzle at all: a program that guesses, or an address cut short.
	ErrMalformed = errors.New("malformed answer")
	// ErrWrong says that the form is right and an entry solves nothing.
	ErrWrong = errors.New("wrong answer")
	// ErrTooFew says that less was solved than the challenge asks for: a slow device, which deserves another kind of challenge.
	ErrTooFew = errors.New("too few puzzles solved")
)

// Puzzle says what a challenge asks for.
type Puzzle struct {
	Algorithm Algorithm
	Puzzles   int // how many, 1..MaxPuzzles
	Bits      int // SHA256: zero bits asked for, MinBits..MaxBits, each doubles the work; Memory: 0
	Least     int // how many must be solved for the answer to count, 1..Puzzles
}

// Validate returns nil for a puzzle within the bounds; the error names the field and what is right.
func (p Puzzle) Validate() error {
	switch {
	case p.Algorithm > Memory:
		return fmt.Errorf("algorithm: %d is unknown, want sha256 or memory", uint8(p.Algorithm))
	case p.Puzzles < 1 || p.Puzzles > MaxPuzzles:
		return fmt.Errorf("puzzles: %d is not between 1 and %d", p.Puzzles, MaxPuzzles)
	case p.Algorithm == SHA256 && (p.Bits < MinBits || p.Bits > MaxBits):
		return fmt.Errorf("bits: %d is not between %d and %d", p.Bits, MinBits, MaxBits)
	case p.Algorithm == Memory && p.Bits != 0:
		return fmt.Errorf("bits: %d, but the memory algorithm has no bits to choose: leave it out, and choose the number of puzzles", p.Bits)
	case p.Least < 1 || p.Least > p.Puzzles:
		return fmt.Errorf("least: %d is not between 1 and the number of puzzles, %d", p.Least, p.Puzzles)
	}
	return nil
}

func (p Puzzle) entry() int {
	if p.Algorithm == Memory {
		return memoryEntry
	}
	return sha256Entry
}

// encoding is strict: an answer has one spelling only.
var encoding = base64.RawURLEncoding.Strict()

// Verify returns how many puzzles the answer solves, p.Least..p.Puzzles, or ErrMalformed, ErrWrong or ErrTooFew, all of them without
// allocating. An answer with a wrong entry counts for nothing, however many others are right. Any other error
// says that the puzzle itself is not valid.
func (p Puzzle) Verify(ticket, answer string) (solved int, err error) {
	if err := p.Validate(); err != nil {
		return 0, fmt.Errorf("puzzle: %w", err)
	}
	size := p.entry()
	if len(ticket) == 0 || len(ticket) > MaxTicket || len(answer) > encoding.EncodedLen(p.Puzzles*size) {
		return 0, ErrMalformed
	}
	n := encoding.DecodedLen(len(answer))
	if n%size != 0 {
		return 0, ErrMalformed
	}
	if n/size < p.Least {
		return 0, ErrTooFew
	}
	var text [MaxAnswer]byte
	var raw [MaxPuzzles * memoryEntry]byte
	copy(text[:], answer)
	// The decoder skips line breaks, so the length it reports matters too.
	if m, err := encoding.Decode(raw[:], text[:len(answer)]); err != nil || m != n {
		return 0, ErrMalformed
	}
	entries := raw[:n]
	for i, last := 0, -1; i < n; i += size {
		number := int(entries[i])
		if number <= last || number >= p.Puzzles {
			return 0, ErrMalformed
		}
		last = number
	}
	seed := newSeed(ticket)
	for i := 0; i < n; i += size {
		payload := entries[i+1 : i+size]
		switch p.Algorithm {
		case SHA256:
			if !zeroBits(seed.hash(uint32(entries[i]), binary.BigEndian.Uint32(payload)), p.Bits) {
				return 0, ErrWrong
			}
		case Memory:
			if !solvesMemory(&seed, uint32(entries[i]), payload) {
				return 0, ErrWrong
			}
		}
	}
	return n / size, nil
}

// seed is the input of every hash of a challenge: SHA-256(ticket), puzzle, counter. Forty bytes are one block of SHA-256.
type seed [sha256.Size + 8]byte

func newSeed(ticket string) (s seed) {
	var text [MaxTicket]byte
	n := copy(text[:], ticket)
	sum := sha256.Sum256(text[:n])
	copy(s[:], sum[:])
	return s
}

func (s *seed) hash(puzzle, counter uint32) [sha256.Size]byte {
	binary.BigEndian.PutUint32(s[sha256.Size:], puzzle)
	binary.BigEndian.PutUint32(s[sha256.Size+4:], counter)
	return sha256.Sum256(s[:])
}

// zeroBits reports whether sum begins with that many zero bits, at most 64.
func zeroBits(sum [sha256.Size]byte, n int) bool {
	return bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:])) >= n
}
