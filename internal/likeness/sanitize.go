package likeness

import (
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

const (
	maxAttribute = 2 << 10  // bytes
	maxStyle     = 64 << 10 // bytes of one style element
)

// sanitizer takes out of a tree what a shell may not have. With a base, the address of the page, addresses are made relative to
// the site's root; without one they must be so already. It reports whether it changed anything, so that it checks as well.
type sanitizer struct {
	base    *url.URL
	changed bool
}

// clean cleans what is below n.
func (s *sanitizer) clean(n *html.Node) {
	for c := n.FirstChild; c != nil; {
		next := c.NextSibling
		switch c.Type {
		case html.ElementNode:
			next = s.element(n, c, next)
		case html.TextNode:
			s.set(&c.Data, s.text(n, c.Data))
		case html.DoctypeNode:
			if c.Data != "html" || len(c.Attr) > 0 {
				c.Data, c.Attr, s.changed = "html", nil, true
			}
		default:
			s.remove(n, c)
		}
		c = next
	}
}

// element cleans an element and returns what comes after it.
func (s *sanitizer) element(parent, n, next *html.Node) *html.Node {
	switch {
	case n.Namespace == "svg":
		if !among(keptSVG, n.Data) {
			s.remove(parent, n)
			return next
		}
	case n.Namespace != "", among(dropped, n.Data) && !isShellMeta(n):
		s.remove(parent, n)
		return next
	case isShellMeta(n):
		return next
	case !among(kept, n.Data):
		n.Data, n.DataAtom, s.changed = "div", 0, true
	}
	if !s.attributes(n) {
		s.remove(parent, n)
		return next
	}
	s.clean(n)
	return next
}

func (s *sanitizer) remove(parent, n *html.Node) {
	parent.RemoveChild(n)
	s.changed = true
}

func (s *sanitizer) set(to *string, value string) {
	if *to != value {
		*to, s.changed = value, true
	}
}

// isShellMeta reports whether n is one of the metas that a shell is given: character set, viewport and robots.
func isShellMeta(n *html.Node) bool {
	if n.Data != "meta" || n.Namespace != "" {
		return false
	}
	for _, m := range shellMetas() {
		if sameAttributes(n.Attr, m.Attr) {
			return true
		}
	}
	return false
}

func sameAttributes(a, b []html.Attribute) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// shellMetas returns the metas of a shell, in their order.
func shellMetas() []*html.Node {
	meta := func(a ...html.Attribute) *html.Node {
		return &html.Node{Type: html.ElementNode, Data: "meta", Attr: a}
	}
	return []*html.Node{
		meta(html.Attribute{Key: "charset", Val: "utf-8"}),
		meta(html.Attribute{Key: "name", Val: "viewport"}, html.Attribute{Key: "content", Val: "width=device-width, initial-scale=1"}),
		meta(html.Attribute{Key: "name", Val: "robots"}, html.Attribute{Key: "content", Val: "noindex, nofollow"}),
	}
}

// text returns the text without what would be taken for a slot, and a style sheet without addresses.
func (s *sanitizer) text(parent *html.Node, text string) string {
	if parent.Data == "style" {
		return cleanCSS(text)
	}
	if s.base == nil && allMarkers(text) {
		return text
	}
	return noMarkers(text)
}

// allMarkers reports whether every "{{" of the text begins a slot.
func allMarkers(text string) bool {
	for _, m := range markers {
		if m != "" {
			text = strings.ReplaceAll(text, m, "")
		}
	}
	return !strings.Contains(text, "{{")
}

func noMarkers(text string) string {
	for strings.Contains(text, "{{") {
		text = strings.ReplaceAll(text, "{{", "{ {")
	}
	return text
}

var (
	cssAddress = regexp.MustCompile(`(?i)(url|image-set|src|element)\s*\([^)]*\)?|@import[^;]*;?`)
	cssEscape  = regexp.MustCompile(`\\[0-9a-fA-F]{0,6}|/\*[^*]*\*+([^/*][^*]*\*+)*/|[<{]{2,}|<`)
	cssScript  = regexp.MustCompile(`(?i)expression|javascript`)
)

// cleanCSS returns the style sheet without addresses, and without escapes and comments, which could hide them.
func cleanCSS(css string) string {
	if len(css) > maxStyle {
		return ""
	}
	for {
		before := css
		css = cssEscape.ReplaceAllString(css, "")
		css = cssAddress.ReplaceAllString(css, "none")
		css = cssScript.ReplaceAllString(css, "none")
		if css == before {
			return css
		}
	}
}

// attributes cleans the attributes of n; false if n is of no use without those that had to go.
func (s *sanitizer) attributes(n *html.Node) bool {
	keep := n.Attr[:0]
	for _, a := range n.Attr {
		value, ok := s.attribute(n, a)
		if !ok {
			s.changed = true
			continue
		}
		s.set(&a.Val, value)
		keep = append(keep, a)
	}
	n.Attr = keep
	if n.Namespace != "" {
		return true
	}
	switch n.Data {
	case "img":
		return attribute(n, "src") != ""
	case "link":
		return attribute(n, "href") != ""
	case "input":
		switch strings.ToLower(attribute(n, "type")) {
		case "hidden", "password", "file", "image":
			return false
		}
	}
	return true
}

// attribute returns the value that an attribute may have, or false if it may not be there.
func (s *sanitizer) attribute(n *html.Node, a html.Attribute) (string, bool) {
	if a.Namespace != "" || len(a.Val) > maxAttribute {
		return "", false
	}
	value := noMarkers(a.Val)
	if n.Namespace == "svg" {
		return value, (among(keptSVGAttributes, a.Key) || isARIA(a.Key)) && !strings.Contains(strings.ToLower(value), "url")
	}
	switch a.Key {
	case "href":
		switch n.Data {
		case "a", "area":
			return s.address(value)
		case "link":
			if !usefulRel(n) {
				return "", false
			}
			if u, ok := s.address(value); ok {
				return u, true
			}
			return value, isStyleSheet(n) && strings.HasPrefix(value, "https://") && plainAddress(value)
		}
		return "", false
	case "src":
		if n.Data != "img" {
			return "", false
		}
		return s.address(value)
	case "rel":
		return value, n.Data == "link" && usefulRel(n)
	case "integrity", "crossorigin":
		return value, n.Data == "link"
	case "value":
		return value, n.Data == "input" && among(" submit button reset ", strings.ToLower(attribute(n, "type"))) || n.Data == "li" || n.Data == "data"
	case "style":
		clean := cleanCSS(value)
		return clean, clean != ""
	}
	return value, among(keptAttributes, a.Key) || isARIA(a.Key)
}

func isARIA(key string) bool { return strings.HasPrefix(key, "aria-") }

// usefulRel reports whether a link element is for the page's looks.
func usefulRel(n *html.Node) bool {
	for _, r := range strings.Fields(strings.ToLower(attribute(n, "rel"))) {
		if !among(" stylesheet icon shortcut apple-touch-icon ", r) {
			return false
		}
	}
	return attribute(n, "rel") != ""
}

func isStyleSheet(n *html.Node) bool { return strings.EqualFold(attribute(n, "rel"), "stylesheet") }

// address returns an address of the site relative to its root. Others are not kept.
func (s *sanitizer) address(ref string) (string, bool) {
	ref = strings.TrimSpace(ref)
	if strings.HasPrefix(ref, "#") && plainAddress(ref) {
		return ref, true
	}
	if s.base == nil {
		return ref, strings.HasPrefix(ref, "/") && !strings.HasPrefix(ref, "//") && plainAddress(ref)
	}
	u, err := s.base.Parse(ref)
	if err != nil || !strings.EqualFold(u.Host, s.base.Host) || u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	out := u.EscapedPath()
	if out == "" {
		out = "/"
	}
	if u.RawQuery != "" {
		out += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		out += "#" + u.EscapedFragment()
	}
	return out, !strings.HasPrefix(out, "//") && plainAddress(out)
}

// plainAddress reports whether an address has nothing that browsers and servers read differently.
func plainAddress(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == '\\' || s[i] == 0x7f {
			return false
		}
	}
	return !strings.Contains(s, "{{")
}

// attribute returns the value of an attribute, or "".
func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key && a.Namespace == "" {
			return a.Val
		}
	}
	return ""
}
