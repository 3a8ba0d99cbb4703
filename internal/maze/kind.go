package maze

import "strings"

// Kind is what an address leads to.
type Kind uint8

const (
	// KindPage is an HTML page.
	KindPage Kind = iota
	// KindFeed is an RSS or Atom feed.
	KindFeed
	// KindSitemap is a sitemap or an index of them.
	KindSitemap
	// KindJSON is an answer of a web service.
	KindJSON
	// KindImage is a PNG or SVG image.
	KindImage
	// KindStyle is a style sheet.
	KindStyle
	// KindScript is a script.
	KindScript
	// KindStream is a page that comes slowly; its address looks like that of any page.
	KindStream
	// KindArchive is a file to download: .zip, .tar.gz, .jsonl or .csv.
	KindArchive
)

// String is the kind's name, as in metrics.
func (k Kind) String() string {
	names := [...]string{"page", "feed", "sitemap", "json", "image", "style", "script", "stream", "archive"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// tail is how much of a path's end is looked at: the addresses of the maze are shorter.
const tail = 256

// Kind returns what the path, escaped as it came, leads to. It does not allocate.
//
// With Options.Archives, every address that ends like an archive is one, also outside of the prefix: what a scraper fetches as the
// site's own data is then a copy that bears its mark.
func (m *Maze) Kind(path string) Kind {
	if f, ok := m.find(path); ok && f.role == roleStream && m.o.Streams > 0 {
		return KindStream
	}
	end := path[max(0, len(path)-tail):]
	slash := strings.LastIndexByte(end, '/')
	name := end[slash+1:]
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		switch {
		case foldIn(name, "feed", "rss", "atom"):
			return KindFeed
		case foldIn(lastSegment(strings.TrimSuffix(end, "/")), "feed", "rss", "atom"):
			return KindFeed
		case m.isAPI(path):
			return KindJSON
		}
		return KindPage
	}
	ext := name[dot+1:]
	switch {
	case foldIn(ext, "zip", "jsonl", "csv"), foldIn(ext, "gz") && hasSuffixFold(name, ".tar.gz"):
		if m.o.Archives > 0 {
			return KindArchive
		}
	case foldIn(ext, "xml"):
		if len(name) >= len("sitemap") && strings.EqualFold(name[:len("sitemap")], "sitemap") {
			return KindSitemap
		}
		return KindFeed
	case foldIn(ext, "rss", "atom"):
		return KindFeed
	case foldIn(ext, "json"):
		return KindJSON
	case foldIn(ext, "png", "jpg", "jpeg", "gif", "webp", "avif", "ico", "svg"):
		return KindImage
	case foldIn(ext, "css"):
		return KindStyle
	case foldIn(ext, "js", "mjs"):
		return KindScript
	}
	if m.isAPI(path) {
		return KindJSON
	}
	return KindPage
}

// Depth is how deep in the maze the path, escaped as it came, lies: 0 outside of the prefix, 1 for the pages that every page leads to,
// and at most 65,535. It does not allocate.
func (m *Maze) Depth(path string) int {
	if f, ok := m.find(path); ok {
		return int(f.depth)
	}
	if strings.HasPrefix(path, m.o.Prefix) {
		return 1
	}
	return 0
}

// isAPI reports whether the path looks like that of a web service.
func (m *Maze) isAPI(path string) bool {
	if rest, ok := strings.CutPrefix(path, m.o.Prefix); ok {
		return strings.HasPrefix(rest, "api/")
	}
	return strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/wp-json/")
}

func lastSegment(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func foldIn(s string, words ...string) bool {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
