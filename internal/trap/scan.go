package trap

import "bytes"

// scanner finds where in an HTML document the links go, in whatever pieces it comes. It follows the tokenizer of the HTML standard
// (https://html.spec.whatwg.org/multipage/parsing.html#tokenization), as far as that decides what is a tag, and knows of the tree only how
// deep it is in <template> and in SVG or MathML. A page that confuses it gets no links.
type scanner struct {
	state    state
	begun    bool // there was a tag, a doctype or text
	document bool // the first of them said that this is a whole document
	closing  bool // the tag at hand is an end tag
	single   bool // it ends with "/>"
	opening  bool // nothing but dashes has come since "<!--"
	escape   uint8
	dashes   int // that came last; in CDATA: brackets
	foreign  int // <svg> and <math> that are open
	template int // <template> that are open
	held     int // bytes at the end of what came that may be the beginning of "</body"
	name     name
	raw      name // of the element whose text the scanner is in
}

type state uint8

const (
	inText state = iota
	inTagOpen
	inEndTagOpen
	inTagName
	inTag // before an attribute's name
	inAttribute
	afterAttribute
	beforeValue
	inDoubleQuotes
	inSingleQuotes
	inBareValue
	inSlash // of "/>"
	inDeclaration
	inBogus // a comment that ends with the next ">", or a doctype
	inComment
	inCommentBang
	inCDATA
	inRaw
	inRawTagOpen
	inRawEndName
	inScript
	inScriptTagOpen
	inScriptBang
	inScriptBangDash
	inScriptEndName
	inScriptName // of a tag within <!-- in a script
	inPlaintext  // to the end
)

// How deep a script is in its own idea of a comment (the standard's "script data escaped" and "double escaped" states).
const (
	notEscaped = iota
	escaped
	doubleEscaped
)

// name is the beginning of a tag's name in lower case.
type name struct {
	text [10]byte // one more than the longest that matters, "plaintext"
	n    int
}

func (n *name) add(c byte) {
	if n.n < len(n.text) {
		n.text[n.n] = lower(c)
		n.n++
	}
}

func (n *name) is(s string) bool { return string(n.text[:n.n]) == s }

const bodyName = "body"

// maxHeld is the length of "</body".
const maxHeld = 2 + len(bodyName)

