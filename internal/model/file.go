package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// Format is the version of the file's form.
const Format = 1

// Bounds of a model file.
const (
	MaxFile     = 1 << 20 // bytes
	MaxFeatures = 256
	MaxEdges    = 64  // of one feature
	MaxLogOdds  = 3.0 // that one feature may count, either way: 20 to 1
	MaxBias     = 10.0
	maxText     = 4096 // bytes of a text in the file
)

// ErrSchema is wrapped when a model was trained on another list of features than this program measures.
var ErrSchema = errors.New("trained on another list of features")

// File is what a model consists of, as it is written.
type File struct {
	Format  int    `json:"format"`
	Version string `json:"version"`
	// Created is when the model was made, RFC 3339, as its maker said; "" if not said. A clock is not asked, so that
	// the same training gives the same file.
	Created  string   `json:"created,omitempty"`
	Schema   int      `json:"schema"` // of the features: behaviour.SchemaVersion
	Bias     float64  `json:"bias"`   // log-odds
	Features []Shape  `json:"features"`
	Training Training `json:"training"`
	Metrics  *Metrics `json:"metrics,omitempty"` // on samples that were not trained on
}

// Shape is the effect of one feature: a table of log-odds by ranges of its value. Above 0 is towards a program.
type Shape struct {
	Name    string    `json:"name"`    // of package behaviour's schema
	Edges   []float64 `json:"edges"`   // growing; the first range ends before Edges[0], the last begins at the last edge
	LogOdds []float64 `json:"logOdds"` // of each range: one more than edges
	Missing float64   `json:"missing"` // of a value that was not observed
	// Spread is the largest standard deviation among the models of the ensemble in any range: what the table's values are sure to.
	Spread float64 `json:"spread"`
}

// bin returns the range into which x falls.
func (s *Shape) bin(x float64) int {
	return sort.Search(len(s.Edges), func(i int) bool { return x < s.Edges[i] })
}

// Training says what a model was trained on, and how.
type Training struct {
	Data    string         `json:"data"`    // what the samples are, for people
	Command string         `json:"command"` // what makes the same file again
	Seed    uint64         `json:"seed"`
	Samples int            `json:"samples"`
	Groups  int            `json:"groups"` // samples of one group belong together: one client, one operator
	Labels  map[string]int `json:"labels"` // samples by label
	Origins map[string]int `json:"origins"`
	Rounds  int            `json:"rounds"` // mean over the ensemble
	Slope   float64        `json:"slope"`  // by which calibration tempered all log-odds, 0..1
}

// Load reads a model and checks everything in it. The error says what is wrong; it wraps [ErrSchema] when the model must be trained again.
func Load(r io.Reader) (*Model, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("read model: larger than %d bytes", MaxFile)
	}
	var f File
	// What the two versions mean must be known before anything else is read: another form may have other fields.
	if err := json.Unmarshal(text, &struct {
		Format *int `json:"format"`
		Schema *int `json:"schema"`
	}{&f.Format, &f.Schema}); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if err := checkVersions(&f); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	f = File{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	m, err := New(f)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	return m, nil
}

func checkVersions(f *File) error {
	if f.Format != Format {
		return fmt.Errorf("format is %d, want %d", f.Format, Format)
	}
	if f.Schema != behaviour.SchemaVersion {
		return fmt.Errorf("%w: version %d, this program measures version %d; train it again", ErrSchema, f.Schema, behaviour.SchemaVersion)
	}
	return nil
}

// New returns the model that f describes, after checking it. It keeps f's memory.
func New(f File) (*Model, error) {
	if err := checkVersions(&f); err != nil {
		return nil, err
	}
	if f.Version == "" || len(f.Version) > 64 {
		return nil, errors.New("version: want 1 to 64 bytes")
	}
	for _, text := range []string{f.Version, f.Created, f.Training.Data, f.Training.Command} {
		if len(text) > maxText || slices.ContainsFunc([]rune(text), plain.Unsafe) {
			return nil, fmt.Errorf("a text is longer than %d bytes or holds control characters", maxText)
		}
	}
	if !within(f.Bias, MaxBias) {
		return nil, fmt.Errorf("bias %v: want -%v..%v", f.Bias, MaxBias, MaxBias)
	}
	if len(f.Features) == 0 || len(f.Features) > MaxFeatures {
		return nil, fmt.Errorf("%d features: want 1 to %d", len(f.Features), MaxFeatures)
	}
	known := map[string]bool{}
	for _, feature := range behaviour.Schema() {
		known[feature.Name] = true
	}
	for i := range f.Features {
		s := &f.Features[i]
		if !known[s.Name] {
			return nil, fmt.Errorf("feature %q is not in the list of features, or twice in the model", s.Name)
		}
		known[s.Name] = false
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("feature %q: %w", s.Name, err)
		}
	}
	return &Model{file: f}, nil
}

func (s *Shape) check() error {
	if len(s.Edges) > MaxEdges {
		return fmt.Errorf("%d edges: at most %d", len(s.Edges), MaxEdges)
	}
	if len(s.LogOdds) != len(s.Edges)+1 {
		return fmt.Errorf("%d log-odds for %d edges: want one more", len(s.LogOdds), len(s.Edges))
	}
	for i, e := range s.Edges {
		if !within(e, math.MaxFloat64) || i > 0 && e <= s.Edges[i-1] {
			return fmt.Errorf("edge %v: edges must be numbers and grow", e)
		}
	}
	for _, l := range append([]float64{s.Missing}, s.LogOdds...) {
		if !within(l, MaxLogOdds) {
			return fmt.Errorf("log-odds %v: want -%v..%v", l, MaxLogOdds, MaxLogOdds)
		}
	}
	return nil
}

// within reports whether x is a number of at most that size.
func within(x, size float64) bool { return !math.IsNaN(x) && math.Abs(x) <= size }

// Write writes the file, one feature a line and otherwise indented, so that a new training shows up as a readable difference.
func (m *Model) Write(w io.Writer) error {
	text, err := encode(&m.file)
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	return nil
}

func encode(f *File) ([]byte, error) {
	shell := *f
	shell.Features = []Shape{}
	text, err := json.MarshalIndent(shell, "", "\t")
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	lines.WriteString("\"features\": [")
	for i := range f.Features {
		line, err := json.Marshal(f.Features[i])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			lines.WriteByte(',')
		}
		lines.WriteString("\n\t\t")
		lines.Write(line)
	}
	lines.WriteString("\n\t]")
	// No text of the file can hold this: its quotes would be escaped.
	text = bytes.Replace(text, []byte(`"features": []`), lines.Bytes(), 1)
	return append(text, '\n'), nil
}
