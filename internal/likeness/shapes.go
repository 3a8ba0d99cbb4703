package likeness

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// parts are what may change in a shape.
var parts = [...]string{"{slug}", "{id}", "{year}", "{month}", "{day}"}

func checkShapes(shapes []Shape) error {
	if len(shapes) > maxShapes {
		return fmt.Errorf("shapes: %d; want at most %d", len(shapes), maxShapes)
	}
	for _, s := range shapes {
		if s.Share < 1 || s.Share > 1000 {
			return fmt.Errorf("shapes: %q has a share of %d: want 1 to 1000", s.Pattern, s.Share)
		}
		if len(s.Pattern) > maxShape || !strings.HasPrefix(s.Pattern, "/") || strings.Contains(s.Pattern, "//") {
			return fmt.Errorf("shapes: %q: want a path of at most %d bytes", s.Pattern, maxShape)
		}
		rest := s.Pattern
		for _, p := range parts {
			rest = strings.ReplaceAll(rest, p, "")
		}
		if !plainPath(rest) {
			return fmt.Errorf("shapes: %q: want letters, digits, \"-\", \"_\", \".\", \"~\" and the parts %v", s.Pattern, parts)
		}
		if strings.Count(s.Pattern, "{slug}") > 1 || !strings.Contains(s.Pattern, "{slug}") && strings.Count(s.Pattern, "{id}") != 1 {
			return fmt.Errorf("shapes: %q: want one {slug} or else one {id}", s.Pattern)
		}
	}
	return nil
}

func plainPath(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("/-_.~", c) >= 0) {
			return false
		}
	}
	return true
}

// shapesOf returns the shapes of the paths, the most frequent first.
func shapesOf(paths []string) []Shape {
	// A segment is a fixed part if several paths have it after the same beginning.
	begins := map[string]int{}
	for _, p := range paths {
		segments := strings.Split(strings.Trim(p, "/"), "/")
		for i := range segments {
			begins[strings.Join(segments[:i+1], "/")]++
		}
	}
	count := map[string]int{}
	all := 0
	for _, p := range paths {
		if s := shapeOf(p, begins); s != "" && checkShapes([]Shape{{s, 1}}) == nil {
			count[s]++
			all++
		}
	}
	var shapes []Shape
	for pattern, n := range count {
		shapes = append(shapes, Shape{pattern, max(1, n*1000/all)})
	}
	slices.SortFunc(shapes, func(a, b Shape) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), strings.Compare(a.Pattern, b.Pattern))
	})
	return shapes[:min(len(shapes), maxShapes)]
}

// shapeOf returns the shape of a path, or "" for one that says nothing: the site's beginning.
func shapeOf(path string, begins map[string]int) string {
	trimmed := strings.Trim(path, "/")
	if trimmed == "" {
		return ""
	}
	segments := strings.Split(trimmed, "/")
	shape := ""
	before := ""
	named := false // whether there is a {slug}
	for i, s := range segments {
		last := i == len(segments)-1
		part := s
		switch {
		case before == "" && isYear(s):
			part = "{year}"
		case before == "{year}" && isNumber(s, 2):
			part = "{month}"
		case before == "{month}" && isNumber(s, 2):
			part = "{day}"
		case isNumber(s, 0):
			part = "{id}"
		case last:
			part = "{slug}"
			if dot := strings.LastIndexByte(s, '.'); dot > 0 && len(s)-dot <= 6 {
				part += s[dot:]
			}
		case begins[strings.Join(segments[:i+1], "/")] < 2:
			part = "{slug}"
		}
		if strings.HasPrefix(part, "{slug}") {
			if named {
				return ""
			}
			named = true
		}
		shape += "/" + part
		before = ""
		if part == "{year}" || part == "{month}" {
			before = part
		}
	}
	if strings.HasSuffix(path, "/") {
		shape += "/"
	}
	return shape
}

func isYear(s string) bool {
	return len(s) == 4 && isNumber(s, 4) && (s[:2] == "19" || s[:2] == "20")
}

// isNumber reports whether s is digits: n of them, or any number if n is 0.
func isNumber(s string, n int) bool {
	if s == "" || len(s) > 18 || n > 0 && len(s) != n {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
