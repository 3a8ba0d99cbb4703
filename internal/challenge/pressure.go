package challenge

import (
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
)

// pressure counts passes by neighbourhood and by kind of client, in fixed memory:
// a count-min sketch (Cormode and Muthukrishnan 2005) whose counts halve every half-life. Who shares a
// cell with a farm is thought to be a little busier than it is, which costs a reader some tenths of a second.
type pressure struct {
	seed  maphash.Seed
	cells [2][1 << 13]atomic.Uint64 // bits of a float32 count, Unix seconds of its last change
}

const (
	halfLife = 20 * time.Minute
	// A neighbourhood has this many passes, weighed by age, before it is asked for more; a network behind one carrier's
	// address opens that many new browsers in half an hour.
	freePasses = 24
	maxLevel   = 6
)

func newPressure() *pressure { return &pressure{seed: maphash.MakeSeed()} }

// key is what is counted together; the zero key is not counted.
type pressureKey struct {
	net   netip.Prefix
	shape uint64
}

func (p *pressure) places(k pressureKey) [2]*atomic.Uint64 {
	a := k.net.Addr().As16()
	var b [25]byte
	copy(b[:], a[:])
	for i := range 8 {
		b[16+i] = byte(k.shape >> (8 * i))
	}
	b[24] = byte(k.net.Bits())
	h := maphash.Bytes(p.seed, b[:])
	i, j := h&(1<<13-1), h>>32&(1<<13-1)
	return [2]*atomic.Uint64{&p.cells[0][i], &p.cells[1][j]}
}

func decayed(cell uint64, now time.Time) float64 {
	count := float64(math.Float32frombits(uint32(cell >> 32)))
	age := now.Unix() - int64(uint32(cell))
	if age <= 0 || count == 0 {
		return count
	}
	return count * math.Exp2(-float64(age)/halfLife.Seconds())
}

// add counts one pass.
func (p *pressure) add(k pressureKey, now time.Time) {
	if !k.net.IsValid() {
		return
	}
	for _, c := range p.places(k) {
		for {
			old := c.Load()
			next := uint64(math.Float32bits(float32(decayed(old, now)+1)))<<32 | uint64(uint32(now.Unix()))
			if c.CompareAndSwap(old, next) {
				break
			}
		}
	}
}

// level is how hard what is counted together should find it, 0 to maxLevel: one more for each
// doubling beyond what is free.
func (p *pressure) level(k pressureKey, free float64, now time.Time) uint8 {
	if !k.net.IsValid() {
		return 0
	}
	count := math.Inf(1)
	for _, c := range p.places(k) {
		count = min(count, decayed(c.Load(), now))
	}
	return uint8(min(bits.Len(uint(count/free)), maxLevel))
}
