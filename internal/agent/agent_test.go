package agent_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

func newParser(t testing.TB) *agent.Parser {
	t.Helper()
	c, err := crawler.Default()
	if err != nil {
		t.Fatal(err)
	}
	return agent.New(c)
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// short writes what a test says of an agent in one line.
func short(a defense.Agent) string {
	s := fmt.Sprintf("%s %s %d", a.Family, a.Name, a.Major)
	if a.OS != "" {
		s += " on " + a.OS
	}
	if a.Mobile {
		s += " mobile"
	}
	if a.Crawler != nil {
		s += " = " + a.Crawler.ID
	}
	return s
}

func TestParse(t *testing.T) {
	p := newParser(t)
	tests := []struct{ agent, want string }{
		// Browsers.
		{"MAXX_MAUI WAP Browser", "app MAXX_MAUI WAP Browser 0 mobile"},
		{"LAVA.KKT35+.FARSIGHTED60D_CN_11B_HW (MAUI/KKT35_S116_20130820;BDATE/2013/08/20 14:41;LCD/240320;CHIP/MT6260;KEY/Normal;TOUCH/0;CAMERA/1;SENSOR/0;DEV/FARSIGHTED60D_CN_11B_HW;WAP Browser/MAUI (HTTPS)) LAVA_KKT35_S116_20130820 Release/2013.08.20 WAP Browser/MAUI (HTTPS) Profile/ Q03C1-2.40 en-US", "app LAVA.KKT35+.FARSIGHTED60D_CN_11B_HW 0 mobile"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36", "browser Chrome 153 on Windows"},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Mobile Safari/537.36", "browser Chrome 153 on Android mobile"},
		{"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", "browser Chrome 140 on ChromeOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 26_6_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/154.0.8037.55 Mobile/15E148 Safari/604.1", "browser Chrome 154 on iOS mobile"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36 Edg/152.0.0.0", "browser Edge 152 on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/64.0.3282.140 Safari/537.36 Edge/17.17134", "browser Edge 17 on Windows"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 13_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 EdgiOS/44.10.19 Mobile/15E148 Safari/605.1.15", "browser Edge 44 on iOS mobile"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 OPR/125.0.0.0", "browser Opera 125 on Windows"},
		{"Opera/9.80 (Windows NT 6.1; U; en) Presto/2.10.229 Version/11.61", "browser Opera 11 on Windows"},
		{"Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; en) Opera 8.50", "browser Opera 8 on Windows"},
		{"Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", "browser Samsung Internet 28 on Android mobile"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0", "browser Firefox 156 on Linux"},
		{"Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "browser Firefox 140 on Android mobile"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/131.0 Mobile/15E148 Safari/605.1.15", "browser Firefox 131 on iOS mobile"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:102.0) Gecko/20100101 Goanna/6.7 Firefox/102.0 PaleMoon/33.3.1", "browser Pale Moon 33 on Windows"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0 SeaMonkey/2.53.19", "browser SeaMonkey 2 on Linux"},
		{"Mozilla/5.0 (X11; OpenBSD amd64; rv:130.0) Gecko/20100101 Firefox/130.0", "browser Firefox 130 on OpenBSD"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15", "browser Safari 26 on macOS"},
		{"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1", "browser Safari 17 on iOS mobile"},
		{"Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0; SLCC1; .NET CLR 2.0.50727)", "browser Internet Explorer 7 on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", "browser Internet Explorer 11 on Windows"},
		{"Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.3; WOW64; Trident/7.0; .NET4.0E)", "browser Internet Explorer 11 on Windows"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_3) AppleWebKit/537.36 (KHTML, like Gecko) Brave Chrome/80.0.3987.87 Safari/537.36", "browser Brave 80 on macOS"},
		{"Mozilla/5.0+(iPad;+CPU+OS+9_3_1+like+Mac+OS+X)+AppleWebKit/601.1.46+(KHTML,+like+Gecko)+Version/9.0+Mobile/13E238+Safari/601.1", "browser Safari 9 on iOS mobile"},
		{"Mozilla/5.0 (Linux; Android 6.0; CUBOT MAX Build/MRA58K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/51.0.2704.81 Mobile Safari/537.36", "browser Chrome 51 on Android mobile"},
		{"mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/120.0.0.0 safari/537.36", "browser Chrome 120 on Windows"},
		{"Lynx/2.9.0dev.10 libwww-FM/2.14 SSL-MM/1.4.1", "browser Lynx 2"},
		{"w3m/0.5.3+git20230121", "browser w3m 0"},
		{"Links (2.29; Linux 6.1.0 x86_64; GNU C 12.2; text)", "browser Links 2 on Linux"},
		{"ELinks/0.16.1.1 (textmode; Linux 6.1.0; 80x24-2)", "browser ELinks 0 on Linux"},
		{"NetSurf/3.11 (Linux)", "browser NetSurf 3 on Linux"},
		{"Dillo/3.1.1", "browser Dillo 3"},

		// Applications.
		{"Mozilla/5.0 (Linux; Android 9; Pixel Build/PQ3A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/77.0.3865.73 Mobile Safari/537.36", "app Android WebView 77 on Android mobile"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148", "app iOS WebView 0 on iOS mobile"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 11_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15G77 [FBAN/FBIOS;FBAV/183.0.0.41.81;FBBV/119182652]", "app Facebook 183 on iOS mobile"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) GSA/400.0.123 Mobile/15E148 Safari/604.1", "app Google App 400 on iOS mobile"},
		{"Luminary/70 CFNetwork/978.0.7 Darwin/18.5.0", "app Luminary 70"},
		{"ESPN App/6.12.0 Dalvik/2.1.0 (Linux; U; Android 9; SM-G965U Build/PPR1.180610.011)", "app ESPN App 6 on Android mobile"},
		{"ExampleApp/3.2 okhttp/4.9.0", "app ExampleApp 3"},
		{"Mozilla/5.0 (Linux) mirall/3.7.4 (Nextcloud, debian-6.1.0 ClientArchitecture: x86_64 OsArchitecture: x86_64)", "app Nextcloud 3 on Linux"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0", "app Thunderbird 128 on Linux"},

		// Git.
		{"git/2.45.2", "git git 2"},
		{"git/2.39.5 (Apple Git-154)", "git git 2"},
		{"JGit/6.8.0.202311291450-r", "git JGit 6"},
		{"git/2.0 (libgit2 1.7.1)", "git git 2"},
		{"go-git/5.x", "git go-git 5"},
		{"git-lfs/3.4.1 (GitHub; linux amd64; go 1.21)", "git git-lfs 3 on Linux"},

		// Catalogued: tools, feed readers, crawlers.
		{"curl/8.5.0", "tool curl 8 = curl"},
		{"okhttp/4.9.0", "tool okhttp 4 = okhttp"},
		{"Java/1.8.0_151", "tool Java 1 = java"},
		{"python-requests/2.31.0", "tool python-requests 2 = python-requests"},
		{"Mozilla/5.0 (compatible; Miniflux/2.0.28; +https://miniflux.app)", "feed Miniflux 2 = miniflux"},
		{"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)", "crawler GPTBot 1 = gptbot"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 8_3 like Mac OS X) AppleWebKit/600.1.4 (KHTML, like Gecko) Version/8.0 Mobile/12F70 Safari/600.1.4 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler Googlebot 2 on iOS mobile = googlebot"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36", "crawler HeadlessChrome 130 on Linux = headlesschrome"},

		// Robots that nobody catalogued but that say what they are.
		{"ExampleBot/1.7 (+https://example.org/bot)", "crawler ExampleBot 1"},
		{"Mozilla/5.0 (compatible; Example-Spider/3; +https://example.org/)", "crawler Example-Spider 3"},
		{"Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/100.0.0.0 Safari/537.36 (compatible; exampleBot2.1)", "crawler exampleBot2.1 0 on Windows"},
		{"Mozilla/5.0 (compatible; Example/2.0; +https://example.org/about)", "crawler Example 2"},
		{"Mozilla/5.0 (compatible; Example; +https://example.org/robot.html)", "crawler Example 0"},
		{"Example fetcher/4 (https://example.org/)", "crawler fetcher 4"},
		{"my crawler", "crawler crawler 0"},

		// Little, or nothing.
		{"Mozilla/5.0", "unknown  0"},
		{"Mozilla/5.0 (X11; Linux x86_64)", "unknown  0 on Linux"},
		{"Example/1.5", "unknown Example 1"},
		{"Example 1.5", "unknown Example 1"},
		{"Ruby", "tool Ruby 0"},
		{"node", "tool node 0"},
		{"-", "none  0"},
		{"", "none  0"},
		{"  \t ", "none  0"},
		{"\x1b[31mred\x00", "unknown  0"},
		{"\xff\xfe\xfd", "unknown  0"},
		{"Example\nSet-Cookie: a=b", "unknown Example 0"},
		{"Example/99999999999999999999", "unknown Example 0"},
	}
	for _, tt := range tests {
		if got := short(p.Parse(defense.Observed(tt.agent, true))); got != tt.want {
			t.Errorf("%q\n got %s\nwant %s", tt.agent, got, tt.want)
		}
	}
}

func TestUnobservedIsNotAbsent(t *testing.T) {
	p := newParser(t)
	if a := p.Parse(defense.Text{}); a.Family != defense.AgentUnknown {
		t.Errorf("not observed: %s", a.Family)
	}
	if a := p.Parse(defense.Observed("", false)); a.Family != defense.AgentNone || !a.Text.IsAbsent() {
		t.Errorf("absent: %s", a.Family)
	}
}

func TestTheTextIsKeptAsSent(t *testing.T) {
	long := " Example/1.0 " + strings.Repeat("x", 2*agent.MaxLength) + " GPTBot"
	a := newParser(t).Parse(defense.Observed(long, true))
	if a.Text.Value != long {
		t.Error("the text was changed")
	}
	if a.Crawler != nil || a.Name != "Example" {
		t.Errorf("read beyond MaxLength: %s", short(a))
	}
}

// TestRealBrowsersAreBrowsersOrApplications uses a month's sample of real traffic.
func TestRealBrowsersAreBrowsersOrApplications(t *testing.T) {
	p := newParser(t)
	rows, err := csv.NewReader(strings.NewReader(string(read(t, "../crawler/testdata/user-agents-npm-browsers.csv")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		a := p.Parse(defense.Observed(row[0], true))
		if a.Family != defense.AgentBrowser && a.Family != defense.AgentApp || a.Name == "" || a.OS == "" {
			t.Errorf("%q: %s", row[0], short(a))
		}
		if mobile := row[1] != "desktop"; a.Mobile != mobile {
			t.Errorf("%q is %s: %s", row[0], row[1], short(a))
		}
	}
	var top []string
	if err := json.Unmarshal(read(t, "../crawler/testdata/top-user-agents.json"), &top); err != nil {
		t.Fatal(err)
	}
	for _, ua := range top {
		if a := p.Parse(defense.Observed(ua, true)); a.Family != defense.AgentBrowser && a.Family != defense.AgentApp || a.Major == 0 && a.Name != "iOS WebView" && a.Name != "WebKit" {
			t.Errorf("%q: %s", ua, short(a))
		}
	}
	if len(rows) < 900 || len(top) < 90 {
		t.Errorf("only %d and %d agents", len(rows), len(top))
	}
}

// TestOddBrowsersAreRarelyUnknown uses a collection of old and strange ones.
func TestOddBrowsersAreRarelyUnknown(t *testing.T) {
	p := newParser(t)
	var groups map[string][]string
	if err := yaml.Unmarshal(read(t, "../crawler/testdata/isbot-browsers.yml"), &groups); err != nil {
		t.Fatal(err)
	}
	count, unknown := 0, 0
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		for _, ua := range groups[group] {
			count++
			switch a := p.Parse(defense.Observed(ua, true)); a.Family {
			case defense.AgentBrowser, defense.AgentApp:
			case defense.AgentUnknown:
				unknown++
				t.Logf("unknown: %q", ua)
			default:
				// What names a catalogued crawler is package crawler's to answer for.
				if a.Crawler == nil || a.Family != defense.AgentCrawler {
					t.Errorf("%q: %s", ua, short(a))
				}
			}
		}
	}
	if count < 500 || unknown > 15 {
		t.Errorf("%d of %d unknown", unknown, count)
	}
}

// TestUncataloguedRobotsAreSeen counts the robots of a collection that are not called browsers.
func TestUncataloguedRobotsAreSeen(t *testing.T) {
	p := newParser(t)
	var groups map[string][]string
	if err := yaml.Unmarshal(read(t, "../crawler/testdata/isbot-crawlers.yml"), &groups); err != nil {
		t.Fatal(err)
	}
	count, seen := 0, 0
	for _, agents := range groups {
		for _, ua := range agents {
			count++
			switch p.Parse(defense.Observed(ua, true)).Family {
			case defense.AgentCrawler, defense.AgentFeed, defense.AgentTool:
				seen++
			}
		}
	}
	if share := float64(seen) / float64(count); share < 0.75 {
		t.Errorf("%d of %d (%.2f) are seen", seen, count, share)
	}
}

// TestFamiliesOfUAPCore compares with the expectations of ua-parser's own tests. The
// shares are what was reached; the rest are strings that ua-parser itself special-cases.
func TestFamiliesOfUAPCore(t *testing.T) {
	p := newParser(t)
	families := map[string]struct {
		name  string
		least float64 // share with the right name and major version
	}{
		"Chrome": {"Chrome", 0.6}, "Chrome Mobile": {"Chrome", 1}, "Chrome Mobile iOS": {"Chrome", 1}, "Chrome Mobile WebView": {"Android WebView", 1},
		"Edge": {"Edge", 1}, "Edge Mobile": {"Edge", 1}, "Firefox": {"Firefox", 1}, "Firefox Mobile": {"Firefox", 1}, "Firefox iOS": {"Firefox", 1},
		"Safari": {"Safari", 0.5}, "Mobile Safari": {"Safari", 1}, "Mobile Safari UI/WKWebView": {"iOS WebView", 0.8},
		"Opera": {"Opera", 0.8}, "Opera Mobile": {"Opera", 1}, "Opera Mini": {"Opera Mini", 0.75}, "Opera Touch": {"Opera", 1}, "Opera GX": {"Opera", 0.5},
		"IE": {"Internet Explorer", 0.9}, "IE Mobile": {"IE Mobile", 1}, "Samsung Internet": {"Samsung Internet", 1}, "Brave": {"Brave", 1},
		"Vivaldi": {"Vivaldi", 1}, "Yandex Browser": {"Yandex Browser", 0.8}, "Whale": {"Whale", 1}, "Amazon Silk": {"Silk", 1}, "Coc Coc": {"Coc Coc", 1},
		"QQ Browser": {"QQ Browser", 1}, "QQ Browser Mobile": {"QQ Browser", 1}, "DuckDuckGo Mobile": {"DuckDuckGo", 1}, "Puffin": {"Puffin", 1},
		"Pale Moon": {"Pale Moon", 1}, "Thunderbird": {"Thunderbird", 1}, "Facebook": {"Facebook", 1}, "Instagram": {"Instagram", 1}, "WeChat Browser": {"WeChat", 1},
		"curl": {"curl", 1}, "Wget": {"Wget", 1}, "Go-http-client": {"Go-http-client", 1}, "Googlebot": {"Googlebot", 0.8}, "YandexBot": {"YandexBot", 1},
	}
	var doc struct {
		Cases []struct {
			Agent  string `yaml:"user_agent_string"`
			Family string
			Major  string
		} `yaml:"test_cases"`
	}
	if err := yaml.Unmarshal(read(t, "testdata/uap-core-test_ua.yaml"), &doc); err != nil {
		t.Fatal(err)
	}
	right, all := map[string]int{}, map[string]int{}
	for _, c := range doc.Cases {
		want, ok := families[c.Family]
		if !ok {
			continue
		}
		all[c.Family]++
		if c.Major == "" {
			c.Major = "0"
		}
		if a := p.Parse(defense.Observed(c.Agent, true)); a.Name == want.name && fmt.Sprint(a.Major) == c.Major {
			right[c.Family]++
		} else {
			t.Logf("%s %s: %s: %q", c.Family, c.Major, short(a), c.Agent)
		}
	}
	for family, want := range families {
		if share := float64(right[family]) / float64(all[family]); !(share >= want.least) {
			t.Errorf("%s: %d of %d right, want a share of %.2f", family, right[family], all[family], want.least)
		}
	}

	// And the Gecko browsers, whose names are many: the family must be right.
	var gecko struct {
		Cases []struct {
			Agent  string `yaml:"user_agent_string"`
			Family string
			Major  string
		} `yaml:"test_cases"`
	}
	if err := yaml.Unmarshal(read(t, "../crawler/testdata/uap-core-firefox.yaml"), &gecko); err != nil {
		t.Fatal(err)
	}
	firefox, correct := 0, 0
	for _, c := range gecko.Cases {
		a := p.Parse(defense.Observed(c.Agent, true))
		if a.Family != defense.AgentBrowser && a.Family != defense.AgentApp {
			t.Errorf("%q: %s", c.Agent, short(a))
		}
		if c.Family == "Firefox" {
			firefox++
			if a.Name == "Firefox" && fmt.Sprint(a.Major) == c.Major {
				correct++
			} else {
				t.Logf("Firefox %s: %s: %q", c.Major, short(a), c.Agent)
			}
		}
	}
	if firefox < 50 || float64(correct)/float64(firefox) < 0.95 {
		t.Errorf("%d of %d right", correct, firefox)
	}
}

const (
	chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36 Edg/153.0.0.0"
	safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.6.1 Mobile/15E148 Safari/604.1"
	gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
	nobody = "ExampleBot/1.7 (+https://example.org/bot)"
)

func TestParseDoesNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	p := newParser(t)
	for _, ua := range []string{chrome, safari, gptbot, nobody, "git/2.45.2", "curl/8.5.0"} {
		text := defense.Observed(ua, true)
		if n := testing.AllocsPerRun(100, func() { p.Parse(text) }); n != 0 {
			t.Errorf("%q: %v allocations", ua, n)
		}
	}
}

// FuzzParse checks what others rely on: names and numbers that are short and plain, and a crawler
// exactly where the family allows one.
func FuzzParse(f *testing.F) {
	p := newParser(f)
	for _, ua := range []string{chrome, safari, gptbot, nobody, "", "-", "bot", "Mozilla/", "/1.0", "(", "a/ b/ c/", "http://", "Opera 9", "MSIE", "rv:", "\xff/\xff", strings.Repeat("a/1 ", 500)} {
		f.Add(ua)
	}
	f.Fuzz(func(t *testing.T, ua string) {
		a := p.Parse(defense.Observed(ua, true))
		if len(a.Name) > 64 || strings.ContainsFunc(a.Name, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q: name %q", ua, a.Name)
		}
		if a.Major < 0 || a.Major > 999999 {
			t.Fatalf("%q: major version %d", ua, a.Major)
		}
		switch a.Family {
		case defense.AgentCrawler:
		case defense.AgentFeed:
			if a.Crawler == nil {
				t.Fatalf("%q: a feed reader without entry", ua)
			}
		case defense.AgentTool:
		default:
			if a.Crawler != nil {
				t.Fatalf("%q: %s", ua, short(a))
			}
		}
		if a != p.Parse(defense.Observed(ua, true)) {
			t.Fatalf("%q: two answers", ua)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	p := newParser(b)
	for _, bb := range []struct{ name, ua string }{{"chrome", chrome}, {"safari", safari}, {"crawler", gptbot}, {"uncatalogued", nobody}, {"git", "git/2.45.2"}} {
		b.Run(bb.name, func(b *testing.B) {
			text := defense.Observed(bb.ua, true)
			b.ReportAllocs()
			for b.Loop() {
				p.Parse(text)
			}
		})
	}
}
