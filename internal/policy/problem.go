package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxProblems bounds how many problems one check reports; a file that is wrong
// throughout is not read to the end by anybody.
const maxProblems = 50

// Problem is one thing that is wrong, or doubtful, in a policy.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the whole file is meant
	Column  int    `json:"column,omitempty"` // from 1, in characters; 0 when the whole line is meant
	Message string `json:"message"`
}

// String returns "file:line:column: message", leaving out what is not known.
func (p Problem) String() string {
	return position{p.File, p.Line, p.Column}.String() + ": " + p.Message
}

// Errors are all the problems found in a policy, in the order of the file. It
// is the error that [Load] and [Compile] return.
type Errors []Problem

// Error returns the problems one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// position is a place in a policy's source.
type position struct {
	file      string
	line, col int
}

func (p position) String() string {
	s := p.file
	if s == "" {
		s = "policy"
	}
	if p.line > 0 {
		s += ":" + strconv.Itoa(p.line)
		if p.col > 0 {
			s += ":" + strconv.Itoa(p.col)
		}
	}
	return s
}

// problems collects errors and warnings while a policy is read and compiled.
type problems struct {
	errors   Errors
	warnings []Problem
	dropped  int
}

// newProblem words a problem. What a message takes from the file cannot steer a terminal.
func newProblem(at position, format string, args ...any) Problem {
	return Problem{at.file, at.line, at.col, printable(fmt.Sprintf(format, args...))}
}

// printable replaces what does not print.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

func (ps *problems) errorf(at position, format string, args ...any) {
	p := newProblem(at, format, args...)
	if slices.Contains(ps.errors, p) {
		return
	}
	if len(ps.errors) == maxProblems {
		ps.dropped++
		return
	}
	ps.errors = append(ps.errors, p)
}

func (ps *problems) warnf(at position, format string, args ...any) {
	if len(ps.warnings) < maxProblems {
		ps.warnings = append(ps.warnings, newProblem(at, format, args...))
	}
}

// err returns the collected errors, or nil.
func (ps *problems) err() error {
	if len(ps.errors) == 0 {
		return nil
	}
	out := slices.Clone(ps.errors)
	order := map[string]int{} // files stay in the order in which they were read
	for _, p := range out {
		if _, ok := order[p.File]; !ok {
			order[p.File] = len(order)
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(order[a.File]-order[b.File], a.Line-b.Line, a.Column-b.Column)
	})
	if ps.dropped > 0 {
		out = append(out, Problem{File: out[0].File, Message: fmt.Sprintf("and %d more problems", ps.dropped)})
	}
	return out
}

// hint returns ` (did you mean "x"?)` for the nearest of the known names, the
// list of them when none is near and they are few, and "" otherwise.
func hint(got string, known []string) string {
	best, near := 3+len(got)/8, ""
	for _, k := range known {
		if k == "" {
			continue
		}
		if d := distance(strings.ToLower(got), strings.ToLower(k), best); d < best && d < max(len(k), 2) {
			best, near = d, k
		}
	}
	switch {
	case near != "":
		return fmt.Sprintf(" (did you mean %q?)", near)
	case len(known) > 0 && len(known) <= 20:
		shown := slices.DeleteFunc(slices.Clone(known), func(s string) bool { return s == "" })
		return " (known: " + strings.Join(shown, ", ") + ")"
	}
	return ""
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between a and b, or limit if there are at least that many.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 100 || len(b) > 100 {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
