package likeness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/charset"
)

// Bounds of what is learnt from.
const (
	MaxPages    = 64
	MaxPageSize = 1 << 20  // bytes of a page
	maxAll      = 16 << 20 // bytes of all pages
	minPages    = 2
)

// Learner learns from pages of a site. It is for one goroutine.
type Learner struct {
	pages []learntPage
	bytes int
	seen  map[uint64]int // on how many pages a text is, by its hash
}

// learntPage is a page that was added.
type learntPage struct {
	url     *url.URL
	html    []byte // in UTF-8
	size    int    // as it came
	title   string
	heading string // the first h1
	lang    string
	links   int
	latency time.Duration
}

// Add takes a page of the site: its full address, its HTML, and how long the site took to begin its answer (0: not known). The error
// says why a page is of no use; the others count all the same.
func (l *Learner) Add(address string, page []byte, latency time.Duration) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("likeness: %q is not an http or https address", address)
	}
	switch {
	case len(l.pages) >= MaxPages:
		return fmt.Errorf("likeness: %d pages are enough", MaxPages)
	case len(page) > MaxPageSize:
		return fmt.Errorf("likeness: %s has %d bytes; a page has at most %d", address, len(page), MaxPageSize)
	case l.bytes+len(page) > maxAll:
		return fmt.Errorf("likeness: the pages have more than %d bytes together", maxAll)
	}
	r, err := charset.NewReader(bytes.NewReader(page), "")
	if err != nil {
		return fmt.Errorf("likeness: %s: %w", address, err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		return fmt.Errorf("likeness: %s: %w", address, err)
	}
	p := learntPage{url: u, html: b.Bytes(), size: len(page), latency: latency}
	root, err := html.Parse(bytes.NewReader(p.html))
	if err != nil {
		return fmt.Errorf("likeness: %s: %w", address, err)
	}
	here := map[uint64]bool{}
	texts(root, func(_ *html.Node, text string) { here[hash(text)] = true })
	if len(here) == 0 {
		return fmt.Errorf("likeness: %s has no text", address)
	}
	if l.seen == nil {
		l.seen = map[uint64]int{}
	}
	for h := range here {
		l.seen[h]++
	}
	if t := element(root, "title"); t != nil {
		p.title = innerText(t)
	}
	if h := element(root, "h1"); h != nil {
		p.heading = innerText(h)
	}
	if e := element(root, "html"); e != nil && ValidLanguage(attribute(e, "lang")) {
		p.lang = attribute(e, "lang")
	}
	for n := range root.Descendants() {
		if n.Data == "a" && n.Type == html.ElementNode && attribute(n, "href") != "" {
			p.links++
		}
	}
	l.pages = append(l.pages, p)
	l.bytes += len(p.html)
	return nil
}

func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

// shared reports whether a text is on at least half of the pages.
func (l *Learner) shared(text string) bool {
	return l.seen[hash(text)]*2 >= max(len(l.pages), minPages+1)
}

// own measures a page.
func (l *Learner) own(root *html.Node) own {
	for i := range l.pages {
		if l.pages[i].heading != l.pages[0].heading {
			return ownText(root, element(root, "h1"), l.shared)
		}
	}
	return ownText(root, nil, l.shared) // all have one heading: the site's name
}