// scan reads the next piece. If found, the links go before p[at:]. If not, p[:at] is surely before them, and the rest may be the beginning of
// the tag that they go before. at is negative if that began with what was held of the pieces before; it is at least -maxHeld.
func (s *scanner) scan(p []byte) (at int, found bool) {
	tag := -s.held
	for i := 0; i < len(p); {
		c := p[i]
		switch s.state {
		case inText:
			if !s.begun {
				i++
				switch {
				case c == '<':
					tag, s.state = i-1, inTagOpen
				case !space(c) && c != 0xef && c != 0xbb && c != 0xbf: // a byte order mark
					s.begun = true
				}
				continue
			}
			n := bytes.IndexByte(p[i:], '<')
			if n < 0 {
				i = len(p)
				continue
			}
			tag, s.state = i+n, inTagOpen
			i += n + 1
		case inTagOpen:
			s.name.n, s.closing, s.single = 0, false, false
			switch {
			case letter(c):
				s.state = inTagName
				continue
			case c == '/':
				s.state = inEndTagOpen
			case c == '!':
				s.state = inDeclaration
			case c == '?':
				s.state = inBogus
			default:
				s.begun, s.state = true, inText
				continue
			}
			i++
		case inEndTagOpen:
			switch {
			case letter(c):
				s.closing, s.state = true, inTagName
				continue
			case c == '>':
				s.state = inText
			default:
				s.state = inBogus
			}
			i++
		case inTagName:
			if !space(c) && c != '/' && c != '>' {
				s.name.add(c)
				i++
				continue
			}
			if s.closing && s.name.is(bodyName) && s.foreign == 0 && s.template == 0 {
				return tag, true
			}
			s.state = inTag
		case inTag, inAttribute, afterAttribute:
			i++
			switch {
			case c == '>':
				s.endTag()
			case c == '/':
				s.state = inSlash
			case c == '=' && s.state != inTag:
				s.state = beforeValue
			case !space(c):
				s.state = inAttribute
			case s.state == inAttribute:
				s.state = afterAttribute
			}
		case inSlash:
			if c != '>' {
				s.state = inTag
				continue
			}
			i++
			s.single = true
			s.endTag()
		case beforeValue:
			i++
			switch {
			case c == '"':
				s.state = inDoubleQuotes
			case c == '\'':
				s.state = inSingleQuotes
			case c == '>':
				s.endTag()
			case !space(c):
				s.state = inBareValue
			}
		case inDoubleQuotes:
			i = s.until(p, i, '"', inTag)
		case inSingleQuotes:
			i = s.until(p, i, '\'', inTag)
		case inBareValue:
			i++
			if c == '>' {
				s.endTag()
			} else if space(c) {
				s.state = inTag
			}
		case inDeclaration:
			i += s.declaration(c)
		case inBogus:
			i = s.until(p, i, '>', inText)
		case inComment:
			if s.dashes == 0 && !s.opening {
				if n := bytes.IndexByte(p[i:], '-'); n < 0 {
					i = len(p)
					continue
				} else {
					i += n
					c = '-'
				}
			}
			i++
			s.comment(c)
		case inCommentBang:
			i++
			switch c {
			case '>':
				s.state = inText
			case '-':
				s.state, s.dashes = inComment, 1
			default:
				s.state = inComment
			}
		case inCDATA:
			i++
			switch {
			case c == ']':
				s.dashes++
			case c == '>' && s.dashes >= 2:
				s.state = inText
			default:
				s.dashes = 0
			}
		case inRaw:
			i = s.until(p, i, '<', inRawTagOpen)
		case inRawTagOpen:
			if c != '/' {
				s.state = inRaw
				continue
			}
			i++
			s.name.n, s.state = 0, inRawEndName
		case inRawEndName:
			i += s.rawEnd(c, inRaw)
		case inScript:
			if s.escape == notEscaped {
				i = s.until(p, i, '<', inScriptTagOpen)
				continue
			}
			i++
			s.escapedScript(c)
		case inScriptTagOpen:
			i += s.scriptTagOpen(c)
		case inScriptBang, inScriptBangDash:
			switch {
			case c != '-':
				s.state = inScript
				continue
			case s.state == inScriptBang:
				s.state = inScriptBangDash
			default:
				s.state, s.escape, s.dashes = inScript, escaped, 2
			}
			i++
		case inScriptEndName:
			i += s.rawEnd(c, inScript)
		case inScriptName:
			i += s.scriptName(c)
		case inPlaintext:
			i = len(p)
		}
	}
	s.held = 0
	if s.state == inTagOpen || s.state == inEndTagOpen || s.state == inTagName && s.closing && len(bodyName) >= s.name.n && s.name.is(bodyName[:s.name.n]) {
		s.held = len(p) - tag
	}
	return len(p) - s.held, false
}

// until skips to behind the next c, where the state changes to next.
func (s *scanner) until(p []byte, i int, c byte, next state) int {
	n := bytes.IndexByte(p[i:], c)
	if n < 0 {
		return len(p)
	}
	s.state = next
	return i + n + 1
}

// atEnd reports whether links may go where the document ends, which has not had a place for them before.
func (s *scanner) atEnd() bool {
	return s.document && s.state == inText && s.foreign == 0 && s.template == 0
}

// declaration reads a byte of what follows "<!" and returns 1, or 0 if it is to be read again.
func (s *scanner) declaration(c byte) int {
	s.name.add(c)
	switch {
	case s.name.is("--"):
		s.state, s.dashes, s.opening = inComment, 0, true
		return 1
	case s.name.is("doctype"):
		if !s.begun {
			s.begun, s.document = true, true
		}
		s.state = inBogus
		return 1
	case s.name.is("[cdata[") && s.foreign > 0:
		s.state, s.dashes = inCDATA, 0
		return 1
	}
	for _, known := range [...]string{"--", "doctype", "[cdata["} {
		if s.name.n <= len(known) && s.name.is(known[:s.name.n]) {
			return 1
		}
	}
	s.state = inBogus
	return 0
}

