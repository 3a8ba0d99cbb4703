package trap

import (
	"bytes"
	"slices"
)

// MaxRobots is the size of a robots.txt in bytes up to which crawlers must read it (RFC 9309 section 2.5).
const MaxRobots = 500 << 10

// Robots returns a site's robots.txt with the prefix, as of [Prefix], disallowed for everybody; nil or an empty file is a site without one.
// Nothing else changes: the rule is put into each group, because a group for an agent replaces the one for all (RFC 9309), and first in it, because
// some programs stop at the first rule that matches. A site's own "Allow" that is longer than the prefix and matches below it still wins.
//
// A file that would become larger than [MaxRobots] gets a single group for all, before its own: what follows may not be read, and must not be
// pushed out of what is.
//
// The answer to a request for robots.txt that is no text, such as a page that says that there is none, should not be given to Robots.
func Robots(upstream []byte, prefix string) []byte {
	if len(upstream) < MaxRobots {
		if out := disallowInGroups(upstream, prefix); len(out) <= MaxRobots {
			return out
		}
	}
	at := len(upstream)
	for l := range robotsLines(upstream) {
		if l.kind == agentLine {
			at = l.start // rules before it speak to nobody, and must not speak to all
			break
		}
	}
	before := upstream[:at:at]
	if at > 0 && at == len(upstream) && !lineEnds(before) {
		before = append(before, '\n')
	}
	return slices.Concat(before, groupForAll(prefix, "\n"), []byte("\n"), upstream[at:])
}

// groupForAll is a group that disallows the prefix for all who have none of their own.
func groupForAll(prefix, end string) []byte {
	return []byte("User-agent: *" + end + "Disallow: " + prefix + end)
}

// disallowInGroups puts the rule behind the names of each group, and adds a group for all if there is none.
func disallowInGroups(file []byte, prefix string) []byte {
	out := make([]byte, 0, len(file)+len(file)/8+2*len(prefix)+64)
	names, all := 0, false // where the names of the group at hand end, 0 before them and behind its first rule; one was "*"
	done, end := 0, ""     // bytes of file that out has; how lines end
	rule := func() {
		if names == 0 {
			return
		}
		out = append(out, file[done:names]...)
		if !lineEnds(out) {
			out = append(out, end...)
		}
		out = append(out, "Disallow: "+prefix+end...)
		done, names = names, 0
	}
	for l := range robotsLines(file) {
		if end == "" {
			end = l.terminator
		}
		switch l.kind {
		case agentLine:
			names, all = l.end, all || l.all
		case ruleLine:
			rule()
		}
	}
	if end == "" {
		end = "\n"
	}
	rule()
	out = append(out, file[done:]...)
	if all {
		return out
	}
	if len(bytes.TrimPrefix(out, byteOrderMark)) > 0 {
		if !lineEnds(out) {
			out = append(out, end...)
		}
		out = append(out, end...)
	}
	return append(out, groupForAll(prefix, end)...)
}

// lineEnds reports whether a line has just ended.
func lineEnds(text []byte) bool {
	return len(text) > 0 && (text[len(text)-1] == '\n' || text[len(text)-1] == '\r')
}

// robotsLine is a line of a robots.txt.
type robotsLine struct {
	kind       lineKind
	all        bool   // the agent is "*"
	start, end int    // with its terminator
	terminator string // "" at the end of a file
}

type lineKind uint8

const (
	otherLine lineKind = iota
	agentLine
	ruleLine
)

var byteOrderMark = []byte("\ufeff")

// robotsLines iterates over the lines, read as package robots reads them.
func robotsLines(file []byte) func(yield func(robotsLine) bool) {
	return func(yield func(robotsLine) bool) {
		at := 0
		if bytes.HasPrefix(file, byteOrderMark) {
			at = len(byteOrderMark)
		}
		for at < len(file) {
			l := robotsLine{start: at, end: len(file)}
			text := file[at:]
			if n := bytes.IndexAny(text, "\r\n"); n >= 0 {
				l.terminator = string(text[n : n+1])
				if bytes.HasPrefix(text[n:], []byte("\r\n")) {
					l.terminator = "\r\n"
				}
				text = text[:n]
				l.end = at + n + len(l.terminator)
			}
			at = l.end
			text, _, _ = bytes.Cut(text, []byte("#"))
			key, value, ok := bytes.Cut(text, []byte(":"))
			if key = bytes.Trim(key, " \t"); ok && len(key) <= len("user-agent") {
				switch string(bytes.ToLower(key)) {
				case "user-agent", "useragent":
					l.kind = agentLine
					name := bytes.Trim(value, " \t")
					if n := bytes.IndexAny(name, "/ \t"); n >= 0 {
						name = name[:n]
					}
					l.all = string(name) == "*"
				case "allow", "disallow":
					l.kind = ruleLine
				}
			}
			if !yield(l) {
				return
			}
		}
	}
}
