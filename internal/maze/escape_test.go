package maze

import (
	"math/rand/v2"
	"testing"
)

// What plainTo tells is what looking at each byte tells, whatever the neighbours.
func TestPlainToLooksAtEveryByte(t *testing.T) {
	slow := func(s []byte) int {
		for i, c := range s {
			if !plainByte(c) {
				return i
			}
		}
		return len(s)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for c := range 256 {
		for at := range 20 {
			s := []byte("abcdefghijklmnopqrstuvwxyz"[:24])
			s[at] = byte(c)
			if got, want := plainTo(s), slow(s); got != want {
				t.Fatalf("%q: %d, want %d", s, got, want)
			}
		}
	}
	for range 200_000 {
		s := make([]byte, r.IntN(30))
		for i := range s {
			if s[i] = byte(' ' + r.IntN(95)); r.IntN(20) == 0 {
				s[i] = byte(r.IntN(256))
			}
		}
		if got, want := plainTo(s), slow(s); got != want {
			t.Fatalf("%q: %d, want %d", s, got, want)
		}
	}
}
