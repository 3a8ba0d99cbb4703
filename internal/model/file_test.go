package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/behaviour"
)

func written(t testing.TB, m *Model) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAFileComesBackAsItWasWritten(t *testing.T) {
	f := small()
	f.Training = Training{Data: `texts may hold "features": [] and <tags>`, Seed: 7, Labels: map[string]int{"human": 1}, Origins: map[string]int{}}
	f.Metrics = &Metrics{AUC: 0.9, Thresholds: []Threshold{{At: 0.5}}, Calibration: []Reliability{}, Slices: []SliceMetric{}}
	m := made(t, f)
	text := written(t, m)
	again, err := Load(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.File(), again.File()); diff != "" {
		t.Error(diff)
	}
	if written(t, again) != text {
		t.Error("written again it is another text")
	}
}

func TestAFileThatIsNotRightIsRefusedWithTheReason(t *testing.T) {
	good := written(t, made(t, small()))
	for _, test := range []struct{ name, old, new, want string }{
		{"not JSON", good, "model", "invalid character"},
		{"empty", good, "", "unexpected end"},
		{"a list", good, "[]", "cannot unmarshal array"},
		{"null", good, "null", "format is 0"},
		{"something after it", "\n}\n", "\n}\n{}", "invalid character"},
		{"another format", `"format": 1`, `"format": 2`, "format is 2, want 1"},
		{"another schema", `"schema": 1`, `"schema": 9`, "train it again"},
		{"another schema and other fields", `"schema": 1`, `"schema": 9, "layers": []`, "train it again"},
		{"no version", `"version": "test"`, `"version": ""`, "version"},
		{"a field that is not known", `"bias": -0.25`, `"bias": -0.25, "gain": 2`, `unknown field "gain"`},
		{"a bias out of bounds", `"bias": -0.25`, `"bias": 99`, "bias 99"},
		{"a bias that no number holds", `"bias": -0.25`, `"bias": 1e999`, "cannot unmarshal"},
		{"a feature that is not known", `"name":"rate"`, `"name":"speed"`, `feature "speed"`},
		{"a feature twice", `"name":"rate"`, `"name":"assets"`, "twice"},
		{"edges that fall", `[1,10]`, `[10,1]`, "edges must be numbers and grow"},
		{"edges that stand still", `[1,10]`, `[1,1]`, "edges must be numbers and grow"},
		{"too few log-odds", `[-1,0.5,2]`, `[-1,0.5]`, "want one more"},
		{"log-odds that decide alone", `[-1,0.5,2]`, `[-1,0.5,3.5]`, "log-odds 3.5"},
		{"a missing value that decides alone", `"missing":0.125`, `"missing":-4`, "log-odds -4"},
		{"a text that acts on a terminal", `"version": "test"`, `"version": "\u001b[2J"`, "control characters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(good, test.old) {
				t.Fatalf("the good file does not hold %q", test.old)
			}
			_, err := Load(strings.NewReader(strings.Replace(good, test.old, test.new, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if schema := strings.Contains(test.name, "schema"); errors.Is(err, ErrSchema) != schema {
				t.Errorf("error %v says that the schema differs: want %v", err, schema)
			}
		})
	}
}

func TestSizesAreBounded(t *testing.T) {
	if _, err := Load(strings.NewReader(strings.Repeat(" ", MaxFile+1))); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file that is too large: %v", err)
	}
	f := small()
	f.Features[0].Edges, f.Features[0].LogOdds = make([]float64, MaxEdges+1), make([]float64, MaxEdges+2)
	for i := range f.Features[0].Edges {
		f.Features[0].Edges[i] = float64(i)
	}
	if _, err := New(f); err == nil || !strings.Contains(err.Error(), "edges: at most") {
		t.Errorf("too many edges: %v", err)
	}
	f = small()
	f.Features = nil
	if _, err := New(f); err == nil {
		t.Error("a model without features is taken")
	}
	f = small()
	f.Features[1].Edges[0] = math.NaN()
	if _, err := New(f); err == nil {
		t.Error("an edge that is no number is taken")
	}
}

// FuzzLoad holds that a file that is taken can be asked anything and written again.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(written(f, made(f, small()))), 1.0)
	f.Add(defaultFile, math.Inf(1))
	f.Add([]byte(`{"format":1,"schema":1,"version":"a","features":[{"name":"rate","edges":[],"logOdds":[0]}]}`), math.NaN())
	f.Fuzz(func(t *testing.T, text []byte, x float64) {
		m, err := Load(bytes.NewReader(text))
		if err != nil {
			return
		}
		values := map[string]float64{}
		for _, s := range behaviour.Schema() {
			values[s.Name] = x
		}
		if p, parts, ok := m.Predict(features(values)); ok {
			checkParts(t, p, parts)
			if !(p >= 0 && p <= 1) {
				t.Errorf("p is %v", p)
			}
		}
		again := written(t, m)
		if !json.Valid([]byte(again)) {
			t.Fatalf("written as %q", again)
		}
		if _, err := Load(strings.NewReader(again)); err != nil && len(again) <= MaxFile {
			t.Errorf("what was written is refused: %v", err)
		}
	})
}
