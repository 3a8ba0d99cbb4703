package profile

import "strings"

// normalPath returns the path that rules look at: percent-escapes decoded once,
// backslashes read as slashes, dot segments resolved, repeated slashes
// collapsed, and always with a leading slash ("*" stays). Escapes that cannot be
// decoded, path parameters, control characters and invalid UTF-8 are kept.
//
// Servers disagree about all of these, so the result is the reading in which a
// protected path is most likely to show: "//admin", "/%61dmin", "/x/..%2fadmin" and
// "/x/..;/admin" (which Java servers resolve) all become "/admin". A path that is
// already normal is returned as it is.
func normalPath(raw string) string {
	if raw == "*" || isNormal(raw) {
		return raw
	}
	// Decoding never lengthens, so one buffer serves for both steps.
	b := make([]byte, 0, len(raw)+1)
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' && i+2 < len(raw) {
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi < 16 && lo < 16 {
				c = hi<<4 | lo
				i += 2
			}
		}
		if c == '\\' {
			c = '/'
		}
		b = append(b, c)
	}
	return string(resolve(b))
}

// resolve removes dot segments and repeated slashes in place. The result is
// never longer than b plus the leading slash, for which b has room.
func resolve(b []byte) []byte {
	in := string(b)
	out := append(b[:0], '/')
	slash := true // out ends with a slash
	for len(in) > 0 {
		segment, rest, more := strings.Cut(in, "/")
		in = rest
		switch {
		case segment == "":
		case isDots(segment, "."):
		case isDots(segment, ".."):
			out = parent(out)
			slash = true
		default:
			if !slash {
				out = append(out, '/')
			}
			out = append(out, segment...)
			slash = false
			if more {
				out = append(out, '/')
				slash = true
			}
		}
	}
	return out
}

// parent cuts the last segment and keeps the slash before it.
func parent(path []byte) []byte {
	end := len(path)
	if end > 1 && path[end-1] == '/' {
		end--
	}
	for end > 1 && path[end-1] != '/' {
		end--
	}
	return path[:max(1, end)]
}

// isDots reports whether the segment is the dots, path parameters aside.
func isDots(segment, dots string) bool {
	rest, ok := strings.CutPrefix(segment, dots)
	return ok && (rest == "" || rest[0] == ';')
}

// isNormal reports whether normalPath would return the path unchanged.
func isNormal(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '%', '\\':
			return false
		case '/':
			if i+1 < len(s) && (s[i+1] == '/' || s[i+1] == '.' && dotsAt(s[i+1:])) {
				return false
			}
		}
	}
	return true
}

// dotsAt reports whether s begins with a segment "." or "..", with or without parameters.
func dotsAt(s string) bool {
	n := 1
	if len(s) > 1 && s[1] == '.' {
		n = 2
	}
	return len(s) == n || s[n] == '/' || s[n] == ';'
}

// isPlain reports whether every server reads the structure of the raw path
// alike: no backslash, no dot segment, no encoded slash, backslash, dot or control
// character. A client that writes "/thread/1/..%2f..%2frobots.txt" must not be taken at
// its word: the upstream may well serve the thread.
func isPlain(raw string) bool {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '\\' || c < ' ' || c == 0x7f:
			return false
		case c == '/' && i+1 < len(raw) && raw[i+1] == '.' && dotsAt(raw[i+1:]):
			return false
		case c == '%' && i+2 < len(raw):
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi > 15 || lo > 15 {
				continue
			}
			switch d := hi<<4 | lo; {
			case d == '/', d == '\\', d == '.', d == ';', d == '%', d < ' ', d == 0x7f:
				return false
			}
		}
	}
	return true
}

// splitTarget cuts a request target in origin form ("/path?query") or absolute
// form ("http://host/path?query") into its raw path and raw query. A fragment,
// which no client may send and most servers drop, ends the path.
func splitTarget(target string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	path, _, _ = strings.Cut(path, "#")
	if path != "" && path[0] != '/' {
		if i := strings.Index(path, "://"); i >= 0 {
			rest := path[i+3:]
			if j := strings.IndexByte(rest, '/'); j >= 0 {
				path = rest[j:]
			} else {
				path = "/"
			}
		}
	}
	if path == "" {
		path = "/"
	}
	return path, query
}

// unhex returns a hexadecimal digit's value, or 255.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
