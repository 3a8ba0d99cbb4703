package decoy

import "math/bits"

// below returns a number from 0 to n-1, and 0 for an n below 1. Like all drawing here it is whole-number arithmetic of our own: that of
// math/rand/v2 beyond its generators may change with a version of Go.
func below(r Source, n int) int {
	hi, _ := bits.Mul64(r.Uint64(), uint64(max(n, 1)))
	return int(hi)
}

// between returns a number from low to high.
func between(r Source, low, high int) int { return low + below(r, high-low+1) }

// mix spreads every bit of x over all of the result: the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
