package model

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/quickthorn/quickthorn/internal/behaviour"
)

// patience is how many rounds without progress on unseen groups end the training of one model.
const patience = 25

// feature is a column of the table that is trained on.
type feature struct {
	name     string
	edges    []float64
	bins     []uint8 // of each sample; len(edges)+1 is missing
	weight   []float64
	monotone int
	bound    float64 // of its log-odds, either way
}

func (f *feature) missing() int { return len(f.edges) + 1 }

// table is the samples as training needs them.
type table struct {
	features []feature
	weight   []float64
	target   []float64 // smoothed labels
	fold     []int
	total    float64
}

func newTable(samples []Sample, o *TrainOptions) *table {
	t := &table{weight: balance(samples), target: make([]float64, len(samples)), fold: folds(samples, o.Folds, o.Seed)}
	for i := range samples {
		t.target[i] = o.Smoothing
		if samples[i].automated() {
			t.target[i] = 1 - o.Smoothing
		}
		t.total += t.weight[i]
	}
	for _, s := range behaviour.Schema() { // the schema's order, whatever the order of the option
		if !slices.Contains(o.Features, s.Name) {
			continue
		}
		f := feature{name: s.Name, monotone: o.Monotone[s.Name], bound: cmp.Or(o.Bound[s.Name], MaxLogOdds), bins: make([]uint8, len(samples))}
		f.edges = edges(samples, t.weight, s.Name, o.Bins)
		if len(f.edges) == 0 {
			continue // never observed, or always the same
		}
		f.weight = make([]float64, f.missing()+1)
		shape := Shape{Edges: f.edges}
		for i := range samples {
			bin := f.missing()
			if x, ok := value(samples[i].Features, s.Name); ok {
				bin = shape.bin(x)
			}
			f.bins[i] = uint8(bin)
			f.weight[bin] += t.weight[i]
		}
		t.features = append(t.features, f)
	}
	return t
}

// edges parts a feature's values into at most n ranges of about the same weight.
func edges(samples []Sample, weight []float64, name string, n int) []float64 {
	type point struct{ x, w float64 }
	var points []point
	var total float64
	for i := range samples {
		if x, ok := value(samples[i].Features, name); ok && !math.IsInf(x, 0) {
			points = append(points, point{x, weight[i]})
			total += weight[i]
		}
	}
	slices.SortStableFunc(points, func(a, b point) int {
		switch {
		case a.x < b.x:
			return -1
		case a.x > b.x:
			return 1
		}
		return 0
	})
	var out []float64
	var since float64
	for i, p := range points {
		if i > 0 && p.x > points[i-1].x && since >= total/float64(n) && len(out) < n-1 {
			out = append(out, between(points[i-1].x, p.x))
			since = 0
		}
		since += p.w
	}
	return out
}

// between returns the number with the fewest digits that is above a and at most b, near the middle.
func between(a, b float64) float64 {
	middle := a/2 + b/2
	for digits := 1; digits <= 17; digits++ {
		x, err := strconv.ParseFloat(strconv.FormatFloat(middle, 'g', digits, 64), 64)
		if err == nil && x > a && x <= b {
			return x
		}
	}
	return b
}

// additive is one model of the ensemble.
type additive struct {
	bias   float64
	shapes [][]float64 // by feature and bin, missing last
}

func (m *additive) clone() additive {
	c := additive{m.bias, make([][]float64, len(m.shapes))}
	for i, s := range m.shapes {
		c.shapes[i] = slices.Clone(s)
	}
	return c
}

// grain is what probabilities are rounded to while training. The last bits of math.Exp differ among
// processors; without this they would decide ties, and so the file.
const grain = 1 << 24

func coarse(p float64) float64 { return math.Round(p*grain) / grain }

