package drip

import (
	"math/bits"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// held is a stream under way. Whoever has taken it out of the ring owns it: the wheel's goroutine, a writer or a handler.
type held struct {
	next *held // in the ring
	gen  func(dst []byte, n int) []byte
	done func(Stay)

	conn net.Conn        // nil: of Serve
	raw  syscall.RawConn // of the socket; nil: it is hidden
	rest []byte          // to be written before what comes next: the head, or what the client did not read
	turn chan bool       // of Serve: true is that a piece is due, false that the stream is to end

	rng              rand.PCG
	start, last, end time.Duration // when it began, when it last got a piece, when it is over
	bytes            int64
	rate             int32 // mean, bytes a second
	generation       uint32
	skipped          uint8 // attempts in a row at which the client read nothing
	chunked          bool
	handler          bool
	direct           bool // raw can be written to: there is nothing between us and the socket
}

func newHeld(s *Stream, o *Options) *held {
	h := &held{gen: s.Next, done: s.Done, rest: s.Head, chunked: s.Chunked}
	if len(s.First) > 0 {
		h.rest = h.frame(append(make([]byte, 0, len(s.Head)+len(s.First)+16), s.Head...), s.First)
	}
	// The generator begins alike for seeds that are alike.
	h.rng.Seed(mix(s.Seed), mix(^s.Seed))
	h.rate = int32(between(&h.rng, o.MinRate, o.MaxRate))
	return h
}

// maxPiece is the largest piece of a body in bytes.
const maxPiece = 4 << 10

// piece is how many bytes are due now: what the stream's rate makes of the time since the last one, more or less by half.
func (h *held) piece(now time.Duration, o *Options) int {
	since := max(now-h.last, o.MinWait)
	mean := int(min(int64(since)*int64(h.rate)/int64(time.Second), maxPiece))
	return min(max(between(&h.rng, mean-mean/2, mean+mean/2), 1), maxPiece)
}

// pause is how long it is until the next piece.
func (h *held) pause(now time.Duration, o *Options) time.Duration {
	jitter := below(&h.rng, int((o.MaxWait-o.MinWait)/time.Millisecond)+1)
	return min(o.MinWait+time.Duration(jitter)*time.Millisecond, h.end-now)
}

// compose puts what is to be written now into b.out, and reports whether it is the last of the stream.
func (h *held) compose(b *scratch, now time.Duration, o *Options) (last bool) {
	b.out = append(b.out[:0], h.rest...)
	if now < h.end {
		if h.skipped > 0 {
			return false // the client does not read: what is there is enough
		}
		n := h.piece(now, o)
		if b.text = h.gen(b.text[:0], n); len(b.text) > 0 {
			b.out = h.frame(b.out, b.text[:min(len(b.text), n)])
			return false
		}
	}
	if h.chunked {
		b.out = append(b.out, lastChunk...)
	}
	return true
}

const lastChunk = "0\r\n\r\n"

// frame appends the text as a chunk (RFC 9112 section 7.1), or as it is.
func (h *held) frame(dst, text []byte) []byte {
	if !h.chunked {
		return append(dst, text...)
	}
	dst = strconv.AppendUint(dst, uint64(len(text)), 16)
	dst = append(dst, "\r\n"...)
	dst = append(dst, text...)
	return append(dst, "\r\n"...)
}

// maxSkipped is at how many attempts in a row a client may read nothing.
const maxSkipped = 5

// wrote accounts for n of the bytes in out, which were written, and reports whether the client still reads.
func (h *held) wrote(n int, out []byte, now time.Duration) bool {
	h.bytes += int64(n)
	h.last = now
	if n == len(out) {
		h.rest, h.skipped = nil, 0
		return true
	}
	if n > 0 {
		h.skipped = 0
	}
	h.skipped++
	h.rest = append([]byte(nil), out[n:]...) // out is the next stream's as well
	return h.skipped <= maxSkipped
}

// below returns a number from 0 to n-1 for an n above 0, and between one from low to high.
func below(r *rand.PCG, n int) int {
	hi, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(hi)
}

func between(r *rand.PCG, low, high int) int { return low + below(r, high-low+1) }

// mix spreads every bit of x over all of the result: the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
