// Package pattern matches names of models and callers with those of the configuration: exact ones, or patterns as path.Match has them.
package pattern

import (
	"fmt"
	"path"
	"strings"
)

// Check is an error that names the first that is no pattern.
func Check(patterns ...string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("%q is no name and no pattern such as gpt-5*", p)
		}
	}
	return nil
}

// Match reports whether a name is, or fits, a pattern that Check lets pass.
func Match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// Any reports whether a name fits one of the patterns. Without any it does.
func Any(patterns []string, name string) bool {
	for _, p := range patterns {
		if Match(p, name) {
			return true
		}
	}
	return len(patterns) == 0
}

// Exact reports whether a pattern is one name.
func Exact(pattern string) bool { return !strings.ContainsAny(pattern, `*?[\`) }
