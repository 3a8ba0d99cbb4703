package privacy

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSecretsInQueriesAreMasked(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"q=hedge&page=2":                 "q=hedge&page=2",
		"title=Special:Search&go=%E2%98": "title=Special:Search&go=%E2%98",
		"a=1&token=abc&b=2":              "a=1&token=***&b=2",
		"TOKEN=abc":                      "TOKEN=***",
		"%74oken=abc":                    "%74oken=***",
		"access_token=x;PHPSESSID=y":     "access_token=***;PHPSESSID=***",
		"code=4/abc&state=xyz&scope=a":   "code=***&state=***&scope=a",
		"X-Amz-Signature=00ff&x=1":       "X-Amz-Signature=***&x=1",
		"user%5Bpassword%5D=hunter2":     "user%5Bpassword%5D=***",
		"keyword=privet":                 "keyword=privet",
		"token=&token":                   "token=&token",
		"=x&&;=":                         "=x&&;=",
		"key=a=b=c":                      "key=***",
		"%zz=1&secret=1":                 "%zz=1&secret=***",
	} {
		if got := maskQuery(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestReferrersLoseCredentialsFragmentsAndSecrets(t *testing.T) {
	keep, drop := Settings{KeepQuery: true}.Masker(), Settings{}.Masker()
	for _, tt := range []struct{ in, kept, dropped string }{
		{"https://example.org/a?q=1", "https://example.org/a?q=1", "https://example.org/a"},
		{"https://user:pw@example.org/a?token=1#frag", "https://example.org/a?token=***", "https://example.org/a"},
		{"https://user@example.org", "https://example.org", "https://example.org"},
		{"android-app://org.example/", "android-app://org.example/", "android-app://org.example/"},
		{"https://example.org/@user/1", "https://example.org/@user/1", "https://example.org/@user/1"},
		{"", "", ""},
	} {
		if got := keep.Referrer(tt.in); got != tt.kept {
			t.Errorf("%q kept as %q, want %q", tt.in, got, tt.kept)
		}
		if got := drop.Referrer(tt.in); got != tt.dropped {
			t.Errorf("%q without query is %q, want %q", tt.in, got, tt.dropped)
		}
	}
}

func FuzzMaskQuery(f *testing.F) {
	for _, s := range []string{"a=1&token=abc&b=2", "%74oken=abc", "access_token=x;PHPSESSID=y", "key=a=b=c", "=&;", "%zz=1&secret=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, q string) {
		got := maskQuery(q)
		if utf8.ValidString(q) && !utf8.ValidString(got) {
			t.Errorf("%q became invalid UTF-8: %q", q, got)
		}
		if again := maskQuery(got); again != got {
			t.Errorf("%q became %q, then %q", q, got, again)
		}
		if n := strings.Count(q, "&") + strings.Count(q, ";"); n != strings.Count(got, "&")+strings.Count(got, ";") {
			t.Errorf("%q became %q: another number of parameters", q, got)
		}
	})
}
