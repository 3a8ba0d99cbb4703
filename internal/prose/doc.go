// Package prose makes text: by a Markov model of words that was trained on texts of the owner's or on those built in, of facts that are
// shuffled, or of nothing but the site's own licence.
//
// All three append to a buffer what they draw from a source of random numbers, and from nothing else: the same numbers give the same text
// in every process.
package prose

import "math/bits"

// Source gives random numbers. A *rand.PCG is one.
type Source = interface{ Uint64() uint64 }

// below returns a number from 0 to n-1 for an n above 0.
func below(r Source, n int) int {
	hi, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(hi)
}
