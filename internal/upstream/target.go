package upstream

import (
	"fmt"
	"net/http"
	"strings"
)

// requestTarget returns the request-target to send: the client's own, byte for
// byte, in origin-form or asterisk-form (RFC 9112 §3.2).
func requestTarget(r *http.Request, override string) (string, error) {
	t := override
	if t == "" {
		t = r.RequestURI
	}
	if t == "" && r.URL != nil { // a request that no server parsed
		t = r.URL.RequestURI()
	}
	if t == "*" {
		if r.Method != http.MethodOptions {
			return "", fmt.Errorf("target * with method %.20q", r.Method)
		}
		return t, nil
	}
	if t == "" {
		return "", fmt.Errorf("empty target")
	}
	if t[0] != '/' {
		var ok bool
		if t, ok = fromAbsolute(t, r.Method); !ok {
			return "", fmt.Errorf("target %.60q is neither a path nor an http URL", t)
		}
	}
	for i := 0; i < len(t); i++ {
		if t[i] <= ' ' || t[i] == 0x7f {
			return "", fmt.Errorf("target contains the byte 0x%02x", t[i])
		}
	}
	return t, nil
}

// fromAbsolute turns absolute-form ("http://host/path") into origin-form
// without touching the bytes of path and query. On failure it returns t.
func fromAbsolute(t, method string) (string, bool) {
	scheme, rest, ok := strings.Cut(t, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return t, false
	}
	i := strings.IndexAny(rest, "/?#")
	switch {
	case i == 0: // no authority
		return t, false
	case i < 0 && method == http.MethodOptions:
		return "*", true // RFC 9112 §3.2.4
	case i < 0:
		return "/", true
	case rest[i] == '/':
		return rest[i:], true
	}
	return "/" + rest[i:], true
}
