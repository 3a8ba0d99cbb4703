// Package agent reads what a User-Agent header claims: a browser and its version, a
// catalogued crawler, a feed reader, git, a library, an application.
//
// It believes everything and judges nothing. A scraper that writes "Chrome/153" is
// Chrome 153 here; that it does not behave like it is for others to notice, and they
// need to know what is claimed to do so.
package agent

import (
	"fmt"
	"strings"

	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/multimatch"
)

// MaxLength is how many bytes of a User-Agent are read; what stands behind is
// ignored. Real ones have up to some 500.
const MaxLength = 1024

// maxName bounds the product names taken from an agent's own text, in bytes.
const maxName = 64

// Parser turns User-Agent texts into agents. It is immutable and may be used by
// many goroutines at once.
type Parser struct {
	catalogue *crawler.Catalogue
	hints     *multimatch.Matcher
}

// What agents write that are robots and do not hide it. The matches are checked by robotWord.
var hintTexts = [...]string{"bot", "bots", "robots", "crawler", "crawl", "spider", "scraper", "http://", "https://", "+www."}

// firstAddressHint is the index in hintTexts from which on the hint is an address.
const firstAddressHint = 7

// New returns a parser that knows the crawlers of the catalogue.
func New(c *crawler.Catalogue) *Parser {
	patterns := make([]multimatch.Pattern, len(hintTexts))
	for i, text := range hintTexts {
		patterns[i].Text = text
	}
	hints, err := multimatch.New(patterns)
	if err != nil {
		panic(fmt.Sprintf("agent: constant patterns: %v", err)) // cannot happen: they are short and few
	}
	return &Parser{catalogue: c, hints: hints}
}

// Parse returns what the header claims. It never fails: a text that says nothing
// known is AgentUnknown, with the name and version of its first product if it has
// that form. An unobserved header is AgentUnknown, an absent or empty one AgentNone.
//
// Names. Browsers have their own ("Chrome", "Edge", "Opera", "Samsung Internet", "Firefox",
// "Safari", "Internet Explorer", …) on every platform; on iOS all of them are Safari inside,
// which OS tells. Browsers that write nothing but Chrome or Firefox are those. Crawlers, feed readers and
// tools have the catalogue's name. What is seen as a robot only because it says "bot" or
// links to a page about itself is AgentCrawler without Crawler. Web views, browsers inside an application and
// applications are AgentApp, with the version of the application where it is given.
func (p *Parser) Parse(ua defense.Text) defense.Agent {
	a := defense.Agent{Text: ua}
	if ua.Presence == defense.Unobserved {
		return a
	}
	text := ua.Value
	if len(text) > MaxLength {
		text = text[:MaxLength]
	}
	text = strings.Trim(text, " \t\"'")
	if text == "" || text == "-" {
		a.Family = defense.AgentNone
		return a
	}

	var s scan
	s.read(text)
	a.OS, a.Mobile = s.os, s.mobile
	product, version := firstProduct(text)

	if name := gitClient(product); name != "" {
		a.Family, a.Name, a.Major = defense.AgentGit, name, major(version)
		return a
	}
	if entry, _, end := p.catalogue.Find(text); entry != nil && !isCarrier(entry, product) {
		a.Crawler, a.Family, a.Name, a.Major = entry, familyOf(entry.Purpose), entry.Name, major(afterSlash(text[end:]))
		return a
	}
	if at, address, ok := p.hint(text); ok {
		a.Family = defense.AgentCrawler
		if address {
			a.Name, a.Major = s.linked, major(s.linkedVersion)
			if a.Name == "" && product != "Mozilla" {
				a.Name, a.Major = product, major(version)
			}
		} else {
			var rest string
			a.Name, rest = wordAround(text, at)
			a.Major = major(afterSlash(rest))
		}
		return a
	}
	if name, number, app, ok := s.browser(); ok {
		a.Family, a.Name, a.Major = defense.AgentBrowser, name, number
		if app {
			a.Family = defense.AgentApp
		}
		return a
	}
	if product == "Mozilla" {
		return a // nothing but the prefix that everybody sends
	}
	a.Name, a.Major = product, major(version)
	switch {
	case s.app || a.Mobile:
		a.Family = defense.AgentApp
	case isBareTool(text):
		a.Family = defense.AgentTool
	}
	return a
}

// familyOf returns the family of agents with the purpose.
func familyOf(p defense.Purpose) defense.AgentFamily {
	switch p {
	case defense.PurposeFeed:
		return defense.AgentFeed
	case defense.PurposeTool:
		return defense.AgentTool
	}
	return defense.AgentCrawler
}

