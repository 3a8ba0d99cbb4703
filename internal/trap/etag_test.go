package trap

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestTheUpstreamSeesItsOwnEntityTags(t *testing.T) {
	traps := newTraps(t)
	for _, c := range []struct{ name, sent, want, ours string }{
		{"one of ours", `"x~"`, `"x"`, `"x~"`},
		{"a weak one", `W/"x~"`, `W/"x"`, `W/"x~"`},
		{"one without a name", `"~"`, `""`, `"~"`},
		{"one of the upstream's", `"x"`, `"x"`, ``},
		{"one of another version", `"x-qt0000"`, `"x-qt0000"`, ``},
		{"several", `"a", W/"b~" ,"c~"`, `"a", W/"b", "c"`, `W/"b~" "c~"`},
		{"a comma within one", `"a,b~", "c"`, `"a,b", "c"`, `"a,b~"`},
		{"empty elements", `, "a~",,`, `"a"`, `"a~"`},
		{"anything", `*`, `*`, ``},
		{"nothing", ``, ``, ``},
		{"without quotes", `x~`, `x~`, ``},
		{"broken ones stay as they are", `"a~", b~"`, `"a~", b~"`, ``},
		{"without an end", `"a~", "b`, `"a~", "b`, ``},
		{"without a comma", `"a~" "b"`, `"a~" "b"`, ``},
		{"with a control character", "\"a\x7f~\"", "\"a\x7f~\"", ``},
		{"a small w", `w/"a~"`, `w/"a~"`, ``},
		{"too many", strings.Repeat(`"a~", `, maxTags+1), strings.Repeat(`"a~", `, maxTags+1), ``},
	} {
		full := func(s string) string { return strings.ReplaceAll(s, "~", traps.suffix) }
		got, ours := traps.unwrapTags(full(c.sent), nil)
		if got != full(c.want) || strings.Join(ours, " ") != full(c.ours) {
			t.Errorf("%s: %q with %q, want %q with %q", c.name, got, ours, full(c.want), full(c.ours))
		}
	}
}

func TestAPageThatIsNotModifiedKeepsItsTag(t *testing.T) {
	traps := newTraps(t)
	for _, c := range []struct{ name, sent, asked, upstream, want string }{
		{"a page with links", `"x~"`, `"x"`, `"x"`, `"x~"`},
		{"that was compressed here", `W/"x~"`, `W/"x"`, `"x"`, `W/"x~"`},
		{"whose tag is weak", `W/"x~"`, `W/"x"`, `W/"x"`, `W/"x~"`},
		{"one of several", `"a~", "x~"`, `"a", "x"`, `"x"`, `"x~"`},
		{"a page of before there were links", `"x"`, `"x"`, `"x"`, `"x"`},
		{"one of a client that has both", `"x", "y~"`, `"x", "y"`, `"x"`, `"x"`},
		{"whichever it has", `*`, `*`, `"x"`, `"x"`},
		{"a page whose tag is malformed", `"x~"`, `"x"`, `x`, `x`},
		{"one without", `"x~"`, `"x"`, ``, ``},
	} {
		full := func(s string) string { return strings.ReplaceAll(s, "~", traps.suffix) }
		r := httptest.NewRequest("GET", "/a", nil)
		r.Header.Set("If-None-Match", full(c.sent))
		got := exchange(t, traps, func(w http.ResponseWriter, r *http.Request) {
			if asked := r.Header.Get("If-None-Match"); asked != full(c.asked) {
				t.Errorf("%s: the upstream is asked with %q", c.name, asked)
			}
			if c.upstream != "" {
				w.Header().Set("ETag", c.upstream)
			}
			w.WriteHeader(http.StatusNotModified)
		}, r)
		if tag := got.Header.Get("ETag"); tag != full(c.want) || got.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %d with tag %q, want %q", c.name, got.StatusCode, tag, full(c.want))
		}
	}
}

func TestMalformedTagsOfPagesStay(t *testing.T) {
	traps := newTraps(t)
	for _, tag := range []string{``, `x`, `"x`, `x"`, `"`, `"x"y"`, `w/"x"`, `W/x`, "\"x y\""} {
		if got := traps.wrapTag(tag, false); got != tag {
			t.Errorf("%q became %q", tag, got)
		}
	}
}

// FuzzEntityTags checks that a list of tags that are ours is what it was once the upstream's are made ours again.
func FuzzEntityTags(f *testing.F) {
	traps := newTraps(f)
	f.Add(`"a` + traps.suffix + `", W/"b` + traps.suffix + `"`)
	f.Add(`*`)
	f.Add(`"` + traps.suffix + `"` + `,`)
	f.Fuzz(func(t *testing.T, list string) {
		got, ours := traps.unwrapTags(list, nil)
		if len(ours) == 0 {
			if got != list {
				t.Fatalf("%q without any of ours became %q", list, got)
			}
			return
		}
		for _, sent := range ours {
			weak, opaque, ok := splitTag(sent)
			bare, is := strings.CutSuffix(opaque, traps.suffix)
			if !ok || !is {
				t.Fatalf("%q is not ours", sent)
			}
			tag := `"` + bare + `"`
			if weak {
				tag = "W/" + tag
			}
			if !strings.Contains(got, tag) || traps.wrapTag(tag, false) != sent || !slices.Contains(ours, traps.sentTag(tag, ours)) {
				t.Fatalf("%q of %q: the upstream is asked with %q", sent, list, got)
			}
		}
	})
}