// boost trains one model on all folds but the given one, which says when to stop.
func (t *table) boost(o *TrainOptions, held int) (best additive, rounds int) {
	m := additive{shapes: make([][]float64, len(t.features))}
	for i := range t.features {
		m.shapes[i] = make([]float64, t.features[i].missing()+1)
	}
	n := len(t.weight)
	score, p := make([]float64, n), make([]float64, n)
	for i := range p {
		p[i] = 0.5
	}
	least := o.MinLeaf
	if least == 0 {
		least = max(6, t.total/100)
	}
	best = m.clone()
	lowest, stale := t.loss(p, held), 0
	for round := 1; round <= o.Rounds && stale < patience; round++ {
		t.intercept(o, held, &m, score, p)
		for i := range t.features {
			f := &t.features[i]
			step := t.step(o, f, held, least, p)
			if step == nil {
				continue
			}
			shape := m.shapes[i]
			for bin := range shape {
				next := max(-f.bound, min(f.bound, shape[bin]+step[bin]))
				step[bin] = next - shape[bin] // what the bound leaves
				shape[bin] = next
			}
			for k, bin := range f.bins {
				if d := step[bin]; d != 0 {
					score[k] += d
					p[k] = coarse(sigmoid(score[k]))
				}
			}
		}
		if loss := t.loss(p, held); loss < lowest-1e-6 {
			lowest, stale, rounds = loss, 0, round
			best = m.clone()
		} else {
			stale++
		}
	}
	return best, rounds
}

// intercept moves the bias towards where the mean of p is that of the labels.
func (t *table) intercept(o *TrainOptions, held int, m *additive, score, p []float64) {
	var g, h float64
	for i, w := range t.weight {
		if t.fold[i] != held {
			g += float64(w * (t.target[i] - p[i]))
			h += float64(w * p[i] * (1 - p[i]))
		}
	}
	d := o.Rate * g / (h + o.Penalty)
	m.bias += d
	for i := range score {
		score[i] += d
		p[i] = coarse(sigmoid(score[i]))
	}
}

// step returns what to add to each bin of a feature: at most three levels over neighbouring ranges, chosen for the
// largest drop of the loss (a Newton step), or nil when there is none to gain.
func (t *table) step(o *TrainOptions, f *feature, held int, least float64, p []float64) []float64 {
	var g, h, w [MaxEdges + 2]float64
	for i, bin := range f.bins {
		if t.fold[i] == held {
			continue
		}
		g[bin] += float64(t.weight[i] * (t.target[i] - p[i]))
		h[bin] += float64(t.weight[i] * p[i] * (1 - p[i]))
		w[bin] += t.weight[i]
	}
	n := f.missing()
	var sg, sh, sw [MaxEdges + 2]float64 // sums before each bin
	for b := range n {
		sg[b+1], sh[b+1], sw[b+1] = sg[b]+g[b], sh[b]+h[b], sw[b]+w[b]
	}
	level := func(from, to int) (v, gain float64, ok bool) {
		if sw[to]-sw[from] < least {
			return 0, 0, false
		}
		d := sg[to] - sg[from]
		v = d / (sh[to] - sh[from] + o.Penalty)
		return v, float64(v * d), true
	}
	bestGain := 1e-9
	var cut [4]int
	var values [3]float64
	levels := 0
	if v, gain, ok := level(0, n); ok && o.Missing && gain > bestGain {
		bestGain, levels, cut, values = gain, 1, [4]int{0, n}, [3]float64{v}
	}
	for a := 1; a < n; a++ {
		v0, g0, ok := level(0, a)
		if !ok {
			continue
		}
		if v1, g1, ok := level(a, n); ok && rises(f.monotone, v0, v1) && g0+g1 > bestGain {
			bestGain, levels, cut, values = g0+g1, 2, [4]int{0, a, n}, [3]float64{v0, v1}
		}
		for b := a + 1; b < n; b++ {
			v1, g1, ok := level(a, b)
			if !ok || !rises(f.monotone, v0, v1) {
				continue
			}
			if v2, g2, ok := level(b, n); ok && rises(f.monotone, v1, v2) && g0+g1+g2 > bestGain {
				bestGain, levels, cut, values = g0+g1+g2, 3, [4]int{0, a, b, n}, [3]float64{v0, v1, v2}
			}
		}
	}
	missing := 0.0
	if o.Missing && w[n] >= least {
		missing = g[n] / (h[n] + o.Penalty)
	}
	if levels == 0 && missing == 0 {
		return nil
	}
	out := make([]float64, n+1)
	for i := range levels {
		for b := cut[i]; b < cut[i+1]; b++ {
			out[b] = o.Rate * values[i]
		}
	}
	out[n] = o.Rate * missing
	if !o.Missing {
		// Else the step would lift all that was observed above what was not, and so tell the sources apart.
		centre(out[:n], f.weight[:n])
	}
	return out
}

