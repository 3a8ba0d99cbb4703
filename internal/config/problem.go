package config

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is one thing that is wrong.
type Problem struct {
	Origin  Origin // where it was written
	Path    string // dotted path of the setting, "" if it is about the place as a whole
	Message string // what is wrong, and what would be right
}

// String returns the problem as one line, beginning with its place.
func (p Problem) String() string {
	if p.Origin == (Origin{}) && p.Path == "" {
		return p.Message
	}
	place := p.Origin.String()
	if p.Path == "" || p.Origin.Kind == FromFlag {
		return place + ": " + p.Message
	}
	return place + ": " + p.Path + ": " + p.Message
}

// Problems is the error of [Load]: all that is wrong, one a line.
type Problems []Problem

// maxProblems bounds how many problems are kept; the last of them then counts the others.
const maxProblems = 50

// Error returns the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// sort orders by strength of the place, then by line.
func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin.Kind, b.Origin.Kind), cmp.Compare(a.Origin.Line, b.Origin.Line))
	})
}
