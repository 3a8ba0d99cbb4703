package training

import (
	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// BuiltInVersion is the version of the built-in model: raise it when training, its data or the features' measurement change.
const BuiltInVersion = "1"

// Sources are what the samples of the built-in model are measured from, given where the log is.
func Sources(log string) ([]Source, error) {
	crawlers, err := crawler.Default()
	if err != nil {
		return nil, err
	}
	profiler := profile.New(agent.New(crawlers))
	sources := []Source{&Log{
		Origin: "elastic log", Path: log, Hosts: []string{"semicomplete.com", "www.semicomplete.com"},
		Profiler: profiler, Crawlers: crawlers,
	}}
	// Enough clients for the links of the site to become known, of which some are enough to learn from.
	for i, play := range []struct {
		scenario     string
		scale, share float64
	}{
		{"readers", 0.5, 0.1}, {"flash-crowd", 0.25, 0.06}, {"campaign", 0.5, 0.08}, {"campaign-rotating", 0.5, 0.05}, {"campaign-copied", 0.5, 0.08},
		{"impolite-ai", 1, 0.1}, {"impolite-ai", 0.5, 0.1}, {"impolite-ai", 0.2, 0.1}, {"polite-ai", 1, 0.1}, {"polite-ai", 1, 0.1},
		{"search-crawler", 1, 0.1}, {"search-crawler", 1, 0.1},
	} {
		sources = append(sources, &Simulated{
			Scenario: play.scenario, Seed: uint64(i + 1), Scale: play.scale, Share: play.share, Weight: 0.2, Profiler: profiler,
		})
	}
	return sources, nil
}

// BuiltIn returns how the built-in model is made of its samples, and what its card says.
func BuiltIn(samples Source) (Options, *Card) {
	o := Options{Train: Defaults(), Sources: []Source{samples}}
	o.Train.Version = BuiltInVersion
	o.Train.Command = "go generate ./internal/model"
	o.Train.Data = "weak labels on the example log of elastic/examples (10,000 requests, May 2015); simulated clients of package simulate"
	return o, &Card{
		Data: []string{
			"**elastic log**: 10,000 requests to one real web site in May 2015, from [elastic/examples](https://github.com/elastic/examples) (Apache-2.0, © Elasticsearch B.V.; " +
				"in `internal/accesslog/testdata`). Nobody labelled it. Programs are who name a catalogued crawler or a tool, send no User-Agent, or claim a browser but ask for robots.txt; people " +
				"are who claim a browser, fetched something of what pages are made of and followed a link of the site. Of everybody else nothing is known, and they are left out. " +
				"No feature holds the agent's text, so a program's label does not give itself away. A person's does in part: see what the model rests on. Some browsers " +
				"that fetch assets are programs all the same, so some labels are wrong.",
			"**simulation**: readers, flash crowds, crawlers and campaigns of `quickthorn simulate` (package `internal/simulate`) on a synthetic site without protection. The labels are true, but its " +
				"clients do what their makers know of clients. It weighs about as much as the log, and its results are a test of the machinery, not of the world.",
		},
		Limits: []string{
			"It is weak evidence by design. Nearly all of it is whether a client fetches what pages are made of and comes by links, as the check without these shows. Readers without " +
				"pictures and style sheets (text browsers, screen readers, people behind a caching proxy) who come by no link look like programs to it, and there are hardly any of them in the data. That is why " +
				"it is one stage of several, each feature is bounded, and the first answer to a doubtful browser is a check that a browser passes by itself.",
			"A scraper that drives a real browser, fetches everything and follows links looks like a reader to it.",
			"One small site in English, eleven years ago, and one synthetic site. Shops, forges and single-page applications may differ; an owner's own labelled cases " +
				"can be added to the samples, and weigh four clients of the log each.",
			"The labels of the log are weak, its people were chosen by what they fetched, and the clients of whom nothing is known, which are the hard ones, are left out. Read the numbers as an upper bound.",
			"A campaign is judged by the mean of its members. There are no labelled campaigns to test that with.",
			"The probability is for equally many people and programs. Where most clients that are judged are people, fewer of those called programs are.",
		},
	}
}