// rises reports whether going from a to b keeps to the wanted direction.
func rises(direction int, a, b float64) bool {
	return direction == 0 || direction > 0 && b >= a || direction < 0 && b <= a
}

// centre moves the values so that their weighted mean is 0, and returns by how much.
func centre(values, weight []float64) float64 {
	var sum, total float64
	for i, v := range values {
		sum += float64(weight[i] * v)
		total += weight[i]
	}
	if total == 0 {
		return 0
	}
	mean := sum / total
	for i := range values {
		values[i] -= mean
	}
	return mean
}

// loss returns the mean log-loss of the held fold.
func (t *table) loss(p []float64, held int) float64 {
	var sum, total float64
	for i, w := range t.weight {
		if t.fold[i] == held {
			sum += float64(w * logLoss(t.target[i], p[i]))
			total += w
		}
	}
	if total == 0 {
		return 0
	}
	return sum / total
}

// logLoss is the surprise, in nats, of outcome y (0..1) at probability p.
func logLoss(y, p float64) float64 {
	p = max(1e-9, min(1-1e-9, p))
	return -float64(y*math.Log(p)) - float64((1-y)*math.Log(1-p))
}

// score returns the log-odds that m gives sample i.
func (t *table) score(m *additive, i int) float64 {
	sum := m.bias
	for k := range t.features {
		sum += m.shapes[k][t.features[k].bins[i]]
	}
	return sum
}

// train makes the ensemble and puts it together.
func (t *table) train(o *TrainOptions, samples []Sample) File {
	models := make([]additive, o.Folds)
	unseen := make([]float64, len(samples)) // log-odds of each sample by the model that had not seen it
	var rounds int
	for k := range models {
		var r int
		models[k], r = t.boost(o, k)
		rounds += r
		for i := range samples {
			if t.fold[i] == k {
				unseen[i] = t.score(&models[k], i)
			}
		}
	}
	slope := t.slope(unseen)
	f := File{
		Format: Format, Version: o.Version, Created: o.Created, Schema: behaviour.SchemaVersion,
		Training: Training{
			Data: o.Data, Command: o.Command, Seed: o.Seed, Samples: len(samples), Groups: groups(samples),
			Labels: map[string]int{}, Origins: map[string]int{}, Rounds: rounds / o.Folds, Slope: round(slope),
		},
	}
	for i := range samples {
		f.Training.Labels[string(samples[i].Label)]++
		f.Training.Origins[samples[i].Origin]++
	}
	for k := range t.features {
		if s, counts := t.shape(o, models, k, slope); counts {
			f.Features = append(f.Features, s)
		}
	}
	if len(f.Features) == 0 { // nothing could be learnt: one that says so is better than none
		s, _ := t.shape(o, models, 0, slope)
		f.Features = append(f.Features, s)
	}
	f.Bias = bias(&f, samples, t.weight)
	return f
}

