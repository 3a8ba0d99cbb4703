package likeness

import (
	"errors"
	"math/bits"
	"slices"
)

// points are the shares, in thousandths, at which a distribution is known. They lie closer together near the upper end, because
// sizes, links and latencies of web pages have long tails.
var points = [...]uint64{0, 100, 250, 500, 750, 900, 990, 1000}

// maxQuantile bounds every value, so that drawing cannot overflow.
const maxQuantile = 1 << 40

// Quantiles is a distribution of whole numbers: its values at 0, 10, 25, 50, 75, 90, 99 and 100 per cent, in ascending order and from 0
// to 2^40. Between them it is taken to be even. The zero value is a distribution that is always 0.
type Quantiles [len(points)]int64

// QuantilesOf returns the distribution of the samples; values out of range are moved to its end. Without samples it is the zero value.
func QuantilesOf(samples []int64) Quantiles {
	var q Quantiles
	if len(samples) == 0 {
		return q
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	last := uint64(len(s) - 1)
	for i, p := range points {
		// The nearest sample at or above the share.
		q[i] = min(max(s[(last*p+999)/1000], 0), maxQuantile)
	}
	return q
}

// At returns the value that belongs to u, with u = 0 the least and the greatest u the greatest: uniform numbers give the
// distribution. It is whole-number arithmetic, the same on every machine.
func (q *Quantiles) At(u uint64) int64 {
	const scale = 1 << 32
	at := u >> 32 * 1000 // share in thousandths of 1/scale
	for i := 1; i < len(points); i++ {
		low, high := points[i-1]*scale, points[i]*scale
		if at >= high && i < len(points)-1 {
			continue
		}
		hi, lo := bits.Mul64(at-low, uint64(q[i]-q[i-1]))
		rise, _ := bits.Div64(hi, lo, high-low)
		return q[i-1] + int64(rise)
	}
	return 0
}

// Check reports what makes q no distribution: values that descend or are out of range.
func (q *Quantiles) Check() error {
	if q[0] < 0 || q[len(q)-1] > maxQuantile {
		return errors.New("quantiles must be from 0 to 2^40")
	}
	for i := 1; i < len(q); i++ {
		if q[i] < q[i-1] {
			return errors.New("quantiles must ascend")
		}
	}
	return nil
}
