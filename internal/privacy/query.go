package privacy

import (
	"net/url"
	"slices"
	"strings"
)

// Query returns a query string as it is stored.
func (m *Masker) Query(q string) string {
	if !m.settings.KeepQuery {
		return ""
	}
	return maskQuery(q)
}

// Referrer returns a referrer as it is stored: without credentials and fragment,
// its query treated like the request's.
func (m *Masker) Referrer(s string) string {
	s, _, _ = strings.Cut(s, "#")
	base, q, has := strings.Cut(s, "?")
	if scheme, rest, ok := strings.Cut(base, "://"); ok {
		host, path, slash := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			base = scheme + "://" + host[i+1:]
			if slash {
				base += "/" + path
			}
		}
	}
	if q = m.Query(q); has && q != "" {
		return base + "?" + q
	}
	return base
}

// secretNames are names of parameters, and secretParts parts of such names, whose values are never stored.
var (
	secretNames = []string{"code", "key", "sig", "sid", "jwt", "otp", "pin", "pwd", "pass", "auth", "hash", "hmac", "state", "nonce", "ticket", "assertion", "bearer", "samlresponse", "samlrequest", "email", "mail", "phone"}
	secretParts = []string{"token", "secret", "passw", "passphrase", "session", "sessid", "signature", "credential", "apikey", "api_key", "api-key", "accesskey", "access_key", "auth_key", "private", "csrf", "xsrf"}
)

const masked = "***"

// maskQuery replaces the values of parameters that look like secrets. The rest
// stays byte for byte.
func maskQuery(q string) string {
	var b strings.Builder
	rest, changed := q, false
	for rest != "" {
		i := strings.IndexAny(rest, "&;")
		part, sep := rest, ""
		if i >= 0 {
			part, sep, rest = rest[:i], rest[i:i+1], rest[i+1:]
		} else {
			rest = ""
		}
		if name, value, ok := strings.Cut(part, "="); ok && value != "" && isSecret(name) {
			if !changed {
				changed = true
				b.Grow(len(q))
				b.WriteString(q[:len(q)-len(rest)-len(sep)-len(part)])
			}
			part = name + "=" + masked
		}
		if changed {
			b.WriteString(part)
			b.WriteString(sep)
		}
	}
	if !changed {
		return q
	}
	return b.String()
}

func isSecret(name string) bool {
	if s, err := url.QueryUnescape(name); err == nil {
		name = s
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if slices.Contains(secretNames, name) {
		return true
	}
	for _, p := range secretParts {
		if strings.Contains(name, p) {
			return true
		}
	}
	return false
}
