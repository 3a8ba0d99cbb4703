package replay

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// WriteText writes the report for a terminal: what would have happened, whom it
// would have hurt, who came, and what a second policy would change.
func (r *Report) WriteText(out io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(tw, format+"\n", args...) }
	section := func(title string) {
		tw.Flush()
		fmt.Fprintf(&b, "\n%s\n", title)
	}

	line("Policy\t%s, mode %s, posture %s", r.Policy, r.Mode, r.Posture)
	for _, in := range r.Inputs {
		line("Input\t%s: %s, %s lines, %s broken", in.Name, in.Format, number(in.Lines), number(in.Broken))
		for _, why := range in.Reasons {
			line("\t  %s × %s, e.g. line %d: %s", number(why.Lines), why.Text, why.At, why.Example)
		}
	}
	if r.Requests == 0 {
		line("Requests\tnone")
		tw.Flush()
		_, err := io.WriteString(out, b.String())
		return err
	}
	line("Time\t%s to %s", r.Start.Format(time.RFC3339), r.End.Format(time.RFC3339))
	line("Requests\t%s, %s", number(r.Requests), size(r.Bytes))

	section("Verdicts")
	for a := defense.Allow; a <= defense.Deny; a++ {
		if n := r.Verdicts[a.String()]; n > 0 {
			line("  %s\t%s\t%s", a, number(n), percent(n, r.Requests))
		}
	}
	spared := fmt.Sprintf("%s requests (%s), %s", number(r.Spared.Requests), percent(r.Spared.Requests, r.Requests), size(r.Spared.Bytes))
	if r.Spared.Seconds > 0 {
		spared += fmt.Sprintf(", %.1f s of its time", r.Spared.Seconds)
	}
	line("  The site would have been spared %s.", spared)
	if r.Verdicts[defense.Challenge.String()] > 0 {
		line("  %s", challengeNote)
	}

	stopped, all := r.HarmTotal()
	section("Readers: what claims to be a browser, feed reader, git, app or link preview")
	line("  would have been challenged, slowed or refused: %s of %s (%s)", number(stopped), number(all), percent(stopped, all))
	for _, k := range r.Readers {
		line("  %s\t%s stopped of %s\t%s", k.Name, number(k.Stopped), number(k.Requests), percent(k.Stopped, k.Requests))
	}
	for _, h := range r.Harm {
		tw.Flush()
		fmt.Fprintf(&b, "  %s → %s by %s: %s of %s (%s)\n", h.Reader, h.Action, h.Rule, plural(h.Requests, "request", "requests"), plural(uint64(h.Clients), "client", "clients"), h.Reason)
		for _, e := range h.Examples[:min(3, len(h.Examples))] {
			fmt.Fprintf(&b, "      %s:%d  %s  %s  %q\n", e.File, e.Line, e.Client, e.Request, e.Agent)
			if len(e.Signals) > 0 {
				fmt.Fprintf(&b, "        score %d: %s\n", e.Score, strings.Join(e.Signals, ", "))
			}
		}
	}
	if r.HarmOmitted > 0 {
		line("  … and %s more in groups that are not shown", number(r.HarmOmitted))
	}

	section("Verdicts over time")
	r.textTimeline(&b)

	if len(r.Crawlers) > 0 {
		section("Crawlers that were claimed (claims are not proof)")
		for i, c := range r.Crawlers {
			if i == 25 {
				line("  … and %d more", len(r.Crawlers)-i)
				break
			}
			who := c.Operator
			if who == "" {
				who = "–"
			}
			line("  %s\t%s\t%s\t%s\t%s stopped\t%s", c.Name, c.Purpose, who, number(c.Requests), number(c.Stopped), size(c.Bytes))
		}
	}
	table := func(title string, list []Row, showStopped bool) {
		if len(list) == 0 {
			return
		}
		section(title)
		for _, k := range list {
			name := k.Name
			if name == "" {
				name = "(none)"
			}
			name = plain.Clip(name, 100)
			if showStopped {
				line("  %s\t%s stopped of %s\t%s\t%s", number(k.Stopped), percent(k.Stopped, k.Requests), number(k.Requests), size(k.Bytes), name)
			} else {
				line("  %s\t%s\t%s stopped\t%s", number(k.Requests), size(k.Bytes), number(k.Stopped), name)
			}
		}
	}
	table("Rules, thresholds and budgets that decided", r.Rules, false)
	table("Rules in shadow mode that matched", r.Shadow, false)
	table("Signals", r.Signals, false)
	table("Clients with most requests", r.Clients, false)
	table("Clients stopped most", r.StoppedClients, true)
	table("Prefixes stopped most", r.StoppedPrefixes, true)
	table("Agents stopped most", r.StoppedAgents, true)
	table("Paths stopped most", r.StoppedPaths, true)
	if len(r.Unrunnable) > 0 {
		section("Signals that could not run, because the log does not have what they look at")
		line("  %s", strings.Join(r.Unrunnable, ", "))
	}
	if r.Approximate {
		section("The log has more clients, agents or paths than are kept in memory: the ends of these lists are not exact.")
	}
	tw.Flush()
	if r.Comparison != nil {
		r.Comparison.text(&b)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// challengeNote keeps the owner from taking a challenge per page for what readers would meet.
const challengeNote = "A reader solves a challenge once; a log does not tell who has, so every page counts that would have asked."

// plural counts things: "1 client", "2 clients".
func plural(n uint64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + more
}

// spanText writes a bucket's width as people say it.
func spanText(seconds int64) string {
	for _, unit := range []struct {
		seconds   int64
		one, more string
	}{{86400, "day", "days"}, {3600, "hour", "hours"}, {60, "minute", "minutes"}} {
		if seconds >= unit.seconds && seconds%unit.seconds == 0 {
			return plural(uint64(seconds/unit.seconds), unit.one, unit.more)
		}
	}
	return plural(uint64(seconds), "second", "seconds")
}

// textTimeline draws one line per bucket, at most 30, and one for a stretch without requests.
func (r *Report) textTimeline(b *strings.Builder) {
	list, width := r.Timeline.Buckets, r.Timeline.Width
	for len(list) > 30 {
		half := make([]Bucket, 0, (len(list)+1)/2)
		for i := 0; i < len(list); i += 2 {
			k := list[i]
			if i+1 < len(list) {
				n := list[i+1]
				k.Passed, k.Throttled, k.Challenged, k.Refused = k.Passed+n.Passed, k.Throttled+n.Throttled, k.Challenged+n.Challenged, k.Refused+n.Refused
			}
			half = append(half, k)
		}
		list, width = half, 2*width
	}
	var most uint64
	for _, k := range list {
		most = max(most, k.Passed+k.Throttled+k.Challenged+k.Refused)
	}
	const columns = 50
	quiet := false
	for i, k := range list {
		total := k.Passed + k.Throttled + k.Challenged + k.Refused
		if total == 0 {
			if !quiet {
				b.WriteString("  …\n")
			}
			quiet = true
			continue
		}
		quiet = false
		bar := ""
		for _, part := range []struct {
			n    uint64
			mark string
		}{{k.Refused, "#"}, {k.Challenged, "?"}, {k.Throttled, "~"}, {k.Passed, "."}} {
			bar += strings.Repeat(part.mark, int((part.n*columns+most/2)/max(most, 1)))
		}
		fmt.Fprintf(b, "  %s %9s", r.Timeline.Start.Add(time.Duration(int64(i)*width)*time.Second).Format("2006-01-02 15:04"), number(total))
		if bar != "" {
			b.WriteString("  " + bar)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "  each line %s: # refused, ? challenged, ~ throttled, . passed\n", spanText(width))
}

// number writes n in groups: 1234567 as 1,234,567.
func number(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(n, of uint64) string {
	if of == 0 {
		return "0 %"
	}
	p := 100 * float64(n) / float64(of)
	switch {
	case n > 0 && p < 0.1:
		return "< 0.1 %"
	case n < of && p > 99.9:
		return "> 99.9 %"
	}
	return fmt.Sprintf("%.1f %%", p)
}

func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
