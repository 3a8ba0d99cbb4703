package policy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// documentation returns docs/policy.md.
func documentation(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheExamplesOfTheDocumentationCompile(t *testing.T) {
	voc := vocabulary()
	voc.Signals = append(voc.Signals, "no-brotli")
	o := Options{Vocabulary: voc, ReadFile: func(name string) ([]byte, error) {
		if name != "shared.yaml" {
			return nil, os.ErrNotExist
		}
		return []byte("rules: []"), nil
	}}
	blocks := strings.Split(documentation(t), "```yaml\n")[1:]
	for i, block := range blocks {
		src, _, ok := strings.Cut(block, "```")
		if !ok {
			t.Fatalf("example %d does not end", i+1)
		}
		pol, err := Compile(fmt.Sprintf("example-%d.yaml", i+1), []byte(src), o)
		if err != nil {
			t.Errorf("%v\n%s", err, src)
		} else if w := pol.Warnings(); len(w) > 0 {
			t.Errorf("%v\n%s", w, src)
		}
	}
	if len(blocks) < 8 {
		t.Errorf("only %d examples were found", len(blocks))
	}
}

// referenceRows are the lines that the documentation's tables must hold.
func referenceRows() []string {
	var out []string
	code := func(names []string) string {
		for i, n := range names {
			names[i] = "`" + n + "`"
		}
		return strings.Join(names, " ")
	}
	for _, v := range Variables() {
		out = append(out, fmt.Sprintf("| `%s` | %s | %s | %s |", v.Name, v.Type, v.Doc, code(slices.Clone(v.Values))))
	}
	for _, f := range Functions() {
		out = append(out, fmt.Sprintf("| `%s` | %s |", f.Usage, f.Doc))
	}
	for _, p := range Presets() {
		out = append(out, fmt.Sprintf("| `%s` |", p.Name))
	}
	return append(out, "know these headers: "+strings.ReplaceAll(code(Headers()), " ", ", ")+".")
}

func TestTheDocumentationNamesEverything(t *testing.T) {
	doc := documentation(t)
	for _, row := range referenceRows() {
		if !strings.Contains(doc, row) {
			t.Errorf("docs/policy.md lacks:\n%s", row)
		}
	}
	r := &yamlReader{problems: &problems{}}
	for _, f := range r.layerFields(&layer{}) {
		if !strings.Contains(doc, "| `"+f.key+"` |") {
			t.Errorf("docs/policy.md does not describe the key %q", f.key)
		}
	}
}
