package simulate

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

//go:embed browsers.csv
var browsersCSV string

// renderer decides which headers a browser sends.
type renderer uint8

const (
	chromium renderer = iota
	gecko
	webkit
	text // no pictures, style sheets, scripts
)

// program is one browser in one version on one system.
type program struct {
	engine   renderer
	family   string
	agent    string
	weight   float64
	brands   string // Sec-CH-UA, Chromium only
	platform string // Sec-CH-UA-Platform
	mobile   bool
}

// shares are the families' parts of a technical site's readers: more Firefox than elsewhere.
var shares = [...]struct {
	family string
	share  float64
}{
	{"chrome", 0.40}, {"chrome-android", 0.14}, {"safari-ios", 0.15}, {"safari", 0.07}, {"chrome-ios", 0.04}, {"edge", 0.07},
	{"firefox", 0.085}, {"firefox-android", 0.015}, {"samsung", 0.02}, {"opera", 0.008}, {"text", 0.002},
}

// programs are all browsers by family.
var programs = sync.OnceValue(func() map[string][]*program {
	rows, err := csv.NewReader(strings.NewReader(browsersCSV)).ReadAll()
	if err != nil {
		panic(fmt.Sprintf("browsers.csv: %v", err)) // embedded: a test reads it
	}
	m := map[string][]*program{}
	for _, row := range rows[1:] {
		weight, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			panic(fmt.Sprintf("browsers.csv: %v", err))
		}
		p := &program{family: row[0], agent: row[2], weight: weight}
		switch p.family {
		case "firefox", "firefox-android":
			p.engine = gecko
		case "safari", "safari-ios", "chrome-ios":
			p.engine = webkit
		default:
			p.hints()
		}
		m[p.family] = append(m[p.family], p)
	}
	m["text"] = []*program{
		{engine: text, family: "text", weight: 1, agent: "Lynx/2.9.2 libwww-FM/2.14 SSL-MM/1.4.1 OpenSSL/3.3.1"},
		{engine: text, family: "text", weight: 1, agent: "w3m/0.5.3+git20230121"},
	}
	return m
})

// pickProgram chooses a browser as readers have them.
func pickProgram(rng *rand.Rand) *program {
	i := weighted(rng, len(shares), func(i int) float64 { return shares[i].share })
	return pickOf(rng, shares[i].family)
}

// pickOf chooses a browser of a family.
func pickOf(rng *rand.Rand, family string) *program {
	list := programs()[family]
	return list[weighted(rng, len(list), func(i int) float64 { return list[i].weight })]
}

// hints fills in what a Chromium sends as client hints.
func (p *program) hints() {
	chrome := major(p.agent, "Chrome/")
	p.mobile = strings.Contains(p.agent, " Mobile ")
	switch {
	case strings.Contains(p.agent, "Android"):
		p.platform = `"Android"`
	case strings.Contains(p.agent, "Windows"):
		p.platform = `"Windows"`
	case strings.Contains(p.agent, "Macintosh"):
		p.platform = `"macOS"`
	default:
		p.platform = `"Linux"`
	}
	name, version := "Google Chrome", chrome
	switch p.family {
	case "edge":
		name, version = "Microsoft Edge", major(p.agent, "Edg/")
	case "opera":
		name, version = "Opera", major(p.agent, "OPR/")
	case "samsung":
		name, version = "Samsung Internet", major(p.agent, "SamsungBrowser/")
	}
	p.brands = brandList(chrome, name, version)
}