// shape averages a feature's tables over the ensemble. It does not count when it hardly changes any probability.
func (t *table) shape(o *TrainOptions, models []additive, k int, slope float64) (s Shape, counts bool) {
	f := &t.features[k]
	n := f.missing()
	mean := make([]float64, n+1)
	tables := make([][]float64, len(models))
	for i := range models {
		tables[i] = slices.Clone(models[i].shapes[k])
		if o.Missing {
			centre(tables[i], f.weight)
		} else {
			centre(tables[i][:n], f.weight[:n])
		}
		for b := range mean {
			tables[i][b] *= slope
			mean[b] += tables[i][b] / float64(len(models))
		}
	}
	s = Shape{Name: f.name, Edges: make([]float64, 0, len(f.edges)), LogOdds: make([]float64, 0, n)}
	for b := range mean {
		var v float64
		for i := range tables {
			d := tables[i][b] - mean[b]
			v += float64(d * d)
		}
		s.Spread = max(s.Spread, round(math.Sqrt(v/float64(len(tables)))))
		mean[b] = round(max(-f.bound, min(f.bound, mean[b])))
		counts = counts || math.Abs(mean[b]) >= 0.01
	}
	for b := range n { // neighbouring ranges that count the same are one
		if b > 0 && mean[b] == s.LogOdds[len(s.LogOdds)-1] {
			continue
		}
		if b > 0 {
			s.Edges = append(s.Edges, f.edges[b-1])
		}
		s.LogOdds = append(s.LogOdds, mean[b])
	}
	s.Missing = mean[n]
	return s, counts
}

// slope returns by what the log-odds must be multiplied to be as sure as they ought to be (Platt, 1999), at most
// 1: calibration tempers only, so that the bound of a feature holds.
func (t *table) slope(z []float64) float64 {
	a, c := 1.0, 0.0
	for range 50 {
		var ga, gc, haa, hac, hcc float64
		for i, w := range t.weight {
			p := sigmoid(float64(a*z[i]) + c)
			d, h := float64(w*(t.target[i]-p)), float64(w*p*(1-p))
			ga += float64(d * z[i])
			gc += d
			haa += float64(h * z[i] * z[i])
			hac += float64(h * z[i])
			hcc += h
		}
		haa += 1e-3 // keeps the system solvable when every z is the same
		hcc += 1e-3
		det := float64(haa*hcc) - float64(hac*hac)
		if det <= 0 {
			break
		}
		da := (float64(ga*hcc) - float64(gc*hac)) / det
		dc := (float64(gc*haa) - float64(ga*hac)) / det
		// A damped step: Newton's overshoots when people and programs can be told apart completely.
		a += max(-0.5, min(0.5, da))
		c += max(-0.5, min(0.5, dc))
		if math.Abs(da)+math.Abs(dc) < 1e-9 {
			break
		}
	}
	return max(0.2, min(1, a))
}

// bias returns the log-odds with which the mean probability is the share of programs.
func bias(f *File, samples []Sample, weight []float64) float64 {
	scores := make([]float64, len(samples))
	var want, total float64
	for i := range samples {
		for k := range f.Features {
			s := &f.Features[k]
			if x, ok := value(samples[i].Features, s.Name); ok {
				scores[i] += s.LogOdds[s.bin(x)]
			} else {
				scores[i] += s.Missing
			}
		}
		if samples[i].automated() {
			want += weight[i]
		}
		total += weight[i]
	}
	low, high := -MaxBias, MaxBias
	for range 60 {
		middle := (low + high) / 2
		var sum float64
		for i := range scores {
			sum += float64(weight[i] * sigmoid(scores[i]+middle))
		}
		if sum < want {
			low = middle
		} else {
			high = middle
		}
	}
	return round((low + high) / 2)
}

func groups(samples []Sample) int {
	seen := map[string]bool{}
	for i := range samples {
		seen[samples[i].Group] = true
	}
	return len(seen)
}

// round keeps four digits after the point: more would be noise, and the file longer.
func round(x float64) float64 {
	r := math.Round(x*1e4) / 1e4
	if r == 0 {
		return 0 // not -0
	}
	return r
}