// isCarrier reports whether the entry is a library that applications are built
// with and the text begins with the application's own name: "Example/1.2 okhttp/4.9".
//
// Telephones before the smart ones were made with Java in this sense.
func isCarrier(entry *defense.Crawler, product string) bool {
	switch entry.ID {
	case "okhttp", "dart", "java":
		return product != "" && product != "Mozilla" && !strings.EqualFold(product, entry.Name)
	}
	return false
}

// gitClient returns the name of a git client, or "".
func gitClient(product string) string {
	for _, name := range [...]string{"git", "JGit", "go-git", "git-lfs", "libgit2", "gitoxide", "dulwich", "EGit", "nodegit", "git-annex", "isomorphic-git"} {
		if strings.EqualFold(product, name) {
			return name
		}
	}
	return ""
}

// isBareTool reports whether the text is nothing but the name of a language or its
// runtime, which is what their HTTP libraries send when nobody thought about it.
func isBareTool(text string) bool {
	switch strings.ToLower(text) {
	case "ruby", "node", "node.js", "java", "python", "perl", "php", "lua", "client", "winhttp", "undici", "r", "dart":
		return true
	}
	return false
}

// hint finds the first place where a robot says that it is one; address is true
// when that is a link to a page.
func (p *Parser) hint(text string) (at int, address, ok bool) {
	p.hints.Each(text, func(i, start, end int) bool {
		if i >= firstAddressHint {
			// A name found further on tells more than the address.
			if !ok {
				at, address, ok = start, true, true
			}
			return true
		}
		if !robotWord(text, start, end) || ok && (start > at || inAddress(text, start)) {
			return true
		}
		at, address, ok = start, false, true
		return false
	})
	return at, address, ok
}

// robotWord reports whether text[start:end], a word such as "bot", ends a word, perhaps
// before a number. CUBOT makes telephones.
func robotWord(text string, start, end int) bool {
	if end < len(text) && isLetter(text[end]) {
		return false
	}
	begin := start
	for begin > 0 && isLetter(text[begin-1]) {
		begin--
	}
	return !strings.EqualFold(text[begin:end], "cubot") && !inAddress(text, start)
}

// inAddress reports whether the place is in an address, where a "/bot" is a page.
func inAddress(text string, at int) bool {
	word := text[strings.LastIndexAny(text[:at], " ;,(")+1 : at]
	return strings.Contains(word, "://") || strings.Contains(word, "www.") || strings.Contains(word, "@")
}

// wordAround returns the product name around the place, and what follows it.
func wordAround(text string, at int) (word, rest string) {
	begin, end := at, at
	for begin > 0 && isName(text[begin-1]) {
		begin--
	}
	for end < len(text) && isName(text[end]) {
		end++
	}
	return clip(strings.Trim(text[begin:end], "-._")), text[end:]
}

// firstProduct splits "Name of it/1.2 …" or "Name of it (…" at the first slash or bracket. The
// name has printable ASCII only.
func firstProduct(text string) (name, version string) {
	i := 0
	for i < len(text) && i < maxName && text[i] >= ' ' && text[i] <= '~' && text[i] != '/' && text[i] != '(' && text[i] != ';' && text[i] != '[' {
		i++
	}
	name = strings.TrimRight(text[:i], " -_,")
	if i < len(text) && text[i] == '/' {
		return name, text[i+1:]
	}
	// "name 1.2" without a slash.
	if at := strings.LastIndexByte(name, ' '); at > 0 && at+1 < len(name) && (isDigit(name[at+1]) || name[at+1] == 'v' && at+2 < len(name) && isDigit(name[at+2])) {
		return name[:at], name[at+1:]
	}
	return name, ""
}

// afterSlash returns what follows a slash, space or nothing before a version.
func afterSlash(rest string) string {
	if rest != "" && (rest[0] == '/' || rest[0] == ' ' || rest[0] == '-') {
		return rest[1:]
	}
	return rest
}

// major returns the number that a version begins with, 0 if it does not, or if it
// has more than six digits (a date, a build).
func major(version string) int {
	if version != "" && (version[0] == 'v' || version[0] == 'V') {
		version = version[1:]
	}
	n := 0
	for i := range len(version) {
		if !isDigit(version[i]) {
			break
		}
		if i == 6 {
			return 0
		}
		n = n*10 + int(version[i]-'0')
	}
	return n
}

func clip(name string) string {
	if len(name) > maxName {
		return name[:maxName]
	}
	return name
}

func isLetter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }
func isDigit(b byte) bool  { return '0' <= b && b <= '9' }

// isName reports whether b may stand in a product name taken from the middle of a text.
func isName(b byte) bool { return isLetter(b) || isDigit(b) || b == '-' || b == '_' || b == '.' }