// Likeness returns the profile of the pages that were added. The error says why there is none: fewer than two pages of use, or pages
// without markup in common.
func (l *Learner) Likeness() (*Likeness, error) {
	if len(l.pages) < minPages {
		return nil, fmt.Errorf("likeness: %d pages of use; at least %d are needed", len(l.pages), minPages)
	}
	p := &Likeness{Version: Version, Classes: Classes{}}
	var titles, paths []string
	langs := map[string]int{}
	var sizes, links, latencies []int64
	for i := range l.pages {
		page := &l.pages[i]
		titles, paths = append(titles, page.title), append(paths, page.url.EscapedPath())
		sizes, links = append(sizes, int64(min(page.size, maxPage))), append(links, int64(min(page.links, maxLinks)))
		if page.latency > 0 {
			latencies = append(latencies, page.latency.Microseconds())
		}
		if page.lang != "" {
			langs[page.lang]++
		}
	}
	p.Language, _ = mostFrequent(langs)
	p.Title = titleOf(titles)
	p.Shapes = shapesOf(paths)
	p.PageSize, p.Links, p.Latency = QuantilesOf(sizes), QuantilesOf(links), QuantilesOf(latencies)
	typical, words, err := l.contents(p.Classes)
	if err != nil {
		return nil, err
	}
	if p.Words = (Quantiles{9, 22, 38, 61, 92, 128, 210, 260}); len(words) > 0 {
		p.Words = QuantilesOf(words)
	}
	if p.Shell, err = l.shellOf(typical); err != nil {
		return nil, fmt.Errorf("likeness: %s: %w", typical.url, err)
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("likeness: %w", err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("likeness: %w", err)
	}
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("likeness: the profile has %d bytes; want at most %d: try simpler pages", len(raw), MaxSize)
	}
	return p, nil
}

// contents looks at the contents of all pages. It sets the classes, and returns the page that is most like the others, and the numbers of
// words of paragraphs.
func (l *Learner) contents(classes Classes) (typical *learntPage, words []int64, err error) {
	uses := map[string]map[string]int{}
	for _, e := range Elements() {
		uses[e] = map[string]int{}
	}
	best := -1
	for i := range l.pages {
		root, err := html.Parse(bytes.NewReader(l.pages[i].html))
		if err != nil {
			return nil, nil, err // it was parsed before
		}
		body := element(root, "body")
		if body == nil {
			continue // a frame set
		}
		content := l.own(root).content(body)
		if content == nil {
			continue
		}
		common := 0
		texts(body, func(_ *html.Node, text string) {
			if l.shared(text) {
				common += len(text)
			}
		})
		if common > best {
			best, typical = common, &l.pages[i]
		}
		for n := range content.Descendants() {
			if n.Type != html.ElementNode || n.Namespace != "" || uses[n.Data] == nil {
				continue
			}
			if class := strings.Join(strings.Fields(attribute(n, "class")), " "); validClass(class) {
				uses[n.Data][class]++
			}
			if n.Data == "p" {
				if w := len(strings.Fields(innerText(n))); w > 0 {
					words = append(words, int64(min(w, maxWords)))
				}
			}
		}
	}
	if typical == nil {
		return nil, nil, errors.New("likeness: the pages have the same text: there is nothing that is the content of one")
	}
	for e, of := range uses {
		if class, ok := mostFrequent(of); ok && class != "" {
			classes[e] = class
		}
	}
	return typical, words, nil
}

// mostFrequent returns the key with the highest count; of several the first in the alphabet.
func mostFrequent(counts map[string]int) (string, bool) {
	best, found := "", false
	for key, n := range counts {
		if m := counts[best]; !found || n > m || n == m && key < best {
			best, found = key, true
		}
	}
	return best, found
}

// titleOf returns what titles have in common at their ends, up to a separator.
func titleOf(titles []string) Title {
	before, after := titles[0], titles[0]
	shortest := len(titles[0])
	for _, t := range titles[1:] {
		shortest = min(shortest, len(t))
		n := 0
		for n < len(before) && n < len(t) && before[n] == t[n] {
			n++
		}
		before = before[:n]
		n = 0
		for n < len(after) && n < len(t) && after[len(after)-1-n] == t[len(t)-1-n] {
			n++
		}
		after = after[len(after)-n:]
	}
	var title Title
	at := []int{}
	for _, sep := range []string{" | ", " - ", " – ", " — ", " · ", " » ", " :: ", ": ", " • "} {
		if i := strings.LastIndex(before, sep); i > 0 {
			at = append(at, i+len(sep))
		}
	}
	if len(at) > 0 {
		title.Before = before[:slices.Max(at)]
	}
	at = at[:0]
	for _, sep := range []string{" | ", " - ", " – ", " — ", " · ", " » ", " :: ", " • "} {
		if i := strings.Index(after, sep); i >= 0 {
			at = append(at, i)
		}
	}
	if len(at) > 0 {
		title.After = after[slices.Min(at):]
	}
	if len(title.Before)+len(title.After) >= shortest || max(len(title.Before), len(title.After)) > maxTitle {
		return Title{}
	}
	return title
}