// brandList is Sec-CH-UA as Chromium writes it: its own name, the product's, and an invented one that changes with the version so
// that nobody relies on the form. The order changes with the version too.
func brandList(chromium int, name string, version int) string {
	const marks = ` (:-./);=?_`
	invented := fmt.Sprintf(`"Not%cA%cBrand";v="%s"`, marks[chromium%len(marks)], marks[(chromium+1)%len(marks)], [...]string{"8", "99", "24"}[chromium%3])
	orders := [...][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	order := orders[chromium%len(orders)]
	var list [3]string
	list[order[0]] = invented
	list[order[1]] = fmt.Sprintf(`"Chromium";v="%d"`, chromium)
	list[order[2]] = fmt.Sprintf(`"%s";v="%d"`, name, version)
	return strings.Join(list[:], ", ")
}

// major reads the number behind a name in a User-Agent, 0 if it is not there.
func major(agent, name string) int {
	_, rest, _ := strings.Cut(agent, name)
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	v, _ := strconv.Atoi(rest[:n]) // 0 is the answer for nothing
	return v
}

// languages are tags that readers have set, the first the most frequent.
var languages = [...]string{"en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "pt-BR", "nl-NL", "pl-PL", "it-IT", "ja-JP", "sv-SE", "cs-CZ"}

// acceptLanguage writes a language as the browser's engine does.
func (p *program) acceptLanguage(tag string) string {
	base, _, _ := strings.Cut(tag, "-")
	switch {
	case p.engine == text:
		return base
	case p.engine == gecko && base == "en":
		return tag + ",en;q=0.5"
	case p.engine == gecko:
		return base + "," + tag + ";q=0.8,en-US;q=0.5,en;q=0.3"
	case p.engine == webkit, base == "en":
		return tag + "," + base + ";q=0.9"
	}
	return tag + "," + base + ";q=0.9,en-US;q=0.8,en;q=0.7"
}

const (
	acceptChrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
	acceptPage   = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
)

// where says how a request came about, for fetch metadata and the Referer.
type where struct {
	site     string // Sec-Fetch-Site
	referrer string // whole address, or "" for none
	user     bool   // a person clicked or typed
	reload   bool
}

// navigation returns the headers with which the browser opens a page.
func (p *program) navigation(c *client, language string, from where) http.Header {
	secure := c.secure()
	h := p.common(c, language, secure)
	switch p.engine {
	case chromium:
		set(h, "Accept", acceptChrome)
		set(h, "Upgrade-Insecure-Requests", "1")
	case gecko:
		set(h, "Accept", acceptPage)
		set(h, "Upgrade-Insecure-Requests", "1")
	case webkit:
		set(h, "Accept", acceptPage)
		if c.scheme == "http" {
			set(h, "Upgrade-Insecure-Requests", "1")
		}
	case text:
		if strings.HasPrefix(p.agent, "w3m") {
			set(h, "Accept", "text/html, text/*;q=0.5, image/*, application/*")
		} else {
			set(h, "Accept", "text/html, text/plain, text/sgml, text/css, application/xhtml+xml, */*;q=0.01")
		}
	}
	if from.referrer != "" {
		set(h, "Referer", from.referrer)
	}
	if from.reload && p.engine != text {
		set(h, "Cache-Control", "max-age=0")
	}
	if secure && p.engine != text {
		set(h, "Sec-Fetch-Site", from.site)
		set(h, "Sec-Fetch-Mode", "navigate")
		set(h, "Sec-Fetch-Dest", "document")
		if from.user && p.engine != webkit {
			set(h, "Sec-Fetch-User", "?1")
		}
	}
	if c.scheme == "https" && p.engine != text {
		set(h, "Priority", "u=0, i")
	}
	return h
}

// part returns the headers with which the browser fetches a part of a page. dest is what Sec-Fetch-Dest says:
// "style", "script", "image", "font".
func (p *program) part(c *client, language, dest, page string) http.Header {
	secure := c.secure()
	h := p.common(c, language, secure)
	mode := "no-cors"
	switch dest {
	case "style":
		set(h, "Accept", "text/css,*/*;q=0.1")
	case "image":
		switch p.engine {
		case chromium:
			set(h, "Accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8")
		case gecko:
			set(h, "Accept", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5")
		default:
			set(h, "Accept", "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5")
		}
	case "font":
		mode = "cors"
		set(h, "Accept", "*/*")
		set(h, "Origin", c.origin())
	default:
		set(h, "Accept", "*/*")
	}
	set(h, "Referer", page)
	if secure {
		set(h, "Sec-Fetch-Site", "same-origin")
		set(h, "Sec-Fetch-Mode", mode)
		set(h, "Sec-Fetch-Dest", dest)
	}
	return h
}

// common returns the headers that the browser sends with every request.
func (p *program) common(c *client, language string, secure bool) http.Header {
	h := make(http.Header, 16)
	set(h, "User-Agent", p.agent)
	set(h, "Accept-Language", p.acceptLanguage(language))
	switch {
	case p.engine == text:
		set(h, "Accept-Encoding", "gzip, compress, bzip2")
		return h
	case !secure:
		set(h, "Accept-Encoding", "gzip, deflate")
	case p.engine == webkit:
		set(h, "Accept-Encoding", "gzip, deflate, br")
	default:
		set(h, "Accept-Encoding", "gzip, deflate, br, zstd")
	}
	if c.scheme == "http" {
		set(h, "Connection", "keep-alive")
	} else if p.engine == gecko {
		set(h, "Te", "trailers")
	}
	if secure && p.engine == chromium {
		set(h, "Sec-Ch-Ua", p.brands)
		set(h, "Sec-Ch-Ua-Mobile", map[bool]string{false: "?0", true: "?1"}[p.mobile])
		set(h, "Sec-Ch-Ua-Platform", p.platform)
	}
	return h
}

// set stores a header under a name in canonical form.
func set(h http.Header, name, value string) { h[name] = []string{value} }
