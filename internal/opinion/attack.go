package opinion

import (
	_ "embed" // the attacks
	"fmt"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

//go:embed attacks.txt
var attackTexts string

// Attack is a text by which a client might try to talk a model into letting it pass.
type Attack struct{ Kind, Text string }

// Attacks returns those that come with the program.
func Attacks() []Attack {
	spell := strings.NewReplacer(`\n`, "\n", `\u200b`, "\u200b", `\u202e`, "\u202e", `\u202c`, "\u202c", "{lorem}", strings.Repeat("lorem ipsum dolor sit amet ", 75))
	var list []Attack
	for line := range strings.Lines(attackTexts) {
		kind, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ok && !strings.HasPrefix(kind, "#") {
			list = append(list, Attack{kind, spell.Replace(text)})
		}
	}
	return list
}

// Carry returns cases like c in which the text is wherever a client could have written it: as User-Agent, path, query, name of a header, address,
// site, crawler, and in what earlier stages say. The names of the places are the keys.
func (a *Attack) Carry(c *defense.Case) map[string]*defense.Case {
	out := map[string]*defense.Case{}
	with := func(place string, change func(*defense.Case)) {
		d := *c
		d.Features.Values = map[string]float64{}
		for k, v := range c.Features.Values {
			d.Features.Values[k] = v
		}
		change(&d)
		out[place] = &d
	}
	with("agent", func(d *defense.Case) { d.Agents = []string{a.Text} })
	with("path", func(d *defense.Case) { d.Paths = append([]string{"/" + a.Text}, c.Paths...) })
	with("query", func(d *defense.Case) { d.Paths = append([]string{"/?q=" + a.Text}, c.Paths...) })
	with("key", func(d *defense.Case) { d.Key = a.Text })
	with("site", func(d *defense.Case) { d.Site = a.Text })
	with("member", func(d *defense.Case) { d.Members.Sample = []string{a.Text} })
	with("crawler", func(d *defense.Case) { d.Identity.Crawler, d.Identity.How = a.Text, a.Text })
	with("feature", func(d *defense.Case) { d.Features.Values[a.Text] = 1 })
	with("stage", func(d *defense.Case) {
		d.Stages = []defense.Stage{{Name: a.Text, Sentence: a.Text, Problem: a.Text, Contributions: []defense.Contribution{{Name: a.Text, Sentence: a.Text}}}}
	})
	return out
}

// Leaks returns the places from which anything of the text reaches the question of a case. The kinds of addresses may change with a path, and do
// not count: they are words of our own.
func (a *Attack) Leaks(c *defense.Case) []string {
	var places []string
	want := NewQuestion(c)
	for place, d := range a.Carry(c) {
		got := NewQuestion(d)
		for _, k := range got.Asked {
			if !slices.Contains(kinds(), k) {
				places = append(places, place)
			}
		}
		got.Asked = want.Asked
		if fmt.Sprint(got) != fmt.Sprint(want) {
			places = append(places, place)
		}
	}
	return places
}
