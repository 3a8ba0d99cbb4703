package work

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// checkEvery is after how many hashes a solver looks whether it is still wanted.
const checkEvery = 4096

// Solve solves all puzzles on one core, always with the same result for the same ticket. It is what a scraper with a native program
// would run: tests, benchmarks and the figures in the documentation come from it, the edge never calls it. The error
// wraps the context's when that ended first.
func (p Puzzle) Solve(ctx context.Context, ticket string) (string, error) {
	if err := p.Validate(); err != nil {
		return "", fmt.Errorf("puzzle: %w", err)
	}
	if len(ticket) == 0 || len(ticket) > MaxTicket {
		return "", fmt.Errorf("ticket has %d bytes, want 1 to %d", len(ticket), MaxTicket)
	}
	s := newSeed(ticket)
	var m *memorySolver
	if p.Algorithm == Memory {
		m = newMemorySolver()
	}
	raw := make([]byte, 0, p.Puzzles*p.entry())
	for i := range p.Puzzles {
		raw = append(raw, byte(i))
		var err error
		if m != nil {
			raw, err = m.solve(ctx, raw, &s, uint32(i))
		} else {
			raw, err = solveSHA256(ctx, raw, &s, uint32(i), p.Bits)
		}
		if err != nil {
			return "", fmt.Errorf("solve puzzle %d of %d: %w", i+1, p.Puzzles, err)
		}
	}
	return encoding.EncodeToString(raw), nil
}

// errNone is what is left when all nonces or salts were tried. With at most MaxBits bits that happens to one ticket in e^256.
var errNone = errors.New("there is no solution")

// solveSHA256 appends the first nonce that solves the puzzle.
func solveSHA256(ctx context.Context, b []byte, s *seed, puzzle uint32, bits int) ([]byte, error) {
	for nonce := uint32(0); ; nonce++ {
		if nonce%checkEvery == 0 && ctx.Err() != nil {
			return b, ctx.Err()
		}
		if zeroBits(s.hash(puzzle, nonce), bits) {
			return binary.BigEndian.AppendUint32(b, nonce), nil
		}
		if nonce == 1<<32-1 {
			return b, errNone
		}
	}
}

// memorySolver finds solutions by Wagner's algorithm (A Generalized Birthday Problem, CRYPTO 2002): sort by the first digit,
// combine what collides, and again with what is left.
type memorySolver struct {
	values []uint64 // of each index
	keys   []uint16 // the digit by which to sort, of each node
	heads  []uint32 // heads[d] is where those with digit d begin in sorted
	sorted []uint32 // nodes by digit
	pairs  []pair   // of values that collide in the first digit
	quads  []pair   // of pairs that collide in the second
}

// pair is two nodes of the level below and what their values have left, as a word with zeros where they collide.
type pair struct {
	left, right uint32
	rest        uint64
}

const digits = 1 << digit

func newMemorySolver() *memorySolver {
	const expected = values + values/8 // each round leaves about as many nodes as it is given
	return &memorySolver{
		values: make([]uint64, values),
		keys:   make([]uint16, 0, expected),
		heads:  make([]uint32, digits+1),
		sorted: make([]uint32, 0, expected),
		pairs:  make([]pair, 0, expected),
		quads:  make([]pair, 0, expected),
	}
}

// solve appends the salt and indices of the first solution.
func (m *memorySolver) solve(ctx context.Context, b []byte, s *seed, puzzle uint32) ([]byte, error) {
	for salt := range 1 << 16 {
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if x, ok := m.solveSalt(s, puzzle, uint16(salt)); ok {
			b = binary.BigEndian.AppendUint16(b, uint16(salt))
			for _, index := range x {
				b = binary.BigEndian.AppendUint16(b, index)
			}
			return b, nil
		}
	}
	return b, errNone
}

func (m *memorySolver) solveSalt(s *seed, puzzle uint32, salt uint16) (x [leaves]uint16, ok bool) {
	m.keys = m.keys[:0]
	for j := range uint32(hashes) {
		h := s.hash(puzzle, uint32(salt)*hashes+j)
		for k := range uint32(perHash) {
			v := binary.BigEndian.Uint64(h[8*k:]) >> unusedBits << unusedBits
			m.values[perHash*j+k] = v
			m.keys = append(m.keys, uint16(v>>(64-digit)))
		}
	}
	m.sort()
	m.pairs, m.keys = m.pairs[:0], m.keys[:0]
	for d := range digits {
		same := m.sorted[m.heads[d]:m.heads[d+1]]
		for k, i := range same {
			for _, j := range same[k+1:] {
				rest := m.values[i] ^ m.values[j]
				m.pairs = append(m.pairs, pair{i, j, rest})
				m.keys = append(m.keys, uint16(rest>>(64-2*digit)))
			}
		}
	}
	m.sort()
	m.quads, m.keys = m.quads[:0], m.keys[:0]
	for d := range digits {
		same := m.sorted[m.heads[d]:m.heads[d+1]]
		for k, i := range same {
			for _, j := range same[k+1:] {
				a, b := &m.pairs[i], &m.pairs[j]
				if a.left == b.left || a.left == b.right || a.right == b.left || a.right == b.right {
					continue // what they share cancels itself out
				}
				q := pair{i, j, a.rest ^ b.rest}
				if a.left > b.left {
					q.left, q.right = j, i
				}
				m.quads = append(m.quads, q)
				m.keys = append(m.keys, uint16(q.rest>>(64-3*digit)))
			}
		}
	}
	m.sort()
	for d := range digits {
		same := m.sorted[m.heads[d]:m.heads[d+1]]
		for k, i := range same {
			for _, j := range same[k+1:] {
				if m.quads[i].rest != m.quads[j].rest {
					continue
				}
				if x = m.leaves(m.quads[i], m.quads[j]); distinct(&x) {
					return x, true
				}
			}
		}
	}
	return x, false
}

// leaves returns the indices below two quadruples, in the order that a solution has.
func (m *memorySolver) leaves(a, b pair) (x [leaves]uint16) {
	if m.pairs[a.left].left > m.pairs[b.left].left {
		a, b = b, a
	}
	for i, node := range [...]uint32{a.left, a.right, b.left, b.right} {
		x[2*i], x[2*i+1] = uint16(m.pairs[node].left), uint16(m.pairs[node].right)
	}
	return x
}

// sort puts the positions of keys in m.sorted, by key and otherwise as they are, by counting.
func (m *memorySolver) sort() {
	clear(m.heads)
	for _, d := range m.keys {
		m.heads[d+1]++
	}
	for d := range digits {
		m.heads[d+1] += m.heads[d]
	}
	if cap(m.sorted) < len(m.keys) {
		m.sorted = make([]uint32, len(m.keys))
	}
	m.sorted = m.sorted[:len(m.keys)]
	for i, d := range m.keys {
		m.sorted[m.heads[d]] = uint32(i)
		m.heads[d]++
	}
	// Each head now stands where its digit ends, which is where the next begins.
	copy(m.heads[1:], m.heads[:digits])
	m.heads[0] = 0
}
