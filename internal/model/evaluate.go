package model

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Metrics say how well a model does on samples that it was not trained on. People and programs count alike, as
// in training: a model that knows nothing has an AUC of 0.5, a log-loss of 0.6931 and an accuracy of 0.5.
type Metrics struct {
	Samples   int `json:"samples"`
	Groups    int `json:"groups"`
	Humans    int `json:"humans"`    // samples
	Automated int `json:"automated"` // samples
	Unjudged  int `json:"unjudged"`  // of the samples, with too little observed; they count as probability 0.5

	AUC      float64 `json:"auc"`      // chance that a program is ranked above a person, 0..1
	LogLoss  float64 `json:"logLoss"`  // nats
	Brier    float64 `json:"brier"`    // mean squared error of the probability, 0..1
	Accuracy float64 `json:"accuracy"` // at probability 0.5

	Thresholds  []Threshold   `json:"thresholds"`
	Calibration []Reliability `json:"calibration"`
	Slices      []SliceMetric `json:"slices"`
	// Origins is the same for each data set by itself that has both people and programs, in short.
	Origins []OriginMetric `json:"origins"`
}

// OriginMetric is how the model does on one data set.
type OriginMetric struct {
	Name     string  `json:"name"`
	Samples  int     `json:"samples"`
	AUC      float64 `json:"auc"`
	LogLoss  float64 `json:"logLoss"`
	Accuracy float64 `json:"accuracy"`
}

// Threshold is what follows from calling a program what has at least this probability.
type Threshold struct {
	At            float64 `json:"at"`
	Precision     float64 `json:"precision"`     // share of programs among those called so, people and programs being equally many; 0 if none is
	Recall        float64 `json:"recall"`        // share of the programs that are called so
	FalsePositive float64 `json:"falsePositive"` // share of the people that are called so
}

// Reliability compares what was said with what was true, over the answers from From until before To.
type Reliability struct {
	From      float64 `json:"from"`
	To        float64 `json:"to"`
	Share     float64 `json:"share"`     // of all answers
	Predicted float64 `json:"predicted"` // mean probability
	Observed  float64 `json:"observed"`  // share of programs
}

// SliceMetric is how the model does on one kind of client.
type SliceMetric struct {
	Name      string  `json:"name"`
	Automated bool    `json:"automated"` // what is true of them
	Samples   int     `json:"samples"`
	Groups    int     `json:"groups"`
	Mean      float64 `json:"mean"` // probability
	Half      float64 `json:"half"` // share with a probability of at least 0.5
	Sure      float64 `json:"sure"` // share with a probability of at least 0.9
}

// thresholds are where precision and recall are told.
func thresholds() []float64 { return []float64{0.3, 0.5, 0.7, 0.8, 0.9, 0.95} }

// Evaluate says how well the model does on samples, which must not be those that it was trained on. It fails where [Train] would.
func (m *Model) Evaluate(samples []Sample) (*Metrics, error) {
	if err := checkSamples(samples); err != nil {
		return nil, fmt.Errorf("evaluate model: %w", err)
	}
	if len(samples) == 0 {
		return nil, errors.New("evaluate model: no samples")
	}
	x := &Metrics{Samples: len(samples), Groups: groups(samples)}
	answers := make([]answer, len(samples))
	weight := balance(samples)
	for i := range samples {
		p, _, ok := m.Predict(samples[i].Features)
		if !ok {
			x.Unjudged++
		}
		answers[i] = answer{p, weight[i], samples[i].automated()}
		if answers[i].automated {
			x.Automated++
		} else {
			x.Humans++
		}
	}
	x.Slices = bySlice(samples, answers)
	slices.SortStableFunc(answers, func(a, b answer) int { return cmp.Compare(a.p, b.p) })
	x.rank(answers)
	x.score(answers)
	x.reliability(answers)
	x.origins(m, samples)
	return x, nil
}

func (x *Metrics) origins(m *Model, samples []Sample) {
	by := map[string][]Sample{}
	for i := range samples {
		by[samples[i].Origin] = append(by[samples[i].Origin], samples[i])
	}
	x.Origins = []OriginMetric{}
	if len(by) == 1 {
		return // it is all
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		// The only reason to fail is that there are people or programs only.
		if one, err := m.Evaluate(by[name]); err == nil {
			x.Origins = append(x.Origins, OriginMetric{name, one.Samples, one.AUC, one.LogLoss, one.Accuracy})
		}
	}
}

