package replay

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

//go:embed page.html
var page string

// WriteHTML writes the report as one page that needs nothing else: styles and
// plots are inside it, and it runs no script.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"number": number, "percent": percent, "size": size, "plural": plural, "actionList": actionList,
		"count": func(n int) uint64 { return uint64(n) },
		"time":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") },
	}).Parse(page)
	if err != nil {
		return err
	}
	type table struct {
		Title, Column string
		Rows          []Row
	}
	stopped, all := r.HarmTotal()
	note := ""
	if r.Verdicts[defense.Challenge.String()] > 0 {
		note = challengeNote
	}
	return t.Execute(w, struct {
		*Report
		Stopped, AllReaders uint64
		Chart               template.HTML
		BarWidth            string
		ChallengeNote       string // "" if nobody would have been challenged
		Tables              []table
	}{
		r, stopped, all, r.chart(), spanText(r.Timeline.Width), note,
		[]table{
			{"Rules, thresholds and budgets that decided", "Rule", r.Rules}, {"Rules in shadow mode that matched", "Rule", r.Shadow},
			{"Signals", "Signal", r.Signals}, {"Clients with most requests", "Client", r.Clients}, {"Clients stopped most", "Client", r.StoppedClients},
			{"Prefixes stopped most", "Prefix", r.StoppedPrefixes}, {"Agents stopped most", "User-Agent", r.StoppedAgents}, {"Paths stopped most", "Path", r.StoppedPaths},
		},
	})
}

// chart draws the timeline as stacked bars. It contains numbers and times only, so it is safe as HTML.
func (r *Report) chart() template.HTML {
	const width, height, bottom, left = 960, 240, 20, 60
	var most uint64 = 1
	for _, k := range r.Timeline.Buckets {
		most = max(most, k.Passed+k.Throttled+k.Challenged+k.Refused)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="Requests over time by verdict">`, width, height+bottom)
	for _, share := range []float64{0.5, 1} {
		y := float64(height) * (1 - share*0.95)
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="currentColor" stroke-opacity=".15"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			left, width, y, y, left-6, y+4, number(uint64(share*float64(most))))
	}
	n := len(r.Timeline.Buckets)
	for i, k := range r.Timeline.Buckets {
		step := float64(width-left) / float64(n)
		x, y := left+float64(i)*step, float64(height)
		at := r.Timeline.Start.Add(time.Duration(int64(i)*r.Timeline.Width) * time.Second).UTC()
		fmt.Fprintf(&b, `<g><title>%s: %s passed, %s throttled, %s challenged, %s refused</title>`, at.Format("2006-01-02 15:04"), number(k.Passed), number(k.Throttled), number(k.Challenged), number(k.Refused))
		for _, part := range []struct {
			n     uint64
			class string
		}{{k.Passed, "pass"}, {k.Throttled, "slow"}, {k.Challenged, "check"}, {k.Refused, "stop"}} {
			if part.n == 0 {
				continue
			}
			h := float64(part.n) / float64(most) * height * 0.95
			y -= h
			fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, part.class, x, y, max(step-1, 0.5), h)
		}
		b.WriteString(`</g>`)
		if every := max(1, n/6); i%every == 0 && x < width-70 { // room for the text
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, x, height+14, at.Format("01-02 15:04"))
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}
