package trap

import (
	"bytes"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/robots"
	"github.com/temoto/robotstxt"
)

const archive = "/archive-k3p7/"

// robotsFiles are files as sites have them, with a mark where the rule goes and one where the group for all does.
var robotsFiles = []struct{ name, file string }{
	{"no file", "{all}"},
	{"a file for all", "User-agent: *\n{rule}Disallow: /w/\n"},
	{"that allows everything", "User-agent: *\n{rule}Disallow:\n"},
	{"that allows everything otherwise", "User-agent: *\n{rule}Allow: /\n"},
	{"that disallows everything", "User-agent: *\n{rule}Disallow: /"},
	{"a group for one", "User-agent: GPTBot\n{rule}Disallow: /\n\n{all}"},
	{"several groups", "User-agent: GPTBot\n{rule}Disallow: /a\n\nUser-agent: *\n{rule}Disallow: /b\n\nUser-agent: curl\n{rule}Allow: /\n"},
	{"a group for several", "User-agent: GPTBot\nUser-agent: curl\n\nUser-agent: *\n{rule}Disallow: /a\n"},
	{"other lines between names", "User-agent: a\nSitemap: https://x.example/s.xml\n# so\nCrawl-delay: 3\nUser-agent: *\n{rule}# thus\n\nCrawl-delay: 2\nDisallow: /a\n"},
	{"lines of Windows", "# x\r\nUser-agent: *\r\n{rule}Disallow: /a\r\n\r\nUser-agent: b\r\n{rule}Disallow: /b\r\n"},
	{"of an old Mac", "User-agent: curl\r{rule}Disallow: /a\r\r{all}"},
	{"a byte order mark", "\ufeffUser-agent: *\n{rule}Disallow: /a\n"},
	{"alone", "\ufeff{all}"},
	{"sitemaps and comments only", "# nothing here\nSitemap: https://x.example/s.xml\n\n{all}"},
	{"rules for nobody", "Disallow: /a\nUser-agent: *\n{rule}Disallow: /b\n"},
	{"nothing but those", "Disallow: /a\n\n{all}"},
	{"names without rules", "User-agent: *\n{rule}"},
	{"that the file ends with", "User-agent: b\n{rule}Disallow: /x\nUser-agent: *\n{rule}"},
	{"names in odd letters", "  USER-AGENT :  * # all\n{rule}DISALLOW:/a\n\nuseragent: GPTBot/1.0\n{rule}allow: /b\n"},
	{"a name that is none", "User-agent:\n{rule}Disallow: /a\n\n{all}"},
	{"a page instead of a file", "<!doctype html><title>Not found: sorry</title>\n\n{all}"},
	{"a long file of many groups", strings.Repeat("User-agent: bot\n{rule}Disallow: /a\n\n", 500) + "{all}"},
}

// marked returns a file as it was and as it is to be.
func marked(file, prefix string) (before, after string) {
	end := "\n"
	if i := strings.IndexAny(file, "\r\n"); i >= 0 {
		if end = file[i : i+1]; strings.HasPrefix(file[i:], "\r\n") {
			end = "\r\n"
		}
	}
	before = strings.ReplaceAll(file, "{rule}", "")
	if whole, ok := strings.CutSuffix(before, end+"{all}"); ok { // the empty line before the group is added too
		before = whole
	}
	before = strings.TrimSuffix(before, "{all}")
	after = strings.ReplaceAll(file, "{rule}", "Disallow: "+prefix+end)
	return before, strings.ReplaceAll(after, "{all}", "User-agent: *"+end+"Disallow: "+prefix+end)
}

var (
	robotAgents = []string{
		"Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)", "curl/8.9.1", "a/1", "b", "bot/2", "Mozilla/5.0 (X11; Linux x86_64) Chrome/141.0.0.0", "",
	}
	robotPaths = []string{"/", "/a", "/b", "/x", "/w/index.php", "/a?b=c", "/archive-k3p7", "/archive"}
)

func TestEverybodyIsAskedNotToFollowTraps(t *testing.T) {
	for _, f := range robotsFiles {
		t.Run(f.name, func(t *testing.T) {
			before, after := marked(f.file, archive)
			got := string(Robots([]byte(before), archive))
			if got != after {
				t.Fatalf("got  %q\nwant %q", got, after)
			}
			disallowed(t, before, got)
			switch f.name {
			case "of an old Mac", "rules for nobody", "nothing but those", "other lines between names", "names in odd letters":
				return // the other reader does not know that
			}
			other, err := robotstxt.FromString(got)
			if err != nil {
				t.Fatal(err)
			}
			for _, agent := range robotAgents[:3] {
				if other.TestAgent(archive+"x", agent) {
					t.Errorf("%q may go to %sx, another reader says", agent, archive)
				}
			}
		})
	}
}

