package challenge

import "strings"

// maxTarget bounds the address that a challenge returns to, in bytes.
const maxTarget = 4096

// returnTarget is the path and query that a challenge returns to: what was
// asked for if it is a path of this site, else the site's root.
func returnTarget(target string) string {
	if len(target) > maxTarget || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, Prefix) || hasControl(target) {
		return "/"
	}
	return target
}

// hasControl reports whether there is a control character: in a header it would end the line, and browsers drop
// tabs and line ends from addresses, so that "/<tab>/evil" is "//evil" to them.
func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

const upperHex = "0123456789ABCDEF"

// Location turns a request target of this site into an address that no client takes
// for another host: "//x" and "/\x" would be read as a network path. Bytes beyond ASCII are escaped, which is the
// same address.
func Location(target string) string {
	var b strings.Builder
	if len(target) > 1 && (target[1] == '/' || target[1] == '\\') {
		b.WriteString("/.") // RFC 3986 section 5.2.4 removes the "/."
	}
	for i := 0; i < len(target); i++ {
		c := target[i]
		if c < 0x80 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

// queryEscape escapes every byte that is not unreserved or "/", so that any
// target comes back byte for byte. net/url would turn invalid escapes and spaces into other bytes.
func queryEscape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '-' || c == '.' || c == '_' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

// queryUnescape undoes queryEscape, and what browsers do to a form: "+" is a space.
func queryUnescape(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// MaxForm bounds what comes to the pass address, in its query or as a form, in bytes.
const MaxForm = 3*maxTarget + maxAnswer + 1024

// WayOut is the address of the challenge that leads out of the tarpit and back to target.
func WayOut(target string) string { return WayOutPath + "?to=" + queryEscape(returnTarget(target)) }

// Form is what comes to the pass address.
type Form struct {
	Ticket string
	To     string // the address to return to
	Answer string // of kinds work and question
	Trap   string // a field that people do not see
	Token  string // what a provider's widget gave
	Plain  bool   // the visitor takes the way without JavaScript
}

// Parse reads the pass address's query, or a form, into f. What is not understood is left out; it returns false
// when it is longer than MaxForm or not well formed. captchaField names the field of a provider's widget.
func (f *Form) Parse(raw, captchaField string) bool {
	if len(raw) > MaxForm {
		return false
	}
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		var into *string
		switch name {
		case "ticket":
			into = &f.Ticket
		case "to":
			into = &f.To
		case "answer":
			into = &f.Answer
		case TrapField:
			into = &f.Trap
		case "plain":
			f.Plain = value == "1"
			continue
		default:
			if captchaField == "" || name != captchaField {
				continue
			}
			into = &f.Token
		}
		text, ok := queryUnescape(value)
		if !ok {
			return false
		}
		*into = text
	}
	return true
}
