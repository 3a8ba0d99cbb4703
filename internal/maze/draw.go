package maze

import (
	"math/bits"
	"math/rand/v2"

	"github.com/quickthorn/quickthorn/internal/likeness"
)

// below returns a number from 0 to n-1, and 0 for an n below 1. Like all drawing here it is whole-number arithmetic of our own: that of
// math/rand/v2 beyond its generators may change with a version of Go, and floating point with the machine.
func below(r Source, n int) int {
	hi, _ := bits.Mul64(r.Uint64(), uint64(max(n, 1)))
	return int(hi)
}

// between returns a number from low to high.
func between(r Source, low, high int) int { return low + below(r, high-low+1) }

// oneIn is true once in n times, and never if n is 0.
func oneIn(r Source, n int) bool { return n > 0 && below(r, n) == 0 }

// reseed starts r anew. The generator alone would begin alike for seeds that are alike.
func reseed(r *rand.PCG, a, b uint64) { r.Seed(mix(a), mix(b^0x6a09e667f3bcc909)) }

// The distributions of the chosen skins are roughly log-normal, as those of real sites are; links have a heavy tail.
var (
	usualSizes   = likeness.Quantiles{2600, 4300, 6200, 9200, 14000, 22000, 46000, 60000}   // bytes of a page
	usualLinks   = likeness.Quantiles{4, 8, 13, 22, 38, 70, 190, 320}                       // in the main part
	usualWords   = likeness.Quantiles{9, 22, 38, 61, 92, 128, 210, 260}                     // of a paragraph
	usualLatency = likeness.Quantiles{18e3, 41e3, 62e3, 97e3, 170e3, 340e3, 1200e3, 2400e3} // microseconds
)
