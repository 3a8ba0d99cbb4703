package accesslog

import "strings"

// scanner walks a JSON text without building it. It takes what is JSON and some
// things that are not (control characters in texts, forms of numbers): a log is read, not validated.
// Once something is wrong, bad stays true and every call returns nothing.
type scanner struct {
	s   string
	i   int
	bad bool
}

// maxDepth bounds objects and lists within each other.
const maxDepth = 32

func (j *scanner) space() {
	for j.i < len(j.s) {
		switch j.s[j.i] {
		case ' ', '\t', '\r', '\n':
			j.i++
		default:
			return
		}
	}
}

// peek returns the next byte that is no space, 0 at the end.
func (j *scanner) peek() byte {
	j.space()
	if j.bad || j.i >= len(j.s) {
		return 0
	}
	return j.s[j.i]
}

// open enters an object or a list, which begins with c.
func (j *scanner) open(c byte) bool {
	if j.peek() != c {
		j.bad = true
		return false
	}
	j.i++
	return true
}

// more goes to the next element of what ends with c; n counts the elements.
func (j *scanner) more(c byte, n int) bool {
	switch next := j.peek(); {
	case next == c:
		j.i++
		return false
	case n == 0 && next != 0:
		return true
	case next == ',':
		j.i++
		return j.peek() != 0
	}
	j.bad = true
	return false
}

// key reads a key and its colon.
func (j *scanner) key() string {
	k := j.text()
	if j.peek() != ':' {
		j.bad = true
		return ""
	}
	j.i++
	return k
}

// text reads a text in quotes.
func (j *scanner) text() string {
	if j.peek() != '"' {
		j.bad = true
		return ""
	}
	start := j.i + 1
	plain := true
	for i := start; i < len(j.s); i++ {
		switch j.s[i] {
		case '"':
			j.i = i + 1
			if plain {
				return j.s[start:i]
			}
			return unescape(j.s[start:i])
		case '\\':
			plain = false
			i++
		}
	}
	j.bad = true
	return ""
}

// scalar reads a text, number, true, false or null (as ""). Of a list it reads the
// first scalar, of an object nothing.
func (j *scanner) scalar() string {
	switch j.peek() {
	case '"':
		return j.text()
	case '[':
		start := j.i
		j.i++
		first := ""
		if c := j.peek(); c != ']' && c != '[' && c != '{' && c != 0 {
			first = j.scalar()
		}
		j.i = start
		j.skip(0)
		return first
	case '{', 0:
		j.skip(0)
		return ""
	}
	start := j.i
	for j.i < len(j.s) && strings.IndexByte(",]} \t\r\n", j.s[j.i]) < 0 {
		j.i++
	}
	if j.i == start {
		j.bad = true
	}
	if s := j.s[start:j.i]; s != "null" {
		return s
	}
	return ""
}

// skip passes over a value of any kind.
func (j *scanner) skip(depth int) {
	if depth > maxDepth {
		j.bad = true
		return
	}
	switch j.peek() {
	case 0:
		j.bad = true
	case '"':
		j.text()
	case '{':
		j.i++
		for n := 0; j.more('}', n); n++ {
			j.key()
			j.skip(depth + 1)
		}
	case '[':
		j.i++
		for n := 0; j.more(']', n); n++ {
			j.skip(depth + 1)
		}
	default:
		j.scalar()
	}
}

// end reports whether all was read and nothing was wrong.
func (j *scanner) end() bool { return j.peek() == 0 && !j.bad && j.i >= len(j.s) }
