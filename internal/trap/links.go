package trap

import (
	"encoding/binary"
	"hash"
	"math/rand/v2"
	"strconv"
)

// below returns a number from 0 to n-1. That the lowest are drawn more often, by n/2⁶⁴, does not matter here.
func below(r *rand.PCG, n int) int { return int(r.Uint64() % uint64(n)) }

func pick(r *rand.PCG, of []string) string { return of[below(r, len(of))] }

// Words that stand in addresses and texts of links. None of them is changed after the program has started.
var (
	prefixWords = []string{
		"archive", "records", "library", "journal", "notes", "papers", "catalog", "reference", "collection", "history", "resources", "materials",
		"listing", "index", "topics", "letters", "reports", "documents", "registry", "bulletin", "gazette", "digest", "appendix", "annals",
	}
	slugWords = []string{
		"annual", "summary", "overview", "review", "public", "open", "early", "late", "first", "second", "regional", "general",
		"report", "survey", "study", "notes", "index", "table", "figures", "minutes", "survey-data", "draft", "edition", "supplement",
		"water", "garden", "harbour", "market", "railway", "museum", "school", "bridge", "forest", "weather", "coast", "valley",
		"budget", "planning", "meeting", "members", "press", "events", "guide", "manual", "letters", "sources", "maps", "photos",
	}
	linkTexts = []string{
		"Archive", "All entries", "Older entries", "Further reading", "Full text", "Complete list", "Related documents", "Previous edition",
		"Index of sources", "Annual summary", "Appendix", "More notes", "Background", "Original version", "Supplement", "Tables and figures",
	}
	wrappers = []string{"span", "div", "p"}
)

const maxLinks = 3

// appendLinks appends the one to three links of the page at that path. Both the links and what holds them are hidden, because a site's own
// style for one of the elements ("a { display: block }") overrides the attribute.
func (t *Traps) appendLinks(dst []byte, mac hash.Hash, path string) []byte {
	mac.Reset()
	start := len(dst)
	for rest := path; rest != ""; { // through a little memory: there are very long paths
		n := min(len(rest), 256)
		dst = append(dst[:start], rest[:n]...)
		mac.Write(dst[start:])
		rest = rest[n:]
	}
	dst = mac.Sum(dst[:start])
	var r rand.PCG
	r.Seed(binary.LittleEndian.Uint64(dst[start:]), binary.LittleEndian.Uint64(dst[start+8:]))
	dst = dst[:start]

	wrapper := pick(&r, wrappers)
	dst = append(dst, '<')
	dst = append(dst, wrapper...)
	dst = append(dst, ` hidden aria-hidden="true">`...)
	for range 1 + below(&r, maxLinks) {
		dst = t.appendLink(dst, &r)
	}
	dst = append(dst, "</"...)
	dst = append(dst, wrapper...)
	return append(dst, '>')
}

// appendLink appends one, in one of several ways of writing it.
func (t *Traps) appendLink(dst []byte, r *rand.PCG) []byte {
	switch below(r, 3) {
	case 0:
		dst = append(dst, `<a href="`...)
		dst = t.appendPath(dst, r)
		dst = append(dst, `" rel="nofollow" hidden aria-hidden="true" tabindex="-1">`...)
	case 1:
		dst = append(dst, `<a rel="nofollow" tabindex="-1" aria-hidden="true" hidden href="`...)
		dst = t.appendPath(dst, r)
		dst = append(dst, `">`...)
	default:
		dst = append(dst, `<a hidden tabindex="-1" href="`...)
		dst = t.appendPath(dst, r)
		dst = append(dst, `" aria-hidden="true" rel="nofollow">`...)
	}
	dst = append(dst, pick(r, linkTexts)...)
	return append(dst, "</a>"...)
}

// appendPath appends the path of a trap.
func (t *Traps) appendPath(dst []byte, r *rand.PCG) []byte {
	dst = append(dst, t.prefix...)
	switch below(r, 4) {
	case 0:
		dst = strconv.AppendInt(dst, int64(2004+below(r, 20)), 10)
		dst = append(dst, '/')
	case 1:
		dst = append(dst, pick(r, slugWords)...)
		dst = append(dst, '/')
	}
	for range 1 + below(r, 2) {
		dst = append(dst, pick(r, slugWords)...)
		dst = append(dst, '-')
	}
	dst = append(dst, pick(r, slugWords)...)
	switch below(r, 4) {
	case 0:
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, int64(2+below(r, 998)), 10)
	case 1:
		dst = append(dst, ".html"...)
	case 2:
		dst = append(dst, '/')
	}
	return dst
}
