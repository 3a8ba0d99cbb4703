package chat

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// MaxInputs is how many texts one call may have embedded.
const MaxInputs = 2048

// EmbeddingRequest asks for vectors of texts (https://platform.openai.com/docs/api-reference/embeddings).
type EmbeddingRequest struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`
	Dimensions int      `json:"dimensions,omitempty"` // 0: as the model has it
	Format     string   `json:"encoding_format,omitempty"`
	User       string   `json:"user,omitempty"`

	Tokens bool   `json:"-"` // the input is token numbers, which Input does not have
	Raw    []byte `json:"-"` // what ParseEmbedding read
}

// The forms of vectors.
const (
	FormatFloat  = "float"
	FormatBase64 = "base64" // of IEEE 754 singles, the lowest byte first
)

// ParseEmbedding reads and checks a call.
func ParseEmbedding(b []byte) (*EmbeddingRequest, error) {
	var in struct {
		EmbeddingRequest
		Input json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, reason(err)
	}
	r := in.EmbeddingRequest
	r.Raw = b
	raw := bytes.TrimSpace(in.Input)
	switch {
	case len(raw) == 0 || raw[0] == 'n':
		return nil, errors.New("input: want a text, or a list of them")
	case raw[0] == '"':
		var one string
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		r.Input = []string{one}
	default:
		if err := json.Unmarshal(raw, &r.Input); err != nil {
			var one []int
			var several [][]int
			if json.Unmarshal(raw, &one) != nil && json.Unmarshal(raw, &several) != nil {
				return nil, errors.New("input: want a text, a list of texts, or token numbers")
			}
			r.Input, r.Tokens = nil, true
		}
	}
	switch {
	case r.Model == "":
		return nil, errors.New("model: want the name of one")
	case len(r.Input) == 0 && !r.Tokens:
		return nil, errors.New("input: want one text at least")
	case len(r.Input) > MaxInputs:
		return nil, fmt.Errorf("input: %d texts: want at most %d", len(r.Input), MaxInputs)
	case r.Dimensions < 0:
		return nil, fmt.Errorf("dimensions: %d: want a number from 1", r.Dimensions)
	case r.Format != "" && r.Format != FormatFloat && r.Format != FormatBase64:
		return nil, fmt.Errorf("encoding_format: %.40q: want float or base64", r.Format)
	}
	return &r, nil
}

// EmbeddingResponse are vectors.
type EmbeddingResponse struct {
	Object string      `json:"object"` // "list"
	Data   []Embedding `json:"data"`
	Model  string      `json:"model"`
	Usage  *Usage      `json:"usage,omitempty"`

	Raw []byte `json:"-"` // as the provider wrote it, where that has this form already
}

// Embedding is the vector of one text.
type Embedding struct {
	Object string `json:"object"` // "embedding"
	Index  int    `json:"index"`
	Vector Vector `json:"embedding"`
}

// Vector is written as numbers, or in base64.
type Vector struct {
	Values []float32
	Base64 bool
}

// MarshalJSON writes the vector.
func (v Vector) MarshalJSON() ([]byte, error) {
	if !v.Base64 {
		return json.Marshal(v.Values)
	}
	b := make([]byte, 0, 4*len(v.Values))
	for _, x := range v.Values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(b))
}

// UnmarshalJSON reads either form.
func (v *Vector) UnmarshalJSON(b []byte) error {
	*v = Vector{}
	if len(b) == 0 || b[0] != '"' {
		return json.Unmarshal(b, &v.Values)
	}
	var packed []byte
	if err := json.Unmarshal(b, &packed); err != nil {
		return err
	}
	if len(packed)%4 != 0 {
		return errors.New("embedding: the length is not a multiple of four bytes")
	}
	v.Base64 = true
	for ; len(packed) > 0; packed = packed[4:] {
		v.Values = append(v.Values, math.Float32frombits(binary.LittleEndian.Uint32(packed)))
	}
	return nil
}
