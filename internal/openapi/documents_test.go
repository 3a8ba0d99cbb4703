package openapi_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/openapi"
)

// document is one of ours, as a program that reads OpenAPI documents knows it.
type document struct {
	name string
	*openapi3.T
	operations map[string]*openapi3.Operation // by "GET /v1/mode"
}

// documents loads them.
func documents(t *testing.T) []document {
	t.Helper()
	var out []document
	for name, raw := range map[string]openapi.Document{"ai-service": openapi.AIService(), "escalation-engine": openapi.EscalationEngine()} {
		d := document{name: name, operations: map[string]*openapi3.Operation{}}
		var err error
		if d.T, err = openapi3.NewLoader().LoadFromData(raw); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for path, item := range d.Paths.Map() {
			for method, o := range item.Operations() {
				d.operations[method+" "+path] = o
			}
		}
		out = append(out, d)
	}
	return out
}

func TestTheDocumentsAreValidWithTheirExamples(t *testing.T) {
	t.Parallel()
	for _, d := range documents(t) {
		if err := d.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
		for at, o := range d.operations {
			if o.Summary == "" || o.OperationID == "" || len(o.Tags) != 1 || d.Tags.Get(o.Tags[0]) == nil {
				t.Errorf("%s: %s lacks a summary, an id or its tag", d.name, at)
			}
		}
	}
}

func TestADocumentIsServedAsItIs(t *testing.T) {
	t.Parallel()
	for _, d := range []openapi.Document{openapi.AIService(), openapi.EscalationEngine()} {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
		if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != "application/json" || w.Body.String() != string(d) {
			t.Errorf("%d, %s, %d bytes of %d", w.Code, got, w.Body.Len(), len(d))
		}
	}
}

// pattern is what a route is registered by.
var pattern = regexp.MustCompile(`^(GET|HEAD|POST|PUT|PATCH|DELETE) (/\S*)$`)

// registered returns the patterns in the sources of each package that has a type with the method
// Register(mux *http.ServeMux), as a ServeMux cannot list what it was given.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "*", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(len(files), err)
	}
	patterns, registrars := map[string][]string{}, map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Base(filepath.Dir(name))
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil && n.Name.Name == "Register" && len(n.Type.Params.List) == 1 {
					at := n.Type.Params.List[0].Type
					registrars[dir] = registrars[dir] || string(src[at.Pos()-f.FileStart:at.End()-f.FileStart]) == "*http.ServeMux"
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && pattern.MatchString(text) {
					patterns[dir] = append(patterns[dir], text)
				}
			}
			return true
		})
	}
	for dir := range patterns {
		if !registrars[dir] {
			delete(patterns, dir)
		}
	}
	return patterns
}

func TestEveryRouteIsInItsDocumentAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	want := map[string][]string{}
	for dir, patterns := range registered(t) {
		for _, p := range patterns {
			switch {
			case !strings.Contains(p, "/v1/"): // health, which every service has
				want["ai-service"] = append(want["ai-service"], p)
				want["escalation-engine"] = append(want["escalation-engine"], p)
			case dir == "escalation":
				want["escalation-engine"] = append(want["escalation-engine"], p)
			default:
				want["ai-service"] = append(want["ai-service"], p)
			}
		}
	}
	for _, d := range documents(t) {
		slices.Sort(want[d.name])
		got := slices.Sorted(maps.Keys(d.operations))
		if diff := cmp.Diff(slices.Compact(want[d.name]), got); diff != "" {
			t.Errorf("%s: routes of the sources (-) and of the document (+):\n%s", d.name, diff)
		}
	}
}
