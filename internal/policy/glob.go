package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A glob is a pattern over normalised paths, compiled for repeated use:
//
//	/search      exactly that path
//	/cgit/       a pattern that ends with a slash: that path and all below it
//	/a/**        /a itself and all below it
//	/**/blame/** a segment "blame" at any depth
//	*.php        without a leading slash: the last segment, at any depth
//	/u/*/posts   one segment; within a segment * is any text and ? one character
type glob struct {
	exact  string // when set, the whole pattern
	prefix string // when set: path == prefix or path begins with prefix + "/"
	suffix string // when set: path ends with it
	parts  []string
}

// Paths returns what reports whether a normalised path is covered by one of the patterns of policies. The error names the pattern that is wrong.
func Paths(patterns []string) (func(path string) bool, error) {
	var globs []*glob
	for _, p := range patterns {
		g, err := compileGlob(p)
		if err != nil {
			return nil, fmt.Errorf("path pattern %q %w", p, err)
		}
		globs = append(globs, g)
	}
	return func(path string) bool {
		return slices.ContainsFunc(globs, func(g *glob) bool { return g.match(path) })
	}, nil
}

const maxGlob = 512 // bytes

func compileGlob(pattern string) (*glob, error) {
	switch {
	case pattern == "":
		return nil, errors.New("is empty")
	case len(pattern) > maxGlob:
		return nil, errors.New("is too long")
	case strings.ContainsAny(pattern, "[]{}\\"):
		return nil, errors.New(`has brackets or backslashes: a path pattern knows *, ** and ?; use a condition with matches("…") for a regular expression`)
	case strings.Contains(pattern, "//"):
		return nil, errors.New("has a double slash: paths are compared after normalisation")
	case strings.ContainsAny(pattern, "%"):
		return nil, errors.New("has a percent sign: paths are compared decoded")
	}
	if pattern[0] != '/' {
		if strings.Contains(pattern, "/") {
			return nil, errors.New("should begin with / or **/")
		}
		if rest, ok := strings.CutPrefix(pattern, "*"); ok && rest != "" && !strings.ContainsAny(rest, "*?") {
			return &glob{suffix: rest}, nil
		}
		pattern = "/**/" + pattern
	}
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	parts := strings.Split(pattern[1:], "/")
	for _, p := range parts {
		if strings.Contains(p, "**") && p != "**" {
			return nil, errors.New("has ** inside a segment; it stands alone between slashes")
		}
	}
	if !strings.ContainsAny(pattern, "*?") {
		return &glob{exact: pattern}, nil
	}
	if rest, ok := strings.CutSuffix(pattern, "/**"); ok && !strings.ContainsAny(rest, "*?") {
		return &glob{prefix: rest}, nil
	}
	return &glob{parts: parts}, nil
}

// match reports whether the pattern covers the path. A slash at the path's end
// makes no difference: "/search/" is no way round a pattern "/search".
func (g *glob) match(path string) bool {
	if len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	switch {
	case g.exact != "":
		return path == g.exact
	case g.suffix != "":
		return strings.HasSuffix(path, g.suffix)
	case g.parts == nil:
		return strings.HasPrefix(path, g.prefix) && (len(path) == len(g.prefix) || path[len(g.prefix)] == '/')
	}
	if path == "" || path[0] != '/' {
		return false
	}
	return matchSegments(g.parts, path[1:])
}

// matchSegments matches pattern segments against a path without its leading
// slash. It remembers only the last "**", which suffices as in any wildcard
// match, so that the time is bounded by the product of the lengths.
func matchSegments(parts []string, path string) bool {
	rest, more := path, true // more: rest holds at least one segment
	i := 0
	starPart, starRest, starMore := -1, "", false
	for more {
		if i < len(parts) && parts[i] == "**" {
			starPart, starRest, starMore = i, rest, more
			i++
			if i == len(parts) {
				return true
			}
			continue
		}
		segment, tail, found := strings.Cut(rest, "/")
		if i < len(parts) && matchSegment(parts[i], segment) {
			i, rest, more = i+1, tail, found
			continue
		}
		if starPart < 0 || !starMore {
			return false
		}
		_, starRest, starMore = strings.Cut(starRest, "/")
		i, rest, more = starPart+1, starRest, starMore
	}
	for i < len(parts) && parts[i] == "**" {
		i++
	}
	return i == len(parts)
}

// matchSegment matches * (any text) and ? (one byte-wise character) in a segment.
func matchSegment(pattern, s string) bool {
	pi, si := 0, 0
	star, mark := -1, 0
	for si < len(s) {
		switch {
		case pi < len(pattern) && pattern[pi] == '*':
			star, mark = pi, si
			pi++
		case pi < len(pattern) && pattern[pi] == '?':
			pi++
			si++
			for si < len(s) && s[si]&0xc0 == 0x80 { // the rest of a UTF-8 character
				si++
			}
		case pi < len(pattern) && pattern[pi] == s[si]:
			pi++
			si++
		case star >= 0:
			mark++
			pi, si = star+1, mark
		default:
			return false
		}
	}
	for pi < len(pattern) && pattern[pi] == '*' {
		pi++
	}
	return pi == len(pattern)
}
