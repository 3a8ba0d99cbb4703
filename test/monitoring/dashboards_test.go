package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"

	dto "github.com/prometheus/client_model/go"
)

// datasource is the uid of the provisioned datasource.
const datasource = "quickthorn-prometheus"

// board is what the tests look at in a dashboard. Grafana's own types, which know all fields, read it first.
type board struct {
	file          string
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	SchemaVersion int      `json:"schemaVersion"`
	Tags          []string `json:"tags"`
	Panels        []panel  `json:"panels"`
	Templating    struct {
		List []struct {
			Name    string `json:"name"`
			Type    string `json:"type"`
			Current struct {
				Value any `json:"value"`
			} `json:"current"`
			Definition string          `json:"definition"`
			Query      json.RawMessage `json:"query"`
			Datasource *source         `json:"datasource"`
		} `json:"list"`
	} `json:"templating"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int     `json:"id"`
	Type        string  `json:"type"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Datasource  *source `json:"datasource"`
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		RefID        string  `json:"refId"`
		Expr         string  `json:"expr"`
		LegendFormat string  `json:"legendFormat"`
		Datasource   *source `json:"datasource"`
	} `json:"targets"`
}

func boards(t *testing.T) []board {
	t.Helper()
	files, err := filepath.Glob(root + "/deploy/grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	plugins.RegisterDefaultPlugins()
	var all []board
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var strict dashboard.Dashboard
		// Without problems this is an error with no text.
		if err := strict.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", file, err)
		}
		b := board{file: filepath.Base(file)}
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, b)
	}
	return all
}

func TestDashboardsAreCompleteAndInOrder(t *testing.T) {
	uids := map[string]string{}
	for _, b := range boards(t) {
		t.Run(b.file, func(t *testing.T) {
			if b.UID == "" || len(b.UID) > 40 || uids[b.UID] != "" {
				t.Errorf("uid %q: needs one of its own of at most 40 characters", b.UID)
			}
			uids[b.UID] = b.file
			if b.Title == "" || b.Description == "" || b.SchemaVersion < 39 || len(b.Tags) != 1 || b.Tags[0] != "quickthorn" {
				t.Errorf("title %q, description %q, schema %d, tags %q", b.Title, b.Description, b.SchemaVersion, b.Tags)
			}
			var variables []string
			for _, v := range b.Templating.List {
				variables = append(variables, v.Name)
				if v.Type == "datasource" && v.Current.Value != datasource {
					t.Errorf("variable %s is %v at first, want %s", v.Name, v.Current.Value, datasource)
				}
			}
			if got := strings.Join(variables, " "); got != "datasource job instance" {
				t.Errorf("variables %s", got)
			}

			ids, taken := map[int]string{}, map[[2]int]string{}
			for _, p := range b.Panels {
				if other, twice := ids[p.ID]; twice || p.ID <= 0 {
					t.Errorf("%s: id %d, as %q", p.Title, p.ID, other)
				}
				ids[p.ID] = p.Title
				if p.Title == "" {
					t.Errorf("panel %d has no title", p.ID)
				}
				g := p.GridPos
				if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
					t.Errorf("%s: is at %+v, the grid has 24 columns", p.Title, g)
				}
				for x := g.X; x < g.X+g.W; x++ {
					for y := g.Y; y < g.Y+g.H; y++ {
						if other, twice := taken[[2]int{x, y}]; twice {
							t.Fatalf("%s lies on %s", p.Title, other)
						}
						taken[[2]int{x, y}] = p.Title
					}
				}
				if p.Type == "row" {
					continue
				}
				if len(p.Description) < 40 {
					t.Errorf("%s: needs a description that says what to do when it looks bad", p.Title)
				}
				if p.FieldConfig.Defaults.Unit == "" {
					t.Errorf("%s: no unit", p.Title)
				}
				refs := map[string]bool{}
				sources := []*source{p.Datasource}
				for _, q := range p.Targets {
					sources = append(sources, q.Datasource)
					if q.RefID == "" || refs[q.RefID] {
						t.Errorf("%s: query %q is there twice", p.Title, q.RefID)
					}
					refs[q.RefID] = true
					for _, name := range variable.FindAllStringSubmatch(q.Expr, -1) {
						if n := name[1]; n != "job" && n != "instance" && n != "__rate_interval" {
							t.Errorf("%s: there is no variable %s", p.Title, n)
						}
					}
				}
				if len(p.Targets) == 0 {
					t.Errorf("%s: no query", p.Title)
				}
				for _, s := range sources {
					if s == nil || s.Type != "prometheus" || s.UID != "${datasource}" {
						t.Errorf("%s: datasource %+v, want the variable", p.Title, s)
					}
				}
			}
		})
	}
}

func TestFirstPanelsTellWhomWeAreInTheWayOf(t *testing.T) {
	for _, b := range boards(t) {
		if b.UID != "quickthorn-site" {
			continue
		}
		text, err := json.Marshal(b.Panels[1])
		if err != nil {
			t.Fatal(err)
		}
		if b.Panels[0].Type != "row" || b.Panels[0].GridPos.Y != 0 || !strings.Contains(b.Panels[0].Title, "Readers") || !strings.Contains(string(text), "quickthorn_challenges_answered_total") {
			t.Errorf("the page begins with %q and %q", b.Panels[0].Title, b.Panels[1].Title)
		}
		return
	}
	t.Error("there is no dashboard quickthorn-site")
}

