package profile

import (
	"fmt"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func noUserAgent(f facts) string {
	t := &f.p.Agent.Text
	switch {
	case t.IsAbsent():
		return "sends no User-Agent"
	case strings.TrimSpace(t.Value) == "":
		return "sends an empty User-Agent"
	}
	return ""
}

func bareUserAgent(f facts) string {
	switch ua := strings.TrimSpace(f.p.Agent.Text.Value); ua {
	case "Mozilla", "Mozilla/4.0", "Mozilla/5.0", "Mozilla/5.0 ()", "Chrome", "Firefox", "Safari", "-", "Mozilla/5.0 (compatible)", "Mozilla/5.0 (compatible;)":
		return "the whole User-Agent is " + quote(ua)
	}
	return ""
}

func templateUserAgent(f facts) string {
	ua := f.p.Agent.Text.Value
	if ua == "" {
		return ""
	}
	for i := range len(ua) {
		if c := ua[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "the User-Agent holds a control character: " + quote(ua)
		}
	}
	if hasPrefixFold(ua, "user-agent:") {
		return "the User-Agent repeats the header's name: " + quote(ua)
	}
	if c := ua[0]; (c == '"' || c == '\'') && len(ua) > 2 && ua[len(ua)-1] == c {
		return "the User-Agent has quotes around it: " + quote(ua)
	}
	switch ua {
	case "undefined", "null", "None", "nil", "[object Object]", "NaN", "true", "false":
		return "the User-Agent is " + quote(ua)
	}
	for i := range len(ua) {
		switch ua[i] {
		case '$', '{', '<', '`', '%':
			for _, mark := range [...]string{"${", "{{", "<?", "<script", "<%", "`", "%{", "%s", "%d", "() {"} {
				if strings.Contains(ua, mark) {
					return "the User-Agent holds what a program left in it or an injection: " + quote(ua)
				}
			}
			return ""
		}
	}
	return ""
}

func truncatedUserAgent(f facts) string {
	ua := f.p.Agent.Text.Value
	rest, ok := strings.CutPrefix(ua, "Mozilla/5.0 (")
	if !ok {
		return ""
	}
	comment, tail, closed := strings.Cut(rest, ")")
	if !closed {
		return "the User-Agent ends within its first comment: " + quote(ua)
	}
	tail = strings.TrimSpace(tail)
	// What a browser's comment says of the system is always followed by the engine.
	if tail == "" && (strings.HasPrefix(comment, "Windows NT 10.0; Win64; x64") || strings.HasPrefix(comment, "Macintosh; Intel Mac OS X 10_15_7")) && !strings.Contains(comment, "Trident") {
		return "the User-Agent ends before naming a browser: " + quote(ua)
	}
	if strings.HasPrefix(tail, "AppleWebKit/") && strings.IndexByte(tail, ' ') < 0 {
		return "the User-Agent ends after the engine: " + quote(ua)
	}
	return ""
}

func impossibleUserAgent(f facts) string {
	if f.p.Agent.Family != defense.AgentBrowser {
		return ""
	}
	ua := f.p.Agent.Text.Value
	b := f.browser
	system, _, _ := strings.Cut(ua, ")")
	if b.engine == engineWebKit && strings.Contains(ua, " Chrome/") {
		return "claims Chrome's own engine on iOS, where Chrome calls itself CriOS"
	}
	if i := strings.Index(system, "Windows NT 1"); i >= 0 && b.engine != engineOther {
		if major, _ := versionAt(system[i+len("Windows NT "):]); major > 10 {
			return fmt.Sprintf("claims Windows NT %d: browsers call every Windows since 10 \"Windows NT 10.0\"", major)
		}
	}
	switch b.engine {
	case engineChromium:
		// AppleWebKit/537.36 was frozen with Chrome 28, in 2013.
		if i := strings.Index(ua, "AppleWebKit/"); b.major >= 30 {
			if i < 0 {
				return fmt.Sprintf("claims Chrome %d without AppleWebKit, which its User-Agent always names", b.major)
			}
			if v := ua[i+len("AppleWebKit/"):]; b.plain && !strings.HasPrefix(v, "537.36") {
				version, _, _ := strings.Cut(v, " ")
				return fmt.Sprintf("claims Chrome %d with AppleWebKit/%s: it is 537.36 since version 28", b.major, quote(version))
			}
		}
		if b.major >= 50 && isAntique(system) {
			return fmt.Sprintf("claims Chrome %d on a Windows that it never ran on", b.major)
		}
		if build := buildOf(ua); b.plain && build != 0 && !isLikelyBuild(b.major, build) {
			return fmt.Sprintf("claims Chrome %d, build %d: there were builds near %d", b.major, build, likelyBuild(b.major))
		}
		if strings.Contains(ua, "Firefox/") && b.plain {
			return "claims both Chrome and Firefox"
		}
	case engineGecko:
		if b.major >= 60 && isAntique(system) {
			return fmt.Sprintf("claims Firefox %d on a Windows that it never ran on", b.major)
		}
		if !b.plain || b.major < 10 {
			return ""
		}
		if i := strings.Index(system, "rv:"); i >= 0 {
			// rv stays 109.0 from Firefox 110 to 119, to spare sites that took 11x for Internet Explorer 11.
			if rv, _ := versionAt(system[i+len("rv:"):]); rv != b.major && !(rv == 109 && b.major >= 110 && b.major <= 119) {
				return fmt.Sprintf("claims Firefox %d with rv:%d", b.major, rv)
			}
		}
	}
	return ""
}

// buildOf returns the third part of Chrome's version, 0 if there is none or it
// is hidden, as in every version since 101 on most systems.
func buildOf(ua string) int {
	_, version, _ := strings.Cut(ua, "Chrome/")
	version, _, _ = strings.Cut(version, " ")
	for range 2 {
		var ok bool
		if _, version, ok = strings.Cut(version, "."); !ok {
			return 0
		}
	}
	build, _ := number(version)
	return build
}

// builds are the branches from which releases of Chrome were built. They
// grow steadily, so those between lie near the line.
var builds = [...]struct{ major, build int }{
	{20, 1132}, {40, 2214}, {60, 3112}, {80, 3987}, {100, 4896}, {120, 6099}, {142, 7444}, {153, 8010},
}

// likelyBuild returns about which build a version has; 0 if the version is beyond the table.
func likelyBuild(major int) int {
	for i := 1; i < len(builds); i++ {
		low, high := builds[i-1], builds[i]
		if low.major <= major && major <= high.major {
			return low.build + (high.build-low.build)*(major-low.major)/(high.major-low.major)
		}
	}
	return 0
}

// isLikelyBuild allows for browsers that keep Chrome's name and have builds of
// their own, such as 69.0.3947; random numbers are rarely as near.
func isLikelyBuild(major, build int) bool {
	likely := likelyBuild(major)
	return likely == 0 || max(build-likely, likely-build) <= 500
}

// isAntique reports whether the system is a Windows before 2000.
func isAntique(system string) bool {
	for _, name := range [...]string{"Windows 95", "Windows 98", "Win 9x", "Windows NT 4", "Windows NT 3", "Windows CE"} {
		if strings.Contains(system, name) {
			return true
		}
	}
	return false
}

// When a major version was released, for estimates of others: Chrome 94 in September
// 2021, after which a release takes four weeks, before which six; Firefox stays within
// a few numbers of it since 2021.
var (
	release94  = time.Date(2021, time.September, 21, 0, 0, 0, 0, time.UTC)
	release146 = time.Date(2025, time.December, 9, 0, 0, 0, 0, time.UTC)
)

const week = 7 * 24 * time.Hour

// futureBrowser allows for a release every two weeks, which Chrome has begun, and
// for a dozen numbers of pre-releases.
func futureBrowser(f facts) string {
	if f.browser.engine == engineWebKit {
		return ""
	}
	limit := 158 + max(0, int(f.p.Time.Sub(release146)/(2*week)))
	if f.browser.major <= limit {
		return ""
	}
	return fmt.Sprintf("claims engine version %d; in %s no more than %d is likely", f.browser.major, f.p.Time.Format("January 2006"), limit)
}

func ancientBrowser(f facts) string {
	const years = 8
	if f.browser.engine == engineWebKit {
		return ""
	}
	// The number of eight years before, estimated low: six weeks a release before 2021, five after.
	then := f.p.Time.AddDate(-years, 0, 0).Sub(release94)
	per := 6 * week
	if then > 0 {
		per = 5 * week
	}
	limit := 94 + int(then/per)
	if f.browser.engine == engineGecko && then < 0 {
		limit -= 8 // Firefox caught up later
	}
	if f.browser.major >= limit {
		return ""
	}
	return fmt.Sprintf(", which was more than %d years old", years)
}

func headlessBrowser(f facts) string {
	if c := f.p.Agent.Crawler; c != nil && c.Purpose == defense.PurposeBrowserAgent {
		return "names itself " + quote(c.Name) + ", a driven browser"
	}
	return ""
}

func undocumentedBot(f facts) string {
	if f.p.Agent.Family != defense.AgentCrawler || f.p.Agent.Crawler != nil {
		return ""
	}
	name := f.p.Agent.Name
	if name == "" {
		name = f.p.Agent.Text.Value
	}
	return "says that it is a bot, " + quote(name) + ", that no catalogue knows"
}

func toolOnPage(f facts) string {
	if f.p.Agent.Family != defense.AgentTool || !f.isPage() {
		return ""
	}
	name := f.p.Agent.Name
	if name == "" {
		name = f.p.Agent.Text.Value
	}
	return "reads a page with " + quote(name)
}
