package escalation

import (
	"fmt"
	"math"
	"strings"
)

// The sentences are for the owner of the site. They go on from "the client …" or "the clients …" and hold nothing that a client has written.

func says(text string) func(*view, float64) string {
	return func(*view, float64) string { return text }
}

// share puts how often before what was done.
func share(text string) func(*view, float64) string {
	return func(v *view, x float64) string {
		if v.pages > 0 && !v.campaign {
			return fmt.Sprintf("%s (%s of %s times)", text, number(math.Round(x*v.pages)), number(v.pages))
		}
		return fmt.Sprintf("%s (%s of the times)", text, percent(x))
	}
}

func percent(x float64) string { return number(math.Round(x*100)) + " %" }

// number writes a count for people: whole, with thousands apart.
func number(x float64) string {
	s := fmt.Sprintf("%.0f", math.Abs(x))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func pages(n float64) string {
	if math.Round(n) == 1 {
		return "1 page"
	}
	return number(n) + " pages"
}

// span writes a time for people.
func span(minutes float64) string {
	switch {
	case minutes < 1.5:
		return "a minute"
	case minutes < 90:
		return number(minutes) + " minutes"
	}
	return number(minutes/60) + " hours"
}

func interval(seconds float64) string {
	switch {
	case seconds < 0.7:
		return number(1/seconds) + " a second"
	case seconds < 1.5:
		return "one a second"
	case seconds < 90:
		return fmt.Sprintf("one every %s s", number(seconds))
	}
	return fmt.Sprintf("one every %s minutes", number(seconds/60))
}

// paceClause is how much was asked for how fast: "asked for 212 pages in 10 minutes, one every 3 s".
func paceClause(v *view, _ float64) string {
	rate, ok := v.get("rate")
	if !ok || rate <= 0 || v.pages == 0 {
		return volumeClause(v, 0)
	}
	if v.pages < 3 {
		return fmt.Sprintf("asked for %s in %s", pages(v.pages), span(v.pages/rate))
	}
	return fmt.Sprintf("asked for %s in %s, %s", pages(v.pages), span(v.pages/rate), interval(60/rate))
}

func volumeClause(v *view, _ float64) string { return "asked for " + pages(v.pages) }

func burstClause(v *view, _ float64) string {
	burst, _ := v.get("burst")
	return fmt.Sprintf("asked for %s within ten seconds", pages(burst))
}

func hoursClause(_ *view, x float64) string {
	return fmt.Sprintf("was active in %s of the day's 24 hours", number(math.Round(x*24)))
}

func assetsClause(_ *view, x float64) string {
	if x == 0 {
		return "never fetched a style sheet or image"
	}
	return "hardly ever fetched a style sheet or image"
}

func quietClause(_ *view, x float64) string {
	return fmt.Sprintf("asked for a few pages and nothing that pages are made of (%s of them)", percent(x))
}

func trapsClause(_ *view, x float64) string {
	if x < 1.5 {
		return "followed a link that people do not see"
	}
	return fmt.Sprintf("followed %s links that people do not see", number(x))
}

func challengedClause(_ *view, x float64) string {
	if x < 1.5 {
		return "was shown a challenge and did not pass it"
	}
	return fmt.Sprintf("was shown %s challenges and passed none", number(x))
}

func freshClause(_ *view, x float64) string {
	return fmt.Sprintf("are new to the site (%s of them)", percent(x))
}

// maxClauses bounds a sentence.
const maxClauses = 4

// sentence says in one breath what weighed most in the direction that the score took, one clause a group.
func (e *evidence) sentence(v *view) string {
	direction := 1.0
	if e.sum < 0 {
		direction = -1
	}
	var clauses []string
	used := make(map[string]bool)
	most, head := maxClauses, ""
	if v.campaign {
		most, head = maxClauses-1, number(float64(v.c.Members.Count))+" clients that look alike "
	} else if v.pages > 0 {
		clauses = append(clauses, paceClause(v, 0))
		used[groupTiming] = e.groups[groupTiming]*direction > 0 && e.leads(groupTiming, "rate", "navigations")
	}
	for i := range e.parts {
		p := &e.parts[i]
		if p.LogOdds*direction <= 0 || used[p.group] || len(clauses) == most {
			continue
		}
		used[p.group] = true
		clauses = append(clauses, p.Sentence)
	}
	if len(clauses) == 0 {
		return "nothing that was seen says what this is"
	}
	return head + join(clauses)
}

// leads reports whether a group's weightiest part is one of the named.
func (e *evidence) leads(group string, names ...string) bool {
	for i := range e.parts {
		if e.parts[i].group == group {
			for _, n := range names {
				if e.parts[i].Name == n {
					return true
				}
			}
			return false
		}
	}
	return false
}

// join makes one sentence of clauses, some of which have commas of their own.
func join(clauses []string) string {
	if len(clauses) == 1 {
		return clauses[0]
	}
	last := len(clauses) - 1
	return strings.Join(clauses[:last], ", ") + ", and " + clauses[last]
}
