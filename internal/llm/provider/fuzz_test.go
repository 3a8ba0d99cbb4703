package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// forms are all that answers can have.
func forms(t testing.TB) []Provider {
	t.Helper()
	var all []Provider
	for _, kind := range []string{"openai", "mistral", "anthropic", "gemini", "ollama", "compatible"} {
		p, _, err := Named(kind)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// FuzzWhatServersSend has whatever a server may send read in each form: whole, streamed, and as an error.
func FuzzWhatServersSend(f *testing.F) {
	files, err := filepath.Glob("testdata/recorded/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 4096)])
	}
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"))
	f.Add([]byte(`{"message":{"role":"assistant","content":"x"},"done":true}`))
	all := forms(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range all {
			kind := fmt.Sprintf("%T", p)
			if r, err := p.Response(b); err == nil && len(r.Choices) == 0 {
				t.Errorf("%s: an answer without a choice", kind)
			}
			if e := p.Error(500, b); e == nil || e.Message == "" || len(e.Message) > maxWords+len("…") {
				t.Errorf("%s: %+v", kind, e)
			}
			if m, ok := p.(Embedder); ok {
				if r, err := m.Embeddings(&chat.EmbeddingRequest{Input: []string{"x"}}, b); err == nil && len(r.Data) != 1 {
					t.Errorf("%s: %d vectors of one text", kind, len(r.Data))
				}
			}
			s, finished := p.Stream(bytes.NewReader(b)), false
			for n := 0; ; n++ {
				c, err := s.Next()
				if errors.Is(err, io.EOF) {
					if !finished {
						t.Errorf("%s: a stream is complete without a reason", kind)
					}
					break
				}
				if err != nil {
					break
				}
				for i := range c.Choices {
					finished = finished || c.Choices[i].FinishReason != nil
				}
				if n > len(b)+8 {
					t.Fatalf("%s: more pieces than bytes", kind)
				}
			}
		}
	})
}
