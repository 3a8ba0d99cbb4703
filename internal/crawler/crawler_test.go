package crawler_test

import (
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

var update = flag.Bool("update", false, "rewrite the lists in testdata")

func load(t testing.TB) *crawler.Catalogue {
	t.Helper()
	c, err := crawler.Default()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// userAgents returns the agents of one of the collections in testdata.
func userAgents(t testing.TB, name string) []string {
	t.Helper()
	var out []string
	var err error
	switch name {
	case "isbot-browsers.yml", "isbot-crawlers.yml":
		var groups map[string][]string
		err = yaml.Unmarshal(read(t, name), &groups)
		for _, group := range slices.Sorted(maps.Keys(groups)) {
			out = append(out, groups[group]...)
		}
	case "top-user-agents.json":
		err = json.Unmarshal(read(t, name), &out)
	case "user-agents-npm-browsers.csv":
		var rows [][]string
		rows, err = csv.NewReader(strings.NewReader(string(read(t, name)))).ReadAll()
		for _, row := range rows[1:] {
			out = append(out, row[0])
		}
	case "uap-core-firefox.yaml":
		var doc struct {
			Cases []struct {
				Agent string `yaml:"user_agent_string"`
			} `yaml:"test_cases"`
		}
		err = yaml.Unmarshal(read(t, name), &doc)
		for _, c := range doc.Cases {
			out = append(out, c.Agent)
		}
	case "sources/monperrus-crawler-user-agents.json":
		var bots []struct{ Instances []string }
		err = json.Unmarshal(read(t, name), &bots)
		for _, b := range bots {
			out = append(out, b.Instances...)
		}
	case "sources/arcjet-well-known-bots.json":
		var bots []struct{ Instances struct{ Accepted []string } }
		err = json.Unmarshal(read(t, name), &bots)
		for _, b := range bots {
			out = append(out, b.Instances.Accepted...)
		}
	default:
		t.Fatalf("unknown collection %s", name)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(out) < 90 {
		t.Fatalf("%s: only %d agents", name, len(out))
	}
	return out
}

// TestNoBrowserIsCalledACrawler is the promise that no reader is locked out for what
// the browser is called.
func TestNoBrowserIsCalledACrawler(t *testing.T) {
	c := load(t)
	excepted := map[string]bool{}
	for line := range strings.Lines(string(read(t, "browsers-that-are-not.txt"))) {
		if agent, reason, ok := strings.Cut(line, "\t"); ok && reason != "" && !strings.HasPrefix(line, "#") {
			excepted[agent] = true
		}
	}
	for _, name := range []string{"isbot-browsers.yml", "top-user-agents.json", "user-agents-npm-browsers.csv", "uap-core-firefox.yaml"} {
		for _, ua := range userAgents(t, name) {
			entry, start, end := c.Find(ua)
			if entry != nil && !excepted[ua] {
				t.Errorf("%s: %q names %s by %q", name, ua, entry.ID, ua[start:end])
			}
			if entry != nil {
				delete(excepted, ua)
			}
		}
	}
	for ua := range excepted {
		t.Errorf("excepted, but nothing matches: %q", ua)
	}
}

// TestSourcesAreCovered keeps the list of agents that the sources know and the
// catalogue does not, so that a change of either is seen.
func TestSourcesAreCovered(t *testing.T) {
	c := load(t)
	var b strings.Builder
	b.WriteString("# Example agents of the sources that the catalogue finds no crawler in.\n# Written by: go test ./internal/crawler -update\n")
	for _, source := range []struct {
		name  string
		least float64
	}{
		{"sources/monperrus-crawler-user-agents.json", 0.96},
		{"sources/arcjet-well-known-bots.json", 0.975},
		{"isbot-crawlers.yml", 0.60}, // no source of the catalogue; package agent knows most of the others for robots
	} {
		agents := userAgents(t, source.name)
		var missed []string
		for _, ua := range agents {
			if c.Match(ua) == nil {
				missed = append(missed, fmt.Sprintf("%q", ua))
			}
		}
		covered := 1 - float64(len(missed))/float64(len(agents))
		if covered < source.least {
			t.Errorf("%s: %.3f of %d covered, want %.3f", source.name, covered, len(agents), source.least)
		}
		fmt.Fprintf(&b, "\n## %s: %d of %d found\n%s\n", source.name, len(agents)-len(missed), len(agents), strings.Join(missed, "\n"))
	}
	const file = "testdata/misses.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(read(t, "misses.txt")); got != b.String() {
		t.Errorf("%s is not what the catalogue misses; if that is right, run the test with -update", file)
	}
}

func TestImportantAgents(t *testing.T) {
	c := load(t)
	chrome := "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; %s) Chrome/131.0.0.0 Safari/537.36"
	tests := []struct {
		agent, id string
		purpose   defense.Purpose
	}{
		{fmt.Sprintf(chrome, "GPTBot/1.2; +https://openai.com/gptbot"), "gptbot", "ai-training"},
		{fmt.Sprintf(chrome, "ChatGPT-User/1.0; +https://openai.com/bot"), "chatgpt-user", "ai-user"},
		{fmt.Sprintf(chrome, "OAI-SearchBot/1.0; +https://openai.com/searchbot"), "oai-searchbot", "ai-search"},
		{fmt.Sprintf(chrome, "ClaudeBot/1.0; +claudebot@anthropic.com"), "claudebot", "ai-training"},
		{fmt.Sprintf(chrome, "Claude-User/1.0; +Claude-User@anthropic.com"), "claude-user", "ai-user"},
		{fmt.Sprintf(chrome, "Claude-SearchBot/1.0; +https://www.anthropic.com"), "claude-searchbot", "ai-search"},
		{"anthropic-ai", "anthropic-ai", "ai-training"},
		{"CCBot/2.0 (https://commoncrawl.org/faq/)", "ccbot", "ai-training"},
		{"Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)", "bytespider", "ai-training"},
		{fmt.Sprintf(chrome, "Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot"), "amazonbot", "ai-training"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)", "applebot", "search"},
		{"Applebot-Extended/0.1", "applebot-extended", "ai-training"},
		{"Google-Extended", "google-extended", "ai-training"},
		{"GoogleOther-Image/1.0", "googleother", "other"},
		{"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "googlebot", "search"},
		{"Googlebot-Image/1.0", "googlebot-image", "search"},
		{"Mozilla/5.0 (compatible; Google-InspectionTool/1.0;)", "google-inspectiontool", "search"},
		{"AdsBot-Google (+http://www.google.com/adsbot.html)", "adsbot-google", "advertising"},
		{"Mozilla/5.0 (X11; Linux x86_64; Storebot-Google/1.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.88 Safari/537.36", "storebot-google", "search"},
		{"FeedFetcher-Google; (+http://www.google.com/feedfetcher.html)", "feedfetcher-google", "feed"},
		{"APIs-Google (+https://developers.google.com/webmasters/APIs-Google.html)", "apis-google", "other"},
		{"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "bingbot", "search"},
		{"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b", "bingpreview", "preview"},
		{"DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)", "duckduckbot", "search"},
		{"DuckAssistBot/1.2; (+http://duckduckgo.com/duckassistbot.html)", "duckassistbot", "ai-search"},
		{"Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", "yandexbot", "search"},
		{"Mozilla/5.0 (compatible; YandexFavicons/1.0; +http://yandex.com/bots)", "yandexfavicons", "preview"},
		{"Mozilla/5.0 (compatible; YandexSomethingNew/1.0; +http://yandex.com/bots)", "yandexbot", "search"},
		{"Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)", "baiduspider", "search"},
		{"Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)", "sogou", "search"},
		{"Mozilla/5.0 (compatible;PetalBot;+https://webmaster.petalsearch.com/site/petalbot)", "petalbot", "search"},
		{"meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", "meta-externalagent", "ai-training"},
		{"meta-externalfetcher/1.1", "meta-externalfetcher", "ai-user"},
		{"facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "facebookexternalhit", "preview"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0", "imessage-preview", "preview"},
		{"Twitterbot/1.0", "twitterbot", "preview"},
		{"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "slackbot", "preview"},
		{"Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", "discordbot", "preview"},
		{"TelegramBot (like TwitterBot)", "telegrambot", "preview"},
		{"WhatsApp/2.23.20.0", "whatsapp", "preview"},
		{"LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)", "linkedinbot", "preview"},
		{"http.rb/5.1.1 (Mastodon/4.2.0; +https://mastodon.example/) Bot", "mastodon", "preview"},
		{"Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)", "archive-org-bot", "archiver"},
		{"ia_archiver (+http://www.alexa.com/site/help/webmasters; crawler@alexa.com)", "ia-archiver", "archiver"},
		{fmt.Sprintf(chrome, "PerplexityBot/1.0; +https://perplexity.ai/perplexitybot"), "perplexitybot", "ai-search"},
		{fmt.Sprintf(chrome, "Perplexity-User/1.0; +https://perplexity.ai/perplexity-user"), "perplexity-user", "ai-user"},
		{fmt.Sprintf(chrome, "MistralAI-User/1.0; +https://docs.mistral.ai/robots"), "mistralai-user", "ai-user"},
		{"cohere-ai", "cohere-ai", "ai-user"},
		{"Mozilla/5.0 (Windows; U; Windows NT 5.1; en-US; rv:1.9.1.2) Gecko/20090729 Firefox/3.5.2 (.NET CLR 3.5.30729; Diffbot/0.1)", "diffbot", "scraper"},
		{"Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "ahrefsbot", "seo"},
		{"Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", "semrushbot", "seo"},
		{"Mozilla/5.0 (compatible; MJ12bot/v1.4.8; http://mj12bot.com/)", "mj12bot", "seo"},
		{"Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "uptimerobot", "monitor"},
		{"Feedly/1.0 (+http://www.feedly.com/fetcher.html; 12 subscribers; like FeedFetcher-Google)", "feedly", "feed"},
		{"Mozilla/5.0 (compatible; Miniflux/2.0.28; +https://miniflux.app)", "miniflux", "feed"},
		{"NetNewsWire (RSS Reader; https://netnewswire.com/)", "netnewswire", "feed"},
		{"Tiny Tiny RSS/21.06 (https://tt-rss.org/)", "tiny-tiny-rss", "feed"},
		{"Mozilla/5.0 zgrab/0.x", "zgrab", "security"},
		{"masscan/1.3 (https://github.com/robertdavidgraham/masscan)", "masscan", "security"},
		{"Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)", "censysinspect", "security"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36", "headlesschrome", "browser-agent"},
		{"curl/8.5.0", "curl", "tool"},
		{"likelike Googlebot/2.1", "googlebot", "search"},
		{"Wget/1.21.3", "wget", "tool"},
		{"python-requests/2.31.0", "python-requests", "tool"},
		{"Python/3.11 aiohttp/3.9.1", "aiohttp", "tool"},
		{"Go-http-client/2.0", "go-http-client", "tool"},
		{"Java/1.8.0_151", "java", "tool"},
		{"Scrapy/2.11.0 (+https://scrapy.org)", "scrapy", "scraper"},
		{"Mozilla/5.0 (compatible; YisouSpider/5.0)", "yisouspider", "search"},
		{"LCC (+http://corpora.informatik.uni-leipzig.de/crawler_faq.html)", "lcc", "academic"},
	}
	for _, tt := range tests {
		entry := c.Match(tt.agent)
		if entry == nil || entry.ID != tt.id || entry.Purpose != tt.purpose {
			t.Errorf("%q: got %+v, want %s (%s)", tt.agent, entry, tt.id, tt.purpose)
		}
		if entry != nil && c.ByID(tt.id) != entry {
			t.Errorf("ByID(%q) is another entry", tt.id)
		}
	}
}

func TestNotACrawler(t *testing.T) {
	c := load(t)
	for _, ua := range []string{
		"", "-", "Mozilla/5.0", "\x00\xff", "bot", "crawler", "spider", "MyBot/1.0", "Mozilla/5.0 (compatible; Spider)",
		"Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0; SLCC1; .NET CLR 2.0.50727)",
		"Mozilla/5.0 (Linux; Android 6.0; CUBOT MAX) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/72.0.3626.121 Mobile Safari/537.36",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Code/1.97.2 Chrome/128.0.6613.186 Electron/32.2.7 Safari/537.36",
		"git/2.45.2", "JGit/6.8.0", "Example/1.0 (like Googlebot)", "Example/1.0 LIKE Googlebot",
	} {
		if entry := c.Match(ua); entry != nil {
			t.Errorf("%q names %s", ua, entry.ID)
		}
	}
}

// TestPurposesThatCostReaders guards the purposes that a policy refuses: each entry
// called so is on this list because somebody looked at it.
func TestPurposesThatCostReaders(t *testing.T) {
	want := strings.Fields(`ai2bot amazonbot anthropic-ai applebot-extended bytespider ccbot chatglm-spider claudebot
		cohere-training-data-crawler cotoyogi deepseekbot facebookbot friendlycrawler google-extended gptbot img2dataset kangaroo-bot
		laiondownloader meta-externalagent pangubot sbintuitionsbot webzio-extended`)
	var got []string
	for _, entry := range load(t).All() {
		if entry.Purpose == defense.PurposeAITraining {
			got = append(got, entry.ID)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("entries called ai-training: %q\nwant %q", got, want)
	}
}

func TestCatalogueIsWellFormed(t *testing.T) {
	all := load(t).All()
	if len(all) < 1000 {
		t.Errorf("only %d entries", len(all))
	}
	generic := []string{"bot", "bots", "robot", "crawler", "spider", "scraper", "crawl", "fetcher", "mozilla", "chrome", "safari", "firefox", "android", "linux", "windows", "mobile"}
	for _, entry := range all {
		for _, token := range entry.Tokens {
			if slices.Contains(generic, strings.ToLower(strings.Trim(token, "/ "))) {
				t.Errorf("%s: %q is a word of its own", entry.ID, token)
			}
		}
	}
	if !slices.IsSortedFunc(all, func(a, b defense.Crawler) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("not sorted by id")
	}
}

func TestWhichOfSeveralTokensWins(t *testing.T) {
	c, err := crawler.New([]defense.Crawler{
		{ID: "library", Name: "Library", Purpose: defense.PurposeTool, Tokens: []string{"a-very-long-library-name"}},
		{ID: "site", Name: "Site", Purpose: defense.PurposeSearch, Tokens: []string{"example.org/all-the-bots"}},
		{ID: "short", Name: "Short", Purpose: defense.PurposeOther, Tokens: []string{"Bot-A"}},
		{ID: "long", Name: "Long", Purpose: defense.PurposeOther, Tokens: []string{"Bot-A-Extended", "Bot-B"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for agent, want := range map[string]string{
		"a-very-long-library-name/1":                         "library",
		"Bot-A a-very-long-library-name/1":                   "short",
		"New/1 (+http://example.org/all-the-bots)":           "site",
		"bot-a/1 (+http://example.org/all-the-bots)":         "short",
		"a-very-long-library-name example.org/all-the-bots/": "site",
		"Bot-A-Extended/1":                                   "long",
		"Bot-A Bot-B":                                        "short", // equally long: the leftmost
		"Bot-B Bot-A":                                        "long",
	} {
		if entry := c.Match(agent); entry == nil || entry.ID != want {
			t.Errorf("%q: got %v, want %s", agent, entry, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := defense.Crawler{ID: "a", Name: "A", Purpose: defense.PurposeOther, Tokens: []string{"abc"}}
	with := func(f func(*defense.Crawler)) []defense.Crawler { c := good; f(&c); return []defense.Crawler{c} }
	tests := []struct {
		name     string
		crawlers []defense.Crawler
		want     string
	}{
		{"no id", with(func(c *defense.Crawler) { c.ID = "" }), "has no id"},
		{"no name", with(func(c *defense.Crawler) { c.Name = "" }), "has no name"},
		{"no token", with(func(c *defense.Crawler) { c.Tokens = nil }), "has no token"},
		{"short token", with(func(c *defense.Crawler) { c.Tokens = []string{"ab"} }), "needs 3"},
		{"purpose", with(func(c *defense.Crawler) { c.Purpose = "ai-traning" }), "ai-training"},
		{"robots", with(func(c *defense.Crawler) { c.RespectsRobots = "maybe" }), "use yes, no"},
		{"proof", with(func(c *defense.Crawler) { c.Provable = []string{"word of honour"} }), "use range, dns"},
		{"same id", []defense.Crawler{good, good}, "used twice"},
		{"same token", []defense.Crawler{good, {ID: "b", Name: "B", Purpose: "other", Tokens: []string{"ABC"}}}, `belongs to "a"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := crawler.New(tt.crawlers); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestChangingWhatAllReturnsChangesNothing(t *testing.T) {
	c := load(t)
	c.All()[0].ID = "changed"
	if c.All()[0].ID == "changed" {
		t.Fatal("the catalogue changed")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	c := load(t)
	if n := testing.AllocsPerRun(100, func() { c.Match(browser); c.Match(gptbot) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestConcurrentMatch(t *testing.T) {
	c := load(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if c.Match(gptbot).ID != "gptbot" || c.Match(browser) != nil {
					t.Error("wrong")
				}
			}
		})
	}
	wg.Wait()
}

const (
	browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36 Edg/153.0.0.0"
	gptbot  = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
)

// FuzzMatch checks that what is found stands in the text at word boundaries and is a token of the entry.
func FuzzMatch(f *testing.F) {
	c := load(f)
	for _, ua := range []string{"", browser, gptbot, "\xffcurl\x00", "LCC", "SLCC1", strings.Repeat("bot/", 1000)} {
		f.Add(ua)
	}
	f.Fuzz(func(t *testing.T, ua string) {
		entry, start, end := c.Find(ua)
		if entry == nil {
			return
		}
		if !slices.ContainsFunc(entry.Tokens, func(token string) bool { return strings.EqualFold(token, ua[start:end]) }) {
			t.Fatalf("%q: %q is no token of %s", ua, ua[start:end], entry.ID)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	c := load(b)
	for name, ua := range map[string]string{"browser": browser, "crawler": gptbot} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Match(ua)
			}
		})
	}
}

func BenchmarkDefault(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		load(b)
	}
}
