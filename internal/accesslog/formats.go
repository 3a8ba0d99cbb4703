package accesslog

import (
	"fmt"
	"strings"
	"time"
)

// The layouts of nginx Proxy Manager, from its configuration, and of AWS
// application load balancers, in nginx's notation.
const (
	npmProxy    = `[$time_local] $upstream_cache_status $upstream_status $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio] [Sent-to $server] "$http_user_agent" "$http_referer"`
	npmStandard = `[$time_local] $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio] "$http_user_agent" "$http_referer"`
	albLayout   = `$scheme $time_iso8601 $elb $remote_addr $target $request_processing_time $upstream_response_time $response_processing_time $status $target_status $received $bytes_sent "$request" "$http_user_agent" $rest`
)

// formats lists the formats that can be named, and which Detect tries, in order: where two
// read as many lines, the first wins.
func formats() []*Format {
	clfParser := func() parser { return &clf{} }
	return []*Format{
		{"combined", clfParser},
		{"caddy", func() parser { return &caddy{} }},
		{"traefik", func() parser { return &traefik{} }},
		{"envoy", func() parser { return &envoy{} }},
		{"nginx-proxy-manager", func() parser { return &npm{layouts: layouts{all: []*layout{fixed(npmProxy), fixed(npmStandard)}}} }},
		{"haproxy", func() parser { return &haproxy{} }},
		{"aws-alb", func() parser { return &alb{layouts: layouts{all: []*layout{fixed(albLayout)}}} }},
		// The parser of combined takes these as well; the names are for people.
		{"common", clfParser},
		{"vhost", clfParser},
		{"traefik-clf", clfParser},
	}
}

// Names lists the names that [Named] knows.
func Names() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// Named returns the format with a name of [Names], or compiles a server's own
// format string as [Compile] does.
func Named(s string) (*Format, error) {
	for _, f := range formats() {
		if f.name == s {
			return f, nil
		}
	}
	if strings.ContainsAny(s, "$%") || isDirective(s) {
		return Compile(s)
	}
	return nil, fmt.Errorf("log format %q is not one of %s, nor a format string of nginx ($remote_addr …) or Apache (%%h …)", clip(s), strings.Join(Names(), ", "))
}

// isDirective reports whether a whole directive was given rather than its string.
func isDirective(s string) bool {
	first, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(s)), " ")
	return first == "log_format" || first == "logformat" || first == "customlog"
}

// fixed compiles a layout of ours.
func fixed(format string) *layout {
	_, l, err := compile(format)
	if err != nil {
		panic("accesslog: " + err.Error())
	}
	return l
}

// npm reads the logs of nginx Proxy Manager, whose default host writes Combined.
type npm struct {
	layouts
	clf clf
}

func (n *npm) parse(line string, e *Entry) error {
	if strings.HasPrefix(line, "[") {
		return n.layouts.parse(line, e)
	}
	return n.clf.parse(line, e)
}

// alb reads the logs of AWS application load balancers, which write the request's
// target as an absolute URI whatever the client sent.
type alb struct{ layouts }

func (a *alb) parse(line string, e *Entry) error {
	if err := a.layouts.parse(line, e); err != nil {
		return err
	}
	scheme, rest, ok := strings.Cut(e.Target, "://")
	if !ok {
		return nil
	}
	switch scheme {
	case "http", "ws":
		e.Scheme = "http"
	case "https", "wss":
		e.Scheme = "https"
	}
	i := strings.IndexByte(rest, '/')
	if i < 0 {
		return ReasonRequest
	}
	e.Host, e.Target = rest[:i], rest[i:]
	return nil
}

// haproxy reads HAProxy's HTTP log ("option httplog"), with or without the syslog
// header. It holds no User-Agent, and its times are taken for UTC, as it tells no zone.
type haproxy struct{ d draft }

func (h *haproxy) parse(line string, e *Entry) error {
	if i := strings.Index(line, "haproxy["); i >= 0 {
		if j := strings.Index(line[i:], "]: "); j >= 0 {
			line = line[i+j+3:]
		}
	}
	// client:port [time] frontend backend/server timers status bytes … "request"
	h.d.reset()
	client, rest, ok := strings.Cut(line, " [")
	if !ok || strings.IndexByte(client, ' ') >= 0 {
		return ReasonLayout
	}
	stamp, rest, ok := strings.Cut(rest, "] ")
	if !ok {
		return ReasonLayout
	}
	if e.Time, ok = parseTime(stamp); !ok {
		return ReasonTime
	}
	frontend, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return ReasonLayout
	}
	_, fields, ok := strings.Cut(rest, " ")
	if !ok {
		return ReasonLayout
	}
	timers, fields, _ := strings.Cut(fields, " ")
	status, fields, _ := strings.Cut(fields, " ")
	size, fields, ok := strings.Cut(fields, " ")
	if !ok || strings.Count(timers, "/") != 4 {
		return ReasonOther // "frontend/backend: SSL handshake failure" and the like
	}
	open := strings.IndexByte(fields, '"')
	if open < 0 || !strings.HasSuffix(fields, `"`) || open == len(fields)-1 {
		return ReasonLayout
	}
	e.Scheme = "http"
	if strings.HasSuffix(frontend, "~") { // HAProxy's mark for TLS
		e.Scheme = "https"
	}
	if n, ok := parseInt(status); ok && n <= 999 {
		e.Status = int(n)
	}
	if n, ok := parseInt(strings.TrimPrefix(size, "+")); ok {
		e.Bytes = n
	}
	part := strings.Split(timers, "/")
	e.Upstream = parseSeconds(part[3], time.Millisecond)
	e.Duration = parseSeconds(strings.TrimPrefix(part[4], "+"), time.Millisecond)
	h.d.client = client
	h.d.request = unescape(fields[open+1 : len(fields)-1])
	if h.d.request == "" || h.d.request == "<BADREQ>" {
		return ReasonRequest
	}
	return h.d.finish(e)
}

// container reads lines that a container runtime wrapped: Kubernetes' CRI form
// (time stdout F line) or Docker's json-file ({"log":"line\n",…}).
type container struct {
	inner  parser
	unwrap func(string) (string, bool)
}

func (c *container) parse(line string, e *Entry) error {
	inner, ok := c.unwrap(line)
	if !ok {
		return ReasonLayout
	}
	return c.inner.parse(inner, e)
}

func unwrapCRI(line string) (string, bool) {
	stamp, rest, ok := strings.Cut(line, " ")
	if !ok || len(stamp) < 20 || stamp[10] != 'T' {
		return "", false
	}
	for _, stream := range [...]string{"stdout F ", "stderr F "} {
		if inner, ok := strings.CutPrefix(rest, stream); ok {
			return inner, true
		}
	}
	return "", false
}

func unwrapDocker(line string) (string, bool) {
	if !strings.HasPrefix(line, `{"log":"`) {
		return "", false
	}
	j := scanner{s: line}
	j.open('{')
	j.key()
	inner := j.text()
	for n := 1; j.more('}', n); n++ {
		j.key()
		j.skip(0)
	}
	return strings.TrimRight(inner, "\r\n"), j.end()
}