// comment reads a byte of a comment.
func (s *scanner) comment(c byte) {
	switch {
	case c == '-':
		s.dashes++
		return
	case c == '>' && (s.dashes >= 2 || s.opening):
		s.state = inText
	case c == '!' && s.dashes >= 2:
		s.state = inCommentBang
	}
	s.dashes, s.opening = 0, false
}

// rawEnd reads a byte of what may be the end tag of an element of text, and returns 1, or 0 if it is to be read again.
func (s *scanner) rawEnd(c byte, text state) int {
	switch {
	case letter(c):
		s.name.add(c)
		return 1
	case (space(c) || c == '/' || c == '>') && s.name.is(string(s.raw.text[:s.raw.n])):
		s.closing, s.single, s.escape, s.state = true, false, notEscaped, inTag
	default:
		s.state, s.dashes = text, 0
	}
	return 0
}

// escapedScript reads a byte of a script behind "<!--".
func (s *scanner) escapedScript(c byte) {
	switch {
	case c == '-':
		s.dashes++
		return
	case c == '<':
		s.state = inScriptTagOpen
	case c == '>' && s.dashes >= 2:
		s.escape = notEscaped
	}
	s.dashes = 0
}

// scriptTagOpen reads the byte behind a "<" in a script and returns 1, or 0 if it is to be read again.
func (s *scanner) scriptTagOpen(c byte) int {
	s.name.n = 0
	switch {
	case c == '/' && s.escape == doubleEscaped:
		s.state = inScriptName
	case c == '/':
		s.state = inScriptEndName
	case c == '!' && s.escape == notEscaped:
		s.state = inScriptBang
	case letter(c) && s.escape == escaped:
		s.state = inScriptName
		return 0
	default:
		s.state = inScript
		return 0
	}
	return 1
}

// scriptName reads a byte of a tag's name within <!-- in a script: <script> goes one deeper, </script> comes back. It returns 1, or 0 if
// the byte is to be read again.
func (s *scanner) scriptName(c byte) int {
	switch {
	case letter(c):
		s.name.add(c)
		return 1
	case space(c) || c == '/' || c == '>':
		if s.name.is("script") {
			s.escape = escaped + doubleEscaped - s.escape
		}
		s.state = inScript
		return 1
	}
	s.state = inScript
	return 0
}

// endTag is called at the ">" of a tag.
func (s *scanner) endTag() {
	s.state = inText
	known := s.name.text[:s.name.n]
	if !s.begun {
		s.begun = true
		switch string(known) {
		case "html", "head", "body":
			s.document = !s.closing
		}
	}
	// Where a tag may be one of SVG, "/>" ends the element; in HTML it means nothing.
	if s.foreign > 0 && s.single && !s.closing {
		return
	}
	switch string(known) {
	case "svg", "math":
		if s.closing || !s.single {
			count(&s.foreign, s.closing)
		}
	case "template":
		count(&s.template, s.closing)
	case "script":
		if !s.closing {
			s.raw, s.state, s.escape, s.dashes = s.name, inScript, notEscaped, 0
		}
	case "style", "textarea", "title", "noscript", "iframe", "noembed", "noframes", "xmp":
		if !s.closing {
			s.raw, s.state = s.name, inRaw
		}
	case "plaintext":
		if !s.closing {
			s.state = inPlaintext
		}
	}
}

// count counts elements that are open; an end tag too many is ignored.
func count(open *int, closing bool) {
	if !closing {
		*open++
	} else if *open > 0 {
		*open--
	}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func letter(c byte) bool { c |= 0x20; return 'a' <= c && c <= 'z' }

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' }
