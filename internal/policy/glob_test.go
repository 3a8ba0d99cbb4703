package policy

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for _, tt := range []struct{ pattern, yes, no string }{
		{"/search", "/search /search/", "/ /search/x /searchs /a/search"},
		{"/cgit/", "/cgit /cgit/ /cgit/a/b", "/cgitx /x/cgit"},
		{"/a/**", "/a /a/ /a/b /a/b/c", "/ab /b/a"},
		{"/**", "/ /a /a/b", ""},
		{"/**/blame/**", "/blame /o/r/blame/x /blame/x /a/b/blame", "/blames /o/blame2/x /"},
		{"/**/x/**/y", "/x/y /a/x/b/c/y /x/x/y/y", "/x /y /x/y/z"},
		{"*.php", "/a.php /x/y/z.php", "/a.php5 /php /a.php/x"},
		{"wp-*", "/wp-login.php /blog/wp-admin", "/x-wp-a"},
		{"/u/*/posts", "/u/ann/posts /u//posts", "/u/posts /u/a/b/posts /u/ann"},
		{"/v?/x", "/v1/x /vé/x", "/v/x /v12/x"},
		{"/a*b*c", "/abc /axxbyyc /abcbc", "/ab /abcd /a/bc"},
		{"/*", "/ /a", "/a/b"},
		{"/.git/**", "/.git /.git/config", "/x/.git /.github"},
	} {
		g, err := compileGlob(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		for p := range strings.FieldsSeq(tt.yes) {
			if !g.match(p) {
				t.Errorf("%s does not match %s", tt.pattern, p)
			}
		}
		for p := range strings.FieldsSeq(tt.no) {
			if g.match(p) {
				t.Errorf("%s matches %s", tt.pattern, p)
			}
		}
		for _, p := range []string{"", "*"} {
			if g.match(p) && tt.pattern != "/**" {
				t.Errorf("%s matches %q", tt.pattern, p)
			}
		}
	}
}

func TestGlobRefusesWhatIsProbablyMeantOtherwise(t *testing.T) {
	for _, p := range []string{"", "a/b", "/a**", "/a/**b/c", "/[ab]", "/a//b", "/%41", `/a\b`, "/" + strings.Repeat("a", maxGlob)} {
		if _, err := compileGlob(p); err == nil {
			t.Errorf("%q is accepted", p)
		}
	}
}

// matchNaive is the definition of the language, without care for time.
func matchNaive(parts, path []string) bool {
	if len(parts) == 0 {
		return len(path) == 0
	}
	if parts[0] == "**" {
		return matchNaive(parts[1:], path) || len(path) > 0 && matchNaive(parts, path[1:])
	}
	return len(path) > 0 && matchSegment(parts[0], path[0]) && matchNaive(parts[1:], path[1:])
}

func FuzzGlob(f *testing.F) {
	for _, s := range []string{"/a/**/b", "/**/a/**/b/*", "*.php", "/x/", "/**/*a*/?"} {
		f.Add(s, "/a/x/b")
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		g, err := compileGlob(pattern)
		if err != nil || len(path) > 60 || len(pattern) > 30 {
			return
		}
		got := g.match(path)
		if pattern[0] != '/' || len(path) < 2 || path[0] != '/' {
			return
		}
		if strings.HasSuffix(pattern, "/") {
			pattern += "**"
		}
		path = strings.TrimSuffix(path, "/")
		if want := matchNaive(strings.Split(pattern[1:], "/"), strings.Split(strings.TrimPrefix(path, "/"), "/")); got != want && path != "" {
			t.Errorf("%q on %q: %v, want %v", pattern, path, got, want)
		}
	})
}
