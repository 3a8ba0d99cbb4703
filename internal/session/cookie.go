package session

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ownPrefix begins the names of quickthorn's own cookies.
const ownPrefix = "quickthorn-"

// eachPair calls f with the cookies of a request until it returns true. A value is without the quotes that some applications put around it.
// It builds no list: this runs for every request that has a proof.
func eachPair(lines []string, f func(name, value string) bool) {
	left := maxHeader
	for _, line := range lines {
		if left -= len(line); left < 0 {
			return
		}
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, ok := strings.Cut(pair, "=")
			if ok && f(strings.Trim(name, " \t"), strings.Trim(value, "\" \t")) {
				return
			}
		}
	}
}

// eachCookie calls f with the values of the cookies of one name, of at most maxTries, until it returns true. Several are sent when they were set for
// other paths or domains.
func eachCookie(lines []string, name string, f func(value string) bool) {
	tries := 0
	for _, line := range lines {
		for {
			i := strings.Index(line, name)
			if i < 0 {
				break
			}
			before := strings.TrimRight(line[:i], " \t")
			line = line[i+len(name):]
			if before != "" && before[len(before)-1] != ';' || line == "" || line[0] != '=' {
				continue
			}
			value, _, _ := strings.Cut(line[1:], ";")
			if tries++; f(strings.Trim(value, "\" \t")) || tries == maxTries {
				return
			}
		}
	}
}

// eachTagged calls f with the cookies whose names have that tag, and of whose values something can be proved, of at most maxTries, until it returns true.
func eachTagged(lines []string, t tag, f func(name, value string) bool) {
	tries := 0
	eachPair(lines, func(name, value string) bool {
		if len(value) < MinValue || len(value) > maxValue || len(name) > maxName || tagOf(name) != t {
			return false
		}
		tries++
		return f(name, value) || tries == maxTries
	})
}

// setCookie is a Set-Cookie line of the upstream.
type setCookie struct {
	name, value string
	httpOnly    bool
	deleted     bool
	age         time.Duration // how long the browser keeps it, 0: as long as it runs
}

// parse reads a line as browsers do (RFC 6265 section 5.2). ok is false if it sets nothing.
func (c *setCookie) parse(line string, now time.Time) (ok bool) {
	pair, rest, _ := strings.Cut(line, ";")
	name, value, ok := strings.Cut(pair, "=")
	*c = setCookie{name: strings.Trim(name, " \t"), value: strings.Trim(value, "\" \t")}
	if !ok || c.name == "" || len(c.name) > maxName || len(c.value) > maxValue || strings.HasPrefix(c.name, ownPrefix) {
		return false
	}
	var expires, maxAge bool
	for rest != "" {
		var attribute string
		attribute, rest, _ = strings.Cut(rest, ";")
		key, v, _ := strings.Cut(attribute, "=")
		key, v = strings.Trim(key, " \t"), strings.Trim(v, " \t")
		switch {
		case strings.EqualFold(key, "HttpOnly"):
			c.httpOnly = true
		case strings.EqualFold(key, "Max-Age"): // which counts more than Expires
			if age, ok := parseAge(v); ok {
				c.age, expires, maxAge = age, true, true
			}
		case strings.EqualFold(key, "Expires") && !maxAge:
			if at, ok := parseTime(v); ok {
				c.age, expires = min(at.Sub(now), MaxAge), true
			}
		}
	}
	c.deleted = c.value == "" || expires && c.age <= 0
	return true
}

// parseAge reads a Max-Age in seconds. What is longer than a proof is good for is that long.
func parseAge(s string) (time.Duration, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	switch {
	case s[0] == '-':
		return 0, true
	case err != nil || seconds > int64(MaxAge/time.Second):
		return MaxAge, true
	}
	return time.Duration(seconds) * time.Second, true
}

// parseTime reads an Expires as applications write it.
func parseTime(s string) (time.Time, bool) {
	if t, err := http.ParseTime(s); err == nil {
		return t, true
	}
	for _, layout := range [...]string{"Mon, 02-Jan-2006 15:04:05 MST", "Mon, 02-Jan-06 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 MST"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