// answer is what the model said of a sample, and the truth.
type answer struct {
	p, weight float64
	automated bool
}

// rank computes the area under the ROC curve from answers in the order of p; equal answers count half.
func (x *Metrics) rank(answers []answer) {
	var below, people, programs, sum float64 // weight of people below the current answer; totals
	for i := 0; i < len(answers); {
		var person, program float64
		j := i
		for ; j < len(answers) && answers[j].p == answers[i].p; j++ {
			if answers[j].automated {
				program += answers[j].weight
			} else {
				person += answers[j].weight
			}
		}
		sum += float64(program * (below + person/2))
		below += person
		people += person
		programs += program
		i = j
	}
	x.AUC = round(sum / people / programs)
}

func (x *Metrics) score(answers []answer) {
	var total, loss, brier, right float64
	var side [2]float64
	called := make([][2]float64, len(thresholds()))
	for _, a := range answers {
		y, k := 0.0, 0
		if a.automated {
			y, k = 1, 1
		}
		total += a.weight
		side[k] += a.weight
		loss += float64(a.weight * logLoss(y, a.p))
		brier += float64(a.weight * (y - a.p) * (y - a.p))
		if (a.p >= 0.5) == a.automated {
			right += a.weight
		}
		for i, at := range thresholds() {
			if a.p >= at {
				called[i][k] += a.weight
			}
		}
	}
	x.LogLoss, x.Brier, x.Accuracy = round(loss/total), round(brier/total), round(right/total)
	for i, at := range thresholds() {
		t := Threshold{At: at, Recall: round(called[i][1] / side[1]), FalsePositive: round(called[i][0] / side[0])}
		if all := called[i][0] + called[i][1]; all > 0 {
			t.Precision = round(called[i][1] / all)
		}
		x.Thresholds = append(x.Thresholds, t)
	}
}

func (x *Metrics) reliability(answers []answer) {
	const n = 10
	var weight, predicted, observed [n]float64
	var total float64
	for _, a := range answers {
		i := min(n-1, int(a.p*n))
		weight[i] += a.weight
		total += a.weight
		predicted[i] += float64(a.weight * a.p)
		if a.automated {
			observed[i] += a.weight
		}
	}
	for i := range n {
		r := Reliability{From: float64(i) / n, To: float64(i+1) / n}
		if weight[i] > 0 {
			r.Share, r.Predicted, r.Observed = round(weight[i]/total), round(predicted[i]/weight[i]), round(observed[i]/weight[i])
		}
		x.Calibration = append(x.Calibration, r)
	}
}

// bySlice tells of each kind of client, by name. Samples count by their given weights.
func bySlice(samples []Sample, answers []answer) []SliceMetric {
	type tally struct {
		SliceMetric
		groups                   map[string]bool
		weight, mean, half, sure float64
	}
	type key struct {
		name      string
		automated bool
	}
	all := map[key]*tally{}
	for i := range samples {
		s := &samples[i]
		k := key{s.Origin + ": " + s.Slice, s.automated()}
		t, ok := all[k]
		if !ok {
			t = &tally{SliceMetric: SliceMetric{Name: k.name, Automated: k.automated}, groups: map[string]bool{}}
			all[k] = t
		}
		t.Samples++
		t.groups[s.Group] = true
		t.weight += s.Weight
		t.mean += float64(s.Weight * answers[i].p)
		if answers[i].p >= 0.5 {
			t.half += s.Weight
		}
		if answers[i].p >= 0.9 {
			t.sure += s.Weight
		}
	}
	out := make([]SliceMetric, 0, len(all))
	for _, k := range slices.SortedFunc(maps.Keys(all), func(a, b key) int {
		return cmp.Or(cmp.Compare(one(a.automated), one(b.automated)), cmp.Compare(a.name, b.name))
	}) {
		t := all[k]
		t.Groups = len(t.groups)
		t.Mean, t.Half, t.Sure = round(t.mean/t.weight), round(t.half/t.weight), round(t.sure/t.weight)
		out = append(out, t.SliceMetric)
	}
	return out
}