// disallowed checks that a file asks everybody not to follow traps, and says otherwise what another says.
func disallowed(t *testing.T, before, after string) {
	t.Helper()
	old, changed := robots.Parse([]byte(before)), robots.Parse([]byte(after))
	for _, agent := range robotAgents {
		for _, path := range []string{archive, archive + "x", archive + "a/b.html?c=d"} {
			if !changed.Disallowed(agent, path) {
				t.Errorf("%q may go to %s: %q", agent, path, after)
			}
		}
		for _, path := range robotPaths {
			if a, b := old.Disallowed(agent, path), changed.Disallowed(agent, path); a != b {
				t.Errorf("%q may not go to %s: %v before, now %v: %q", agent, path, a, b, after)
			}
		}
	}
}

func TestAFileWithoutAnEndOfLineGetsOne(t *testing.T) {
	for before, after := range map[string]string{
		"User-agent: *":            "User-agent: *\nDisallow: " + archive + "\n",
		"# a\r\nUser-agent: *":     "# a\r\nUser-agent: *\r\nDisallow: " + archive + "\r\n",
		"Sitemap: https://a/b.xml": "Sitemap: https://a/b.xml\n\nUser-agent: *\nDisallow: " + archive + "\n",
	} {
		if got := string(Robots([]byte(before), archive)); got != after {
			t.Errorf("%q, want %q", got, after)
		}
	}
}

func TestAVeryLargeFileGetsOneGroupBeforeItsOwn(t *testing.T) {
	const group = "User-agent: *\nDisallow: " + archive + "\n\n"
	fill := strings.Repeat("Disallow: /"+strings.Repeat("x", 100)+"\n", MaxRobots/100)
	for _, c := range []struct{ name, before, after string }{
		{"a file", "User-agent: *\n" + fill, group + "User-agent: *\n" + fill},
		{"with a byte order mark", "\ufeffUser-agent: b\n" + fill, "\ufeff" + group + "User-agent: b\n" + fill},
		{"with rules for nobody", "Disallow: /a\nUser-agent: *\n" + fill, "Disallow: /a\n" + group + "User-agent: *\n" + fill},
		{"with nothing else", fill, fill + group},
		{"without an end of line", fill + "#", fill + "#\n" + group},
		{"that would become too large", "User-agent: *\nDisallow: /b\n#" + strings.Repeat("x", MaxRobots-30), group + "User-agent: *\nDisallow: /b\n#" + strings.Repeat("x", MaxRobots-30)},
	} {
		in := []byte(c.before)
		if got := string(Robots(in, archive)); got != c.after {
			t.Errorf("%s: %.100q, want %.100q", c.name, got, c.after)
		}
		if !bytes.Equal(in, []byte(c.before)) {
			t.Errorf("%s: the file itself was changed", c.name)
		}
	}
	if got := string(Robots(nil, strings.Repeat("/x", MaxRobots))); len(got) < MaxRobots {
		t.Errorf("a prefix without end: %d bytes", len(got))
	}
}

// FuzzRobots checks with package robots, which knows nothing of this one, that everybody is refused and that all else stays.
func FuzzRobots(f *testing.F) {
	for _, file := range robotsFiles {
		before, _ := marked(file.file, archive)
		f.Add(before)
	}
	f.Fuzz(func(t *testing.T, before string) {
		low := strings.ToLower(before)
		// A rule of the site's own that is longer, or equal and "Allow", may win; and package robots has bounds of its own.
		for line := range strings.FieldsFuncSeq(low, func(r rune) bool { return r == '\r' || r == '\n' }) {
			if key, value, _ := strings.Cut(line, ":"); strings.Trim(key, " \t") == "allow" && len(strings.Trim(value, " \t")) >= len(archive) {
				return
			}
		}
		if strings.Contains(low, strings.Trim(archive, "/")) || strings.Count(low, "user") > 1000 || len(before) > 100_000 {
			return
		}
		after := string(Robots([]byte(before), archive))
		disallowed(t, before, after)
		rest := after
		for line := range strings.FieldsFuncSeq(before, func(r rune) bool { return r == '\r' || r == '\n' }) {
			i := strings.Index(rest, line)
			if i < 0 {
				t.Fatalf("%q is missing in %q", line, after)
			}
			rest = rest[i+len(line):]
		}
	})
}
