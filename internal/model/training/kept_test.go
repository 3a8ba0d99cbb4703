package training

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

func zipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSamplesComeBackAsTheyWereWritten(t *testing.T) {
	want := []model.Sample{{
		Origin: "a", Slice: "b", Group: "c", Label: defense.LabelBot, Weight: 0.33333,
		Features: defense.Features{Schema: behaviour.SchemaVersion, Values: map[string]float64{"rate": 12.346, "assets": 0}},
	}}
	given := []model.Sample{want[0]}
	given[0].Values = map[string]float64{"rate": 12.34567, "assets": 0}
	given[0].Weight = 1.0 / 3
	var b bytes.Buffer
	if err := WriteSamples(&b, given); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSamples(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSamplesThatAreNotRightAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, want string
		file       []byte
	}{
		{"not compressed", "invalid header", []byte(strings.Repeat("{}", 20))},
		{"nothing", "there are none", zipped(t, "")},
		{"not JSON", "line 1", zipped(t, "hello\n")},
		{"another schema", "trained on another list", zipped(t, `{"schema":99}`)},
		{"a long line", "too long", zipped(t, strings.Repeat("x", 70<<10))},
		{"cut off", "unexpected EOF", zipped(t, `{"schema":1}`+"\n")[:28]},
	} {
		if _, err := ReadSamples(bytes.NewReader(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
	if _, err := ReadSamples(bytes.NewReader(zipped(t, `{"schema":99}`))); !errors.Is(err, model.ErrSchema) {
		t.Errorf("another schema: %v", err)
	}
	// A small file may unpack to a large one.
	large := zipped(t, strings.Repeat(`{"schema":1,"features":{}}`+strings.Repeat(" ", 1<<10)+"\n", 100))
	if _, err := readSamples(bytes.NewReader(large), 50<<10); err == nil || !strings.Contains(err.Error(), "more than 51200 bytes") {
		t.Errorf("too much: %v", err)
	}
}

// FuzzReadSamples holds that samples that are taken can be trained on or are refused with an error.
func FuzzReadSamples(f *testing.F) {
	f.Add(`{"schema":1,"origin":"a","slice":"b","group":"c","label":"bot","weight":1,"features":{"rate":1,"assets":0}}` + "\n" +
		`{"schema":1,"origin":"a","slice":"b","group":"d","label":"human","weight":1,"features":{"rate":2,"assets":1e308}}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		samples, err := ReadSamples(bytes.NewReader(zipped(t, text)))
		if err != nil {
			return
		}
		m, err := model.Train(samples, model.TrainOptions{Version: "fuzz", Rounds: 3, Folds: 2, MinLeaf: 1e-9})
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := m.Write(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := model.Load(&b); err != nil {
			t.Errorf("the model that was made is refused: %v", err)
		}
	})
}