// shellOf returns the page with slots instead of its content.
func (l *Learner) shellOf(p *learntPage) (string, error) {
	root, err := html.Parse(bytes.NewReader(p.html))
	if err != nil {
		return "", err
	}
	base := *p.url
	if b := element(root, "base"); b != nil {
		if u, err := base.Parse(attribute(b, "href")); err == nil && strings.EqualFold(u.Host, base.Host) {
			base = *u
		}
	}
	o := l.own(root)
	body := element(root, "body")
	content := o.content(body)
	cut(root, content, o)
	s := sanitizer{base: &base}
	s.clean(root)
	setHead(root)
	// What was taken out may let the rest be read differently: write and read it until it stays the same.
	for range 4 {
		shell, err := render(root)
		if err != nil {
			return "", err
		}
		shell = withSlots(shell)
		if err = checkShell(shell); err == nil {
			return shell, nil
		}
		if root, err = html.Parse(strings.NewReader(shell)); err != nil {
			return "", err
		}
		s := sanitizer{}
		s.clean(root)
	}
	shell, err := render(root)
	if err != nil {
		return "", err
	}
	return shell, checkShell(shell)
}

// Placeholders stand for slots while a page is cleaned, because slots that a page has itself are taken out. They are of private use.
const (
	placeMain    = "\uf8f0main\uf8f1"
	placeHeading = "\uf8f0heading\uf8f1"
	placeTitle   = "\uf8f0title\uf8f1"
)

func withSlots(shell string) string {
	return strings.NewReplacer(placeMain, markers[SlotMain]+markers[SlotWayOut], placeHeading, markers[SlotHeading], placeTitle, markers[SlotTitle]).Replace(shell)
}

// cut takes the content out of the page: what is between the first and the last of its parts that are the page's own.
func cut(root, content *html.Node, o own) {
	dropPlaceholders(root)
	var first, last *html.Node
	for c := range content.ChildNodes() {
		if o[c] > 0 {
			if first == nil {
				first = c
			}
			last = c
		}
	}
	content.InsertBefore(&html.Node{Type: html.TextNode, Data: placeMain}, first)
	for c := first; c != nil; {
		next := c.NextSibling
		content.RemoveChild(c)
		if c == last {
			break
		}
		c = next
	}
	if h := element(root, "h1"); h != nil && o[h] > 0 {
		for h.FirstChild != nil {
			h.RemoveChild(h.FirstChild)
		}
		h.AppendChild(&html.Node{Type: html.TextNode, Data: placeHeading})
	}
}

// dropPlaceholders takes characters of placeholders out of the page's own texts.
func dropPlaceholders(root *html.Node) {
	drop := strings.NewReplacer("\uf8f0", "", "\uf8f1", "")
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			n.Data = drop.Replace(n.Data)
		}
		for i := range n.Attr {
			n.Attr[i].Val = drop.Replace(n.Attr[i].Val)
		}
	}
}

// setHead gives the page a head with the metas of a shell and a title, after which come its style sheets.
func setHead(root *html.Node) {
	head := element(root, "head")
	for _, name := range []string{"meta", "title"} {
		for n := element(root, name); n != nil; n = element(root, name) {
			n.Parent.RemoveChild(n)
		}
	}
	title := &html.Node{Type: html.ElementNode, Data: "title"}
	title.AppendChild(&html.Node{Type: html.TextNode, Data: placeTitle})
	first := head.FirstChild
	for _, m := range append(shellMetas(), title) {
		head.InsertBefore(m, first)
	}
	hasDoctype := false
	for c := range root.ChildNodes() {
		hasDoctype = hasDoctype || c.Type == html.DoctypeNode
	}
	if !hasDoctype {
		root.InsertBefore(&html.Node{Type: html.DoctypeNode, Data: "html"}, root.FirstChild)
	}
}
