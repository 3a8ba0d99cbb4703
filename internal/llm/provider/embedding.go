package provider

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// Embedder is a provider that makes vectors of texts.
type Embedder interface {
	// Embed writes a call; its errors are those of Provider.Call.
	Embed(r *chat.EmbeddingRequest, key string) (*Call, error)
	// Embeddings reads the answer to the call r.
	Embeddings(r *chat.EmbeddingRequest, body []byte) (*chat.EmbeddingResponse, error)
}

// Embed implements Embedder.
func (o *OpenAI) Embed(r *chat.EmbeddingRequest, key string) (*Call, error) {
	b := r.Raw
	if b == nil {
		var err error
		if b, err = json.Marshal(r); err != nil {
			return nil, err
		}
	}
	all, err := fields(b, r.Model)
	if err != nil {
		return nil, err
	}
	if o.Mistral {
		delete(all, "user")
		if v, ok := all["dimensions"]; ok {
			all["output_dimension"] = v
			delete(all, "dimensions")
		}
	}
	b, err = json.Marshal(all)
	return &Call{Path: "/embeddings", Header: o.header(key), Body: b}, err
}

// Embeddings implements Embedder.
func (o *OpenAI) Embeddings(r *chat.EmbeddingRequest, body []byte) (*chat.EmbeddingResponse, error) {
	var in chat.EmbeddingResponse
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if len(in.Data) == 0 || !r.Tokens && len(in.Data) != len(r.Input) {
		return nil, fmt.Errorf("%w: %d vectors of %d texts", errAnswer, len(in.Data), len(r.Input))
	}
	in.Raw = body
	return &in, nil
}

// Embed implements Embedder (https://ai.google.dev/api/embeddings, batchEmbedContents).
func (g *Gemini) Embed(r *chat.EmbeddingRequest, key string) (*Call, error) {
	if r.Tokens {
		return nil, unable("input", "this provider takes texts, no token numbers")
	}
	name := "models/" + strings.TrimPrefix(r.Model, "models/")
	var requests []object
	for _, text := range r.Input {
		one := object{"model": name, "content": geminiContent{Parts: []geminiPart{{Text: text}}}}
		if r.Dimensions > 0 {
			one["outputDimensionality"] = r.Dimensions
		}
		requests = append(requests, one)
	}
	b, err := json.Marshal(object{"requests": requests})
	path := "/v1beta/models/" + url.PathEscape(strings.TrimPrefix(name, "models/")) + ":batchEmbedContents"
	return &Call{Path: path, Header: header("X-Goog-Api-Key", key), Body: b}, err
}

// Embeddings implements Embedder. This API does not tell how many tokens it took.
func (g *Gemini) Embeddings(r *chat.EmbeddingRequest, body []byte) (*chat.EmbeddingResponse, error) {
	var in struct{ Embeddings []struct{ Values []float32 } }
	if err := answer(body, &in); err != nil {
		return nil, err
	}
	if len(in.Embeddings) != len(r.Input) {
		return nil, fmt.Errorf("%w: %d vectors of %d texts", errAnswer, len(in.Embeddings), len(r.Input))
	}
	out := &chat.EmbeddingResponse{Object: "list", Model: r.Model}
	for i := range in.Embeddings {
		out.Data = append(out.Data, chat.Embedding{Object: "embedding", Index: i, Vector: chat.Vector{Values: in.Embeddings[i].Values, Base64: r.Format == chat.FormatBase64}})
	}
	return out, nil
}
