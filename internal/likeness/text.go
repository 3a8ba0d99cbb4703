package likeness

import (
	"strings"

	"golang.org/x/net/html"
)

// unread are elements whose text is none of the page's.
const unread = " script style noscript template title textarea iframe noembed noframes xmp "

// texts calls f with each text of a tree, without outer space, in their order.
func texts(root *html.Node, f func(n *html.Node, text string)) {
	for n := range root.Descendants() {
		if n.Type != html.TextNode || n.Parent == nil || among(unread, n.Parent.Data) {
			continue
		}
		if t := strings.TrimSpace(n.Data); t != "" {
			f(n, t)
		}
	}
}

// own is how much text of each node is the page's own: that of its descendants which few other pages have.
type own map[*html.Node]int

// ownText measures a page. shared reports whether a text is on many pages. Those of heading, which may be nil, are the page's own
// even so: the titles of a site's pages are often in a menu on all of them.
func ownText(root, heading *html.Node, shared func(text string) bool) own {
	o := own{}
	texts(root, func(n *html.Node, text string) {
		if !within(n, heading) && shared(text) {
			return
		}
		for p := n; p != nil; p = p.Parent {
			o[p] += len(text)
		}
	})
	return o
}

// mostOwn is the share of a page's own text that its content has, in hundredths.
const mostOwn = 80

// content returns the element that has the page's own text: the innermost in which most of it is. nil: the page has none.
func (o own) content(body *html.Node) *html.Node {
	if o[body] == 0 {
		return nil
	}
	best := body
	for n := body; n != nil; {
		var inner *html.Node
		for c := range n.ChildNodes() {
			if c.Type == html.ElementNode && c.Namespace == "" && o[c]*100 >= o[body]*mostOwn {
				inner = c
			}
		}
		if inner == nil || inner.Data == "p" || inner.Data == "a" {
			return best
		}
		if among(" body main article section div td ", inner.Data) {
			best = inner
		}
		n = inner
	}
	return best
}

func within(n, outer *html.Node) bool {
	for ; n != nil && outer != nil; n = n.Parent {
		if n == outer {
			return true
		}
	}
	return false
}

// element returns the first element of the name below n, or nil.
func element(n *html.Node, name string) *html.Node {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && d.Namespace == "" && d.Data == name {
			return d
		}
	}
	return nil
}

// innerText returns the text of n with single spaces.
func innerText(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