var variable = regexp.MustCompile(`\$\{?(\w+)`)

// plain is a query with Grafana's variables filled in.
func plain(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$job", ".+", "$instance", ".+").Replace(expr)
}

func TestDashboardsAskForMetricsThatServicesShow(t *testing.T) {
	for _, b := range boards(t) {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				for _, problem := range unknown(t, plain(q.Expr)) {
					t.Errorf("%s: %s: %s", b.file, p.Title, problem)
				}
			}
		}
		for _, v := range b.Templating.List {
			if v.Type != "query" {
				continue
			}
			m := regexp.MustCompile(`^label_values\((.+), (job|instance)\)$`).FindStringSubmatch(v.Definition)
			if m == nil {
				t.Errorf("%s: variable %s is by %q", b.file, v.Name, v.Definition)
				continue
			}
			var query struct {
				Query string `json:"query"`
			}
			if err := json.Unmarshal(v.Query, &query); err != nil || query.Query != v.Definition {
				t.Errorf("%s: variable %s is defined by %q and asks for %q (%v)", b.file, v.Name, v.Definition, query.Query, err)
			}
			if v.Datasource == nil || v.Datasource.Type != "prometheus" || v.Datasource.UID != "${datasource}" {
				t.Errorf("%s: variable %s: datasource %+v, want the variable", b.file, v.Name, v.Datasource)
			}
			for _, problem := range unknown(t, plain(m[1])) {
				t.Errorf("%s: variable %s: %s", b.file, v.Name, problem)
			}
		}
	}
}

// unknown says what of an expression selects none of the series that services show.
func unknown(t *testing.T, expr string) []string {
	t.Helper()
	e, err := promQL.ParseExpr(expr)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", expr, err)}
	}
	var problems []string
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		s, ok := node.(*parser.VectorSelector)
		if !ok || s.Name == "ALERTS" { // made by Prometheus itself
			return nil
		}
		for i := range shown {
			if matches(shown[i].labels, s.LabelMatchers) {
				return nil
			}
		}
		problems = append(problems, "no service shows "+s.String())
		return nil
	})
	return problems
}

func matches(l labels.Labels, by []*labels.Matcher) bool {
	for _, m := range by {
		if !l.Has(m.Name) || !m.Matches(l.Get(m.Name)) {
			return false
		}
	}
	return true
}

func TestEveryPanelShowsSomething(t *testing.T) {
	// An hour of all series: counters grow, so that no share is of nothing, and gauges stand still.
	var load strings.Builder
	load.WriteString("load 15s\n")
	for _, s := range shown {
		switch {
		case s.kind == dto.MetricType_GAUGE && s.value > 0:
			fmt.Fprintf(&load, "  %s %sx240\n", s.labels, strconv.FormatFloat(s.value, 'f', -1, 64))
		case s.kind == dto.MetricType_GAUGE:
			fmt.Fprintf(&load, "  %s 1x240\n", s.labels)
		default:
			fmt.Fprintf(&load, "  %s 0+1x240\n", s.labels)
		}
	}
	storage := promqltest.LoadedStorage(t, load.String())
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 0, 10_000_000)
	ask := func(expr string) (promql.Vector, error) {
		q, err := engine.NewInstantQuery(t.Context(), storage, nil, expr, time.Unix(3600, 0))
		if err != nil {
			return nil, err
		}
		defer q.Close()
		r := q.Exec(t.Context())
		if r.Err != nil {
			return nil, r.Err
		}
		v, err := r.Vector()
		return append(promql.Vector(nil), v...), err
	}

	used := map[string]bool{}
	for _, b := range boards(t) {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				expr := plain(q.Expr)
				for _, name := range metricName.FindAllString(expr, -1) {
					used[name] = true
				}
				result, err := ask(expr)
				if err != nil {
					t.Errorf("%s: %s: %v", b.file, p.Title, err)
					continue
				}
				if len(result) == 0 {
					t.Errorf("%s: %s: %s has no result", b.file, p.Title, expr)
				}
				if len(result) > 1 && p.Type == "stat" {
					t.Errorf("%s: %s: %d results, want one number", b.file, p.Title, len(result))
				}
				names := map[string]bool{}
				for _, sample := range result {
					legend := legendLabel.ReplaceAllStringFunc(q.LegendFormat, func(l string) string {
						value := sample.Metric.Get(strings.Trim(l, "{}"))
						if value == "" {
							t.Errorf("%s: %s: the legend names %s, which %s has not", b.file, p.Title, l, sample.Metric)
						}
						return value
					})
					if names[legend] && p.Type != "table" {
						t.Errorf("%s: %s: two lines are called %q", b.file, p.Title, legend)
					}
					names[legend] = true
				}
			}
		}
	}

	for _, s := range shown {
		name := s.labels.Get("__name__")
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "quickthorn_") && !used[name] && !used[family+"_bucket"] {
			t.Errorf("%s is on no dashboard", name)
			used[name] = true // said once
		}
	}
}

var (
	metricName  = regexp.MustCompile(`quickthorn_\w+`)
	legendLabel = regexp.MustCompile(`\{\{\w+\}\}`)
)
