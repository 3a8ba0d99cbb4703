package model

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

//go:generate go run ./gen

//go:embed model.json
var defaultFile []byte

// MinObserved is the least number of the model's features that must have been observed for an answer.
const MinObserved = 4

// maxParts bounds the contributions of an answer, as defense.Stage does.
const maxParts = 12

// The parts of an answer that are no single feature.
const (
	PartBias       = "bias"       // where every client starts
	PartUnobserved = "unobserved" // all features that were not observed
	PartOther      = "other"      // the features that weigh too little to be named
)

// Model answers how likely a client is a program. It is immutable and safe for concurrent use.
type Model struct {
	file File
}

// Default returns the built-in model. It fails only if the program was built with a broken one.
func Default() (*Model, error) {
	m, err := Load(bytes.NewReader(defaultFile))
	if err != nil {
		return nil, fmt.Errorf("built-in model: %w", err)
	}
	return m, nil
}

// Version returns the model's own version, such as "2026.1".
func (m *Model) Version() string { return m.file.Version }

// File returns what the model consists of, for showing and writing. It shares memory with the model and must not be changed.
func (m *Model) File() File { return m.file }

// Predict returns the probability, 0..1, that a client or the typical member of a campaign with these features is a
// program, and what it rests on. The log-odds of the parts, at most 12 and the weightiest first, add up to
// those of p. It is not ok, and p is 0.5, when fewer than [MinObserved] of the model's features were observed, or the
// features are of another schema.
func (m *Model) Predict(f defense.Features) (p float64, parts []defense.Contribution, ok bool) {
	if f.Schema != m.file.Schema {
		return 0.5, nil, false
	}
	parts = make([]defense.Contribution, 0, len(m.file.Features)+2)
	missing := defense.Contribution{Name: PartUnobserved}
	for i := range m.file.Features {
		s := &m.file.Features[i]
		x, seen := value(f, s.Name)
		if !seen {
			missing.Value++
			missing.LogOdds += s.Missing
			continue
		}
		parts = append(parts, defense.Contribution{Name: s.Name, Value: x, LogOdds: s.LogOdds[s.bin(x)]})
	}
	if len(parts) < MinObserved {
		return 0.5, nil, false
	}
	if missing.LogOdds != 0 {
		missing.Sentence = fmt.Sprintf("%d features could not be observed", int(missing.Value))
		parts = append(parts, missing)
	}
	parts = append(parts, defense.Contribution{Name: PartBias, LogOdds: m.file.Bias, Sentence: "where every client starts"})
	slices.SortFunc(parts, heavier)
	if len(parts) > maxParts {
		parts = fold(parts)
	}
	sum := 0.0
	for i := range parts {
		sum += parts[i].LogOdds
		if parts[i].Sentence == "" {
			parts[i].Sentence = behaviour.Describe(parts[i].Name, parts[i].Value)
		}
	}
	return sigmoid(sum), parts, true
}

// fold puts the lightest parts together, so that maxParts are left.
func fold(parts []defense.Contribution) []defense.Contribution {
	light := parts[maxParts-1:]
	other := defense.Contribution{Name: PartOther, Value: float64(len(light)), Sentence: fmt.Sprintf("%d lighter features together", len(light))}
	for i := range light {
		other.LogOdds += light[i].LogOdds
	}
	parts = append(parts[:maxParts-1:maxParts-1], other)
	slices.SortFunc(parts, heavier)
	return parts
}

// heavier orders contributions by how much they count, and by name where that is the same.
func heavier(a, b defense.Contribution) int {
	switch x, y := math.Abs(a.LogOdds), math.Abs(b.LogOdds); {
	case x > y:
		return -1
	case x < y:
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// value returns a feature's value, and whether it was observed.
func value(f defense.Features, name string) (float64, bool) {
	x, ok := f.Values[name]
	return x, ok && !math.IsNaN(x)
}

// sigmoid is the logistic function.
func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
