package simulate

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// Bounds on what is taken from one page.
const (
	maxLinks = 500
	maxParts = 200
)

// page is what a browser finds in an HTML document: targets on the same site, each once, in the page's order.
type page struct {
	links   []string
	parts   []part
	refresh *refresh // nil: the page stays
}

// part is something that belongs to a page.
type part struct {
	target string
	dest   string // "style", "script", "image"
}

// refresh is a page's wish to go on to another one by itself.
type refresh struct {
	after  time.Duration
	target string
}

// parsePage reads an HTML document that was received from base. Hostile pages give an incomplete result, never more than the bounds.
func parsePage(base *url.URL, body []byte) *page {
	p := &page{}
	links, parts := map[string]bool{}, map[string]bool{}
	z := html.NewTokenizer(bytes.NewReader(body))
	z.SetMaxBuf(256 << 10)
	for {
		switch z.Next() {
		case html.ErrorToken:
			return p
		case html.StartTagToken, html.SelfClosingTagToken:
		default:
			continue
		}
		name, more := z.TagName()
		var tag string
		switch string(name) {
		case "noscript":
			// These browsers run no scripts. The tokenizer takes what is in it for text.
			if z.Next() == html.TextToken && p.refresh == nil {
				p.refresh = parsePage(base, z.Raw()).refresh
			}
			continue
		case "a", "link", "script", "img", "meta":
			tag = string(name)
		default:
			continue
		}
		var href, src, rel, equiv, content string
		for more {
			var key, value []byte
			key, value, more = z.TagAttr()
			switch string(key) {
			case "href":
				href = string(value)
			case "src":
				src = string(value)
			case "rel":
				rel = strings.ToLower(string(value))
			case "http-equiv":
				equiv = strings.ToLower(string(value))
			case "content":
				content = string(value)
			}
		}
		dest := ""
		switch tag {
		case "a":
			if target := resolve(base, href); target != "" && !links[target] && len(p.links) < maxLinks {
				links[target] = true
				p.links = append(p.links, target)
			}
			continue
		case "meta":
			if equiv == "refresh" && p.refresh == nil {
				p.refresh = parseRefresh(base, content)
			}
			continue
		case "link":
			switch rel {
			case "stylesheet":
				dest = "style"
			case "icon", "shortcut icon":
				dest = "image"
			default:
				continue
			}
			src = href
		case "script":
			dest = "script"
		case "img":
			dest = "image"
		}
		if target := resolve(base, src); target != "" && !parts[target] && len(p.parts) < maxParts {
			parts[target] = true
			p.parts = append(p.parts, part{target, dest})
		}
	}
}

// resolve returns the target of an address on base's site, "" for another site or none.
func resolve(base *url.URL, ref string) string {
	ref = strings.TrimSpace(ref)
	if ref == "" || ref[0] == '#' || len(ref) > 4096 {
		return ""
	}
	u, err := base.Parse(ref)
	if err != nil || u.Scheme != base.Scheme || u.Host != base.Host || u.User != nil {
		return ""
	}
	return u.RequestURI()
}

// parseRefresh reads "2;url=/next", as a Refresh header or a meta element has it. nil: it is not one, or leads to another site.
func parseRefresh(base *url.URL, s string) *refresh {
	seconds, rest, _ := strings.Cut(s, ";")
	n, err := strconv.ParseFloat(strings.TrimSpace(seconds), 64)
	if err != nil || !(n >= 0 && n <= 3600) {
		return nil
	}
	r := &refresh{after: time.Duration(n * float64(time.Second))}
	rest = strings.TrimSpace(rest)
	if len(rest) >= 4 && strings.EqualFold(rest[:4], "url=") {
		rest = strings.Trim(rest[4:], `"' `)
	}
	if rest == "" { // the page itself again
		r.target = base.RequestURI()
		return r
	}
	if r.target = resolve(base, rest); r.target == "" {
		return nil
	}
	return r
}

// parseSheet returns the fonts and pictures that a style sheet loads.
func parseSheet(base *url.URL, body []byte) []part {
	var list []part
	for rest := string(body); len(list) < maxParts; {
		_, after, ok := strings.Cut(rest, "url(")
		if !ok {
			break
		}
		ref, more, ok := strings.Cut(after, ")")
		if !ok {
			break
		}
		rest = more
		target := resolve(base, strings.Trim(strings.TrimSpace(ref), `"'`))
		if target == "" {
			continue
		}
		dest := "image"
		if path, _, _ := strings.Cut(target, "?"); strings.HasSuffix(path, ".woff2") || strings.HasSuffix(path, ".woff") {
			dest = "font"
		}
		list = append(list, part{target, dest})
	}
	return list
}

// retryAfter reads a Retry-After in seconds, 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil || n < 0 || n > 86400 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// maxAge reads how long an answer may be used without asking again.
func maxAge(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		directive = strings.TrimSpace(directive)
		switch name, value, _ := strings.Cut(directive, "="); name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if n, err := strconv.Atoi(value); err == nil && n > 0 && n <= 366*86400 {
				return time.Duration(n) * time.Second
			}
		}
	}
	return 0
}

// jar keeps a site's cookies.
type jar struct {
	cookies []*http.Cookie // in the order of their arrival
}

// maxCookies bounds what a jar keeps; browsers keep about 180 a site.
const maxCookies = 64

func (j *jar) keep(h http.Header) {
	for _, line := range h["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			continue // as browsers do
		}
		if c.Path == "" || c.Path[0] != '/' {
			c.Path = "/"
		}
		for i, old := range j.cookies {
			if old.Name == c.Name && old.Path == c.Path {
				j.cookies = append(j.cookies[:i], j.cookies[i+1:]...)
				break
			}
		}
		if c.MaxAge >= 0 && len(j.cookies) < maxCookies {
			j.cookies = append(j.cookies, c)
		}
	}
}

// line returns the Cookie header for a path.
func (j *jar) line(path, scheme string) string {
	var b strings.Builder
	for _, c := range j.cookies {
		if c.Secure && scheme != "https" || !pathMatches(path, c.Path) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Name + "=" + c.Value)
	}
	return b.String()
}

// pathMatches is RFC 6265, section 5.1.4.
func pathMatches(path, cookie string) bool {
	rest, ok := strings.CutPrefix(path, cookie)
	return ok && (rest == "" || strings.HasSuffix(cookie, "/") || rest[0] == '/')
}
