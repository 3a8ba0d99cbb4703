package trap

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestAPrefixIsThatOfTheInstall(t *testing.T) {
	if got := Prefix(seed); got != "/notes-p6w6/" {
		t.Errorf("%q: pages that are cached have links below another prefix", got)
	}
	shape := regexp.MustCompile(`^/[a-z]{5,10}-[b-z][2-9][b-z][2-9]/$`)
	seen := map[string]bool{}
	for i := range 1000 {
		p := Prefix(fmt.Appendf(nil, "%032d", i))
		if !shape.MatchString(p) || !validPrefix(p) {
			t.Fatalf("%q", p)
		}
		seen[p] = true
	}
	if len(seen) < 990 {
		t.Errorf("only %d of 1000 installs have a prefix of their own", len(seen))
	}
}

func TestAHitIsWhatLiesBelowThePrefix(t *testing.T) {
	traps := newTraps(t)
	p := traps.Prefix()
	for path, want := range map[string]bool{
		p: true, p + "a": true, p + "a/b.html": true, p[:len(p)-1]: false, "/": false, "": false, "/a" + p: false, strings.ToUpper(p): false,
	} {
		if traps.Hit(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

func TestWhatNoTrapsCanBeMadeOfIsRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"15 bytes": {Seed: make([]byte, 15)}, "0 bytes": {}, `"/"`: {Seed: seed, Prefix: "/"}, `"a/"`: {Seed: seed, Prefix: "a/"}, `"/a"`: {Seed: seed, Prefix: "/a"},
		`"/a//b/"`: {Seed: seed, Prefix: "/a//b/"}, `"/a\"/"`: {Seed: seed, Prefix: "/a\"/"}, `"/a b/"`: {Seed: seed, Prefix: "/a b/"}, `"/a*/"`: {Seed: seed, Prefix: "/a*/"},
		"-1 compressed": {Seed: seed, Compressed: -1},
		"64 bytes":      {Seed: seed, Prefix: "/" + strings.Repeat("a", 63) + "/"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if traps, err := New(Options{Seed: seed, Prefix: "/old/Papers-1/"}); err != nil || traps.Prefix() != "/old/Papers-1/" {
		t.Error(err)
	}
}

func TestLinksAreAFunctionOfSeedAndPath(t *testing.T) {
	const want = `<span hidden aria-hidden="true"><a rel="nofollow" tabindex="-1" aria-hidden="true" hidden href="/notes-p6w6/2022/draft-museum-first-498">Further reading</a>` +
		`<a href="/notes-p6w6/events/bridge-second.html" rel="nofollow" hidden aria-hidden="true" tabindex="-1">Full text</a></span>`
	if got := linksOf(newTraps(t), "/a"); got != want {
		t.Errorf("got  %s\nwant %s: another program makes other links of the same seed", got, want)
	}
	other, err := New(Options{Seed: bytes.Repeat([]byte("z"), 32), Prefix: newTraps(t).Prefix()})
	if err != nil {
		t.Fatal(err)
	}
	if linksOf(other, "/a") == want {
		t.Error("another seed makes the same links")
	}
	if other.suffix == newTraps(t).suffix {
		t.Error("pages with other links have the same tag")
	}
}

func TestPagesGetOneToThreeHiddenLinksThatAreHits(t *testing.T) {
	traps := newTraps(t)
	paths, counts := map[string]bool{}, map[int]int{}
	for i := range 3000 {
		text := linksOf(traps, fmt.Sprintf("/%d", i))
		root, err := html.Parse(strings.NewReader("<body>" + text))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		html.Render(&b, root)
		in, out := findLinks(root, traps, false)
		if in < 1 || in > maxLinks || out > 0 || strings.Count(text, "<a ") != in {
			t.Fatalf("%d links in the body, %d elsewhere: %s", in, out, text)
		}
		if strings.Contains(text, "style") || strings.Contains(text, "script") {
			t.Fatalf("%s: a Content-Security-Policy may forbid that", text)
		}
		counts[in]++
		paths[regexp.MustCompile(`href="([^"]*)"`).FindStringSubmatch(text)[1]] = true
	}
	if len(paths) < 2900 || len(counts) != maxLinks || counts[1] < 800 || counts[2] < 800 || counts[3] < 800 {
		t.Errorf("%d different paths, numbers of links %v", len(paths), counts)
	}
}
