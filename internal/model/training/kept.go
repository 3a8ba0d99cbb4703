package training

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

//go:embed samples.ndjson.gz
var kept []byte

// maxKept bounds a file of samples after decompression, in bytes.
const maxKept = 64 << 20

// Kept are the samples that the built-in model was trained on, as the program carries them: so an owner's cases can be added to
// them without the logs that they came from.
type Kept struct{}

// Name returns "built-in samples". The samples have the origins that they came from.
func (Kept) Name() string { return "built-in samples" }

// Samples reads them.
func (Kept) Samples(context.Context) ([]model.Sample, error) {
	out, err := ReadSamples(bytes.NewReader(kept))
	if err != nil {
		return nil, fmt.Errorf("built-in samples: %w", err)
	}
	return out, nil
}

// Given are samples that are at hand.
type Given []model.Sample

// Name returns "given samples".
func (Given) Name() string { return "given samples" }

// Samples returns them.
func (g Given) Samples(context.Context) ([]model.Sample, error) { return g, nil }

// line is a sample as it is kept.
type line struct {
	Schema  int                `json:"schema"`
	Origin  string             `json:"origin"`
	Slice   string             `json:"slice"`
	Group   string             `json:"group"`
	Label   defense.CaseLabel  `json:"label"`
	Weight  float64            `json:"weight"`
	Feature map[string]float64 `json:"features"`
}

// WriteSamples writes samples as gzipped lines of JSON. Numbers keep five digits, which is more than they are good for.
func WriteSamples(w io.Writer, samples []model.Sample) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	e := json.NewEncoder(z)
	for i := range samples {
		s := &samples[i]
		l := line{s.Schema, s.Origin, s.Slice, s.Group, s.Label, short(s.Weight), make(map[string]float64, len(s.Values))}
		for name, x := range s.Values {
			l.Feature[name] = short(x)
		}
		if err := e.Encode(l); err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
	}
	return z.Close()
}

// short rounds to five digits.
func short(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 5, 64), 64)
	if err != nil {
		return x
	}
	return y
}

// ReadSamples reads what WriteSamples wrote, at most 64 MiB of text.
func ReadSamples(r io.Reader) ([]model.Sample, error) { return readSamples(r, maxKept) }

func readSamples(r io.Reader, limit int64) ([]model.Sample, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	limited := &io.LimitedReader{R: z, N: limit}
	in := bufio.NewScanner(limited)
	in.Buffer(nil, 64<<10)
	var out []model.Sample
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("read samples: line %d: %w", len(out)+1, err)
		}
		if l.Schema != behaviour.SchemaVersion {
			return nil, fmt.Errorf("read samples: line %d: %w: version %d, want %d", len(out)+1, model.ErrSchema, l.Schema, behaviour.SchemaVersion)
		}
		if len(out) == model.MaxSamples {
			return nil, fmt.Errorf("read samples: more than %d", model.MaxSamples)
		}
		out = append(out, model.Sample{
			Origin: l.Origin, Slice: l.Slice, Group: l.Group, Label: l.Label, Weight: l.Weight,
			Features: defense.Features{Schema: l.Schema, Values: l.Feature},
		})
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read samples: line %d: %w", len(out)+1, err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("read samples: more than %d bytes", limit)
	}
	if len(out) == 0 {
		return nil, errors.New("read samples: there are none")
	}
	return out, nil
}
