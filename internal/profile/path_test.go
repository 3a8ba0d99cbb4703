package profile

import (
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/race"
)

func TestPathIsReadAsTheUpstreamMightReadIt(t *testing.T) {
	tests := []struct{ raw, want string }{
		{"/", "/"},
		{"", "/"},
		{"*", "*"},
		{"/admin", "/admin"},
		{"/admin/", "/admin/"},
		{"//admin", "/admin"},
		{"/a//b///c", "/a/b/c"},
		{"/%61dmin", "/admin"},
		{"/%2561dmin", "/%61dmin"}, // once only
		{"/a/../admin", "/admin"},
		{"/a/%2e%2E/admin", "/admin"},
		{"/a/..%2fadmin", "/admin"},
		{"/a/..\\admin", "/admin"},
		{"/\\admin", "/admin"},
		{"/a/./b", "/a/b"},
		{"/a/.", "/a/"},
		{"/a/..", "/"},
		{"/a/b/..", "/a/"},
		{"/../../etc/passwd", "/etc/passwd"},
		{"/x/..;/admin", "/admin"},
		{"/x/..;jsessionid=1/admin", "/admin"},
		{"/x/.;a=1/admin", "/x/admin"},
		{"/shop;id=1/item", "/shop;id=1/item"},
		{"/a/...", "/a/..."},
		{"/a/..b/c", "/a/..b/c"},
		{"/.well-known/x", "/.well-known/x"},
		{"/.git/config", "/.git/config"},
		{"/100%", "/100%"},
		{"/%zz/%4", "/%zz/%4"},
		{"/%zz/../a", "/a"},
		{"/caf%C3%A9", "/café"},
		{"/%ff%fe", "/\xff\xfe"},
		{"/a%00b", "/a\x00b"},
		{"/a%0d%0ab", "/a\r\nb"},
		{"admin", "/admin"},
		{"../admin", "/admin"},
	}
	for _, tt := range tests {
		if got := normalPath(tt.raw); got != tt.want {
			t.Errorf("normalPath(%q) = %q, want %q", tt.raw, got, tt.want)
		}
	}
}

func TestNormalPathDoesNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	path := "/wiki/Some_Page.html;v=1/..b"
	if n := testing.AllocsPerRun(100, func() { normalPath(path) }); n != 0 {
		t.Errorf("%v allocations for a path that is normal already", n)
	}
}

func TestTargetIsSplit(t *testing.T) {
	tests := []struct{ target, path, query string }{
		{"/a?b=c?d", "/a", "b=c?d"},
		{"/a", "/a", ""},
		{"/a?", "/a", ""},
		{"?x", "/", "x"},
		{"", "/", ""},
		{"http://example.org/a/b?c", "/a/b", "c"},
		{"http://example.org", "/", ""},
		{"http://example.org?c", "/", "c"},
		{"//example.org/a", "//example.org/a", ""},
		{"/admin#/x.css", "/admin", ""},
		{"/go?to=http://example.org/", "/go", "to=http://example.org/"},
		{"/go/http://example.org/", "/go/http://example.org/", ""},
		{"*", "*", ""},
		{"\x16\x03\x01", "\x16\x03\x01", ""},
	}
	for _, tt := range tests {
		if path, query := splitTarget(tt.target); path != tt.path || query != tt.query {
			t.Errorf("splitTarget(%q) = %q, %q", tt.target, path, query)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/%5c", "//", "*", "", "/..;/x", "a\\..\\b", "/%", "/%2", "/a/b/../../../c/.", "/.", "/..", "/%2f%2f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := normalPath(raw)
		if raw == "*" {
			return
		}
		if !strings.HasPrefix(got, "/") || len(got) > len(raw)+1 {
			t.Fatalf("%q became %q", raw, got)
		}
		for _, bad := range []string{"//", "/./", "/../", "\\", "/.;", "/..;"} {
			if strings.Contains(got, bad) {
				t.Fatalf("%q became %q, which holds %q", raw, got, bad)
			}
		}
		if strings.HasSuffix(got, "/.") || strings.HasSuffix(got, "/..") {
			t.Fatalf("%q became %q", raw, got)
		}
		if !strings.Contains(got, "%") && normalPath(got) != got {
			t.Fatalf("%q became %q and then %q", raw, got, normalPath(got))
		}
		if isNormal(raw) != (got == raw) && !strings.Contains(raw, "%") {
			t.Fatalf("%q: isNormal %v, became %q", raw, isNormal(raw), got)
		}
		if k := kindOfPath(raw, got, ""); k.AlwaysReadable() && !isPlain(raw) {
			t.Fatalf("%q, which servers read in several ways, is %s", raw, k)
		}
	})
}
