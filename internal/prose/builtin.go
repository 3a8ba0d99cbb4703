package prose

import (
	"context"
	"embed"
	"fmt"
	"sync"
)

//go:embed texts
var texts embed.FS

// Builtin returns a function that makes the model of the built-in texts (internal/prose/README.md) when it is first called, which takes about
// a second and twelve megabytes, and returns the same one from then on.
func Builtin() func() (*Model, error) {
	return sync.OnceValues(func() (*Model, error) {
		b, err := trainBuiltin(context.Background())
		if err != nil {
			return nil, err
		}
		return Parse(b)
	})
}

func trainBuiltin(ctx context.Context) ([]byte, error) {
	var all []Text
	for _, t := range [...]Text{
		{Name: "opticks.txt", Source: "Isaac Newton, Opticks, fourth edition, 1730", Licence: "public domain"},
		{Name: "pride-and-prejudice.txt", Source: "Jane Austen, Pride and Prejudice, 1813", Licence: "public domain"},
	} {
		f, err := texts.Open("texts/" + t.Name)
		if err != nil {
			return nil, fmt.Errorf("prose: %w", err)
		}
		defer f.Close()
		t.Reader = f
		all = append(all, t)
	}
	return Train(ctx, all, Options{Language: "en"})
}
