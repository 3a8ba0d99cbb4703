package accesslog

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// SampleLines is how many lines of a log's beginning Detect looks at.
const SampleLines = 100

// Detect finds out which format lines are in. The confidence is the share of lines
// that have its form, 0 to 1; below one half it is an error, which says what the lines look like.
func Detect(sample [][]byte) (f *Format, confidence float64, err error) {
	var lines []string
	for _, b := range sample[:min(len(sample), SampleLines)] {
		if s := strings.TrimSpace(string(b[:min(len(b), MaxLine)])); s != "" {
			lines = append(lines, s)
		}
	}
	if len(lines) == 0 {
		return nil, 0, errors.New("the log is empty")
	}
	for _, w := range [...]struct {
		name   string
		unwrap func(string) (string, bool)
	}{{"cri", unwrapCRI}, {"docker", unwrapDocker}} {
		var inner []string
		for _, line := range lines {
			if s, ok := w.unwrap(line); ok {
				inner = append(inner, s)
			}
		}
		if len(inner)*2 <= len(lines) {
			continue
		}
		f, share := best(inner)
		if f == nil {
			return nil, 0, unknown(inner)
		}
		share *= float64(len(inner)) / float64(len(lines))
		return &Format{f.name + " in " + w.name, func() parser { return &container{f.new(), w.unwrap} }}, share, nil
	}
	if f, confidence = best(lines); f == nil {
		return nil, 0, unknown(lines)
	}
	return f, confidence, nil
}

// best returns the format that most lines have the form of, nil if none has more than half.
// Its share then tells how many. Lines of another kind count for neither side.
func best(lines []string) (*Format, float64) {
	var found *Format
	most, bestShare := 0, 0.0
	for _, f := range formats() {
		p := f.new()
		fit, entries, other := 0, 0, 0
		var agents, hosts, durations int
		for _, line := range lines {
			var e Entry
			switch err := p.parse(line, &e); {
			case err == nil:
				fit++
				entries++
				agents += btoi(e.UserAgent.Presence != defense.Unobserved)
				hosts += btoi(e.Host != "")
				durations += btoi(e.Duration > 0)
			case err.(Reason).fits():
				fit++
			case err == ReasonOther:
				other++
			}
		}
		// A line more that is an entry counts before a line more that only fits.
		if score := fit + entries; fit > 0 && score > most && fit*2 >= len(lines)-other {
			found, most, bestShare = f, score, float64(fit)/float64(len(lines)-other)
			if f.name == "combined" {
				found = &Format{clfName(entries, agents, hosts, durations), f.new}
			}
		}
	}
	return found, bestShare
}

// clfName names what the one parser of the CLF family was found to read.
func clfName(entries, agents, hosts, durations int) string {
	switch {
	case durations > 0:
		return "traefik-clf"
	case hosts*2 > entries:
		return "vhost"
	case entries > 0 && agents*2 < entries:
		return "common"
	}
	return "combined"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unknown says what lines look like that are in no known format.
func unknown(lines []string) error {
	first := lines[0]
	what := ""
	for _, k := range [...]struct{ pattern, what string }{
		{`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] `, "nginx's error log: give the access log"},
		{`^\[\w{3} \w{3} \d\d \d\d:\d\d:\d\d(\.\d+)? \d{4}\] \[`, "Apache's error log: give the access log"},
		{`^#(Software|Fields|Version):`, "a W3C extended log (IIS, CloudFront), which is not supported"},
		{`^\{`, "JSON that is not of Caddy, Traefik or Envoy: name the format with the server's own format string, for nginx the log_format with escape=json"},
		{`^<\d+>`, "a syslog stream: store the lines without their syslog header"},
		{`^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \S+: `, "a syslog file: cut the header off, for example with sed 's/^[^]]*]: //'"},
	} {
		if regexp.MustCompile(k.pattern).MatchString(first) {
			what = ": this looks like " + k.what
			break
		}
	}
	if what == "" {
		what = ": name the format with the server's own format string (nginx's log_format, Apache's LogFormat)"
	}
	return fmt.Errorf("not an access log in a known format%s; it begins with %s", what, Printable(first, 120))
}

// Printable returns at most max bytes of what a log holds, in quotes and escaped so that no terminal acts on it.
func Printable(s string, max int) string {
	if len(s) > max {
		return strconv.QuoteToGraphic(s[:max]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}
