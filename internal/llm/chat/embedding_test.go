package chat

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestACallForEmbeddingsIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`{"model":"m","input":"one"}`:           {"one"},
		`{"model":"m","input":["one","two"]}`:   {"one", "two"},
		`{"model":"m","input":[1,2,3]}`:         nil,
		`{"model":"m","input":[[1,2],[3]]}`:     nil,
		` {"model":"m","input": "one" ,"x":1 }`: {"one"},
	} {
		r, err := ParseEmbedding([]byte(text))
		if err != nil || !slices.Equal(r.Input, want) || r.Tokens != (want == nil) || string(r.Raw) != text {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
	for text, want := range map[string]string{
		`{"input":"x"}`:                                             "model",
		`{"model":"m"}`:                                             "input",
		`{"model":"m","input":null}`:                                "input",
		`{"model":"m","input":[]}`:                                  "one text at least",
		`{"model":"m","input":{"a":1}}`:                             "input",
		`{"model":"m","input":[true]}`:                              "input",
		`{"model":"m","input":"x","dimensions":-1}`:                 "dimensions",
		`{"model":"m","input":"x","encoding_format":"hexadecimal"}`: "encoding_format",
		`{"model":7,"input":"x"}`:                                   "model",
		`[`:                                                         "",
		`{"model":"m","input":[` + strings.Repeat(`"x",`, MaxInputs) + `"x"]}`: "at most 2048",
	} {
		if r, err := ParseEmbedding([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %+v, %v, want %q", text, r, err, want)
		}
	}
}

func TestVectorsAreWrittenInBothForms(t *testing.T) {
	t.Parallel()
	for _, v := range []Vector{{Values: []float32{1, -0.5, 0}}, {Values: []float32{1, -0.5, 3e8}, Base64: true}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Vector
		if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(back.Values, v.Values) || back.Base64 != v.Base64 {
			t.Errorf("%s: %+v, %v", b, back, err)
		}
	}
	var v Vector
	if json.Unmarshal([]byte(`"AAAA"`), &v) == nil || json.Unmarshal([]byte(`"%"`), &v) == nil {
		t.Error("three bytes are a vector")
	}
}

func FuzzParseEmbedding(f *testing.F) {
	f.Add([]byte(`{"model":"m","input":["one",[1]],"dimensions":3}`))
	f.Add([]byte(`{"model":"m","input":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseEmbedding(b)
		if err == nil && (r.Model == "" || len(r.Input) == 0 && !r.Tokens) {
			t.Errorf("%q: %+v", b, r)
		}
	})
}
