package accesslog

import (
	"strconv"
	"strings"
	"time"
)

// caddy reads Caddy's structured log. It holds all request headers (of credentials
// only that they were sent), so what is not in it was not sent.
// An operator who deletes headers from the log by a filter makes this wrong.
type caddy struct{ d draft }

func (c *caddy) parse(line string, e *Entry) error {
	c.d.reset()
	j := scanner{s: line}
	if !j.open('{') {
		return ReasonLayout
	}
	var logger, proto string
	secure, request := false, false
	for n := 0; j.more('}', n); n++ {
		switch j.key() {
		case "ts":
			e.Time = caddyTime(j.scalar())
		case "logger":
			logger = j.scalar()
		case "status":
			if v, ok := parseInt(j.scalar()); ok && v <= 999 {
				e.Status = int(v)
			}
		case "size":
			if v, ok := parseInt(j.scalar()); ok {
				e.Bytes = v
			}
		case "duration":
			e.Duration = caddyDuration(j.scalar())
		case "request":
			if j.peek() != '{' {
				j.skip(0)
				break
			}
			request = true
			secure, proto = c.request(&j, e)
		default:
			j.skip(0)
		}
	}
	switch {
	case !j.end():
		return ReasonLayout
	case !request || logger != "" && !strings.HasPrefix(logger, "http.log.access"):
		return ReasonOther
	}
	e.Scheme = "http"
	if secure || proto == "https" {
		e.Scheme = "https"
	}
	return c.d.finish(e)
}

// request reads the object of the request. It returns whether Caddy ended TLS, and
// the scheme that an inner proxy in front of it told.
func (c *caddy) request(j *scanner, e *Entry) (secure bool, proto string) {
	peer, client := "", ""
	j.open('{')
	for n := 0; j.more('}', n); n++ {
		switch j.key() {
		case "remote_ip", "remote_addr":
			peer = j.scalar()
		case "client_ip":
			client = j.scalar()
		case "proto":
			e.Protocol = protocol(j.scalar())
		case "method":
			e.Method = j.scalar()
		case "host":
			e.Host = j.scalar()
		case "uri":
			e.Target = j.scalar()
		case "tls":
			secure = j.peek() == '{'
			j.skip(0)
		case "headers":
			if j.peek() != '{' {
				j.skip(0)
				break
			}
			e.Complete = true
			j.open('{')
			for n := 0; j.more('}', n); n++ {
				switch name, value := j.key(), j.scalar(); name {
				case "User-Agent":
					e.UserAgent = observed(value)
				case "Referer":
					e.Referer = observed(value)
				case "X-Forwarded-Proto":
					proto = value
				default:
					c.d.addHeader(name, value)
				}
			}
			// Known to be absent when not among them.
			e.UserAgent = observed(e.UserAgent.Value)
			e.Referer = observed(e.Referer.Value)
		default:
			j.skip(0)
		}
	}
	// client_ip is what Caddy made of its trusted proxies' word.
	c.d.client = client
	if client == "" {
		c.d.client = peer
	}
	if a, _ := parseAddress(peer); !isInside(a) {
		proto = ""
	}
	return secure, proto
}

// caddyTime reads Unix time in seconds, or in the smaller units that can be configured, or a text.
func caddyTime(s string) time.Time {
	t, ok := parseTime(s)
	if !ok {
		whole, _, _ := strings.Cut(s, ".")
		switch {
		case len(whole) > 15:
			n, _ := parseInt(whole)
			t, ok = parseUnix(strconv.FormatInt(n/1000, 10), fieldMicros)
		case len(whole) > 12:
			t, ok = parseUnix(s, fieldMillis)
		default:
			t, ok = parseUnix(s, fieldSeconds)
		}
	}
	if !ok {
		return time.Time{}
	}
	return t
}

// caddyDuration reads seconds, or a text such as 1.5ms.
func caddyDuration(s string) time.Duration {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d
	}
	return parseSeconds(s, time.Second)
}

// traefik reads Traefik's JSON log. Request headers are in it only if its
// configuration keeps them.
type traefik struct{ d draft }

func (t *traefik) parse(line string, e *Entry) error {
	t.d.reset()
	j := scanner{s: line}
	if !j.open('{') {
		return ReasonLayout
	}
	request := false
	for n := 0; j.more('}', n); n++ {
		switch key := j.key(); key {
		case "ClientHost":
			t.d.client = j.scalar()
		case "ClientAddr":
			if v := j.scalar(); t.d.client == "" {
				t.d.client = v
			}
		case "RequestMethod":
			e.Method, request = j.scalar(), true
		case "RequestPath":
			e.Target, request = j.scalar(), true
		case "RequestProtocol":
			e.Protocol = protocol(j.scalar())
		case "RequestScheme":
			if v := j.scalar(); v == "http" || v == "https" {
				e.Scheme = v
			}
		case "RequestAddr":
			e.Host = j.scalar()
		case "RequestHost":
			t.d.server = j.scalar()
		case "DownstreamStatus":
			if v, ok := parseInt(j.scalar()); ok && v <= 999 {
				e.Status = int(v)
			}
		case "DownstreamContentSize":
			if v, ok := parseInt(j.scalar()); ok {
				e.Bytes = v
			}
		case "Duration":
			e.Duration = parseSeconds(j.scalar(), time.Nanosecond)
		case "OriginDuration":
			e.Upstream = parseSeconds(j.scalar(), time.Nanosecond)
		case "StartUTC":
			e.Time, _ = parseTime(j.scalar())
		case "StartLocal", "time":
			if v, ok := parseTime(j.scalar()); ok && e.Time.IsZero() {
				e.Time = v
			}
		case "request_User-Agent":
			e.UserAgent = observed(j.scalar())
		case "request_Referer":
			e.Referer = observed(j.scalar())
		case "request_X-Forwarded-For":
			t.d.forwarded = j.scalar()
		default:
			if name, ok := strings.CutPrefix(key, "request_"); ok {
				t.d.addHeader(name, j.scalar())
				break
			}
			j.skip(0)
		}
	}
	switch {
	case !j.end():
		return ReasonLayout
	case !request:
		return ReasonOther
	}
	return t.d.finish(e)
}

// envoy reads Envoy's JSON log with the keys of its documentation, of Istio and of Contour.
type envoy struct{ d draft }

func (v *envoy) parse(line string, e *Entry) error {
	v.d.reset()
	j := scanner{s: line}
	if !j.open('{') {
		return ReasonLayout
	}
	fields, original := 0, ""
	for n := 0; j.more('}', n); n++ {
		known := true
		switch j.key() {
		case "start_time", "@timestamp":
			e.Time, _ = parseTime(j.scalar())
		case "method":
			e.Method = j.scalar()
		case "path":
			e.Target = j.scalar()
		case "x-envoy-origin-path", "x-envoy-original-path", "x_envoy_origin_path", "x_envoy_original_path":
			original = j.scalar()
		case "protocol":
			e.Protocol = protocol(j.scalar())
		case "response_code":
			if c, ok := parseInt(j.scalar()); ok && c <= 999 {
				e.Status = int(c)
			}
		case "bytes_sent":
			if b, ok := parseInt(j.scalar()); ok {
				e.Bytes = b
			}
		case "duration":
			e.Duration = parseSeconds(j.scalar(), time.Millisecond)
		case "upstream_service_time", "x-envoy-upstream-service-time":
			e.Upstream = parseSeconds(j.scalar(), time.Millisecond)
		case "user-agent", "user_agent":
			e.UserAgent = observed(j.scalar())
		case "referer":
			e.Referer = observed(j.scalar())
		case ":authority", "authority":
			e.Host = j.scalar()
		case "x-forwarded-for", "x_forwarded_for":
			v.d.forwarded = j.scalar()
		case "x-forwarded-proto", "x_forwarded_proto":
			if s := j.scalar(); s == "http" || s == "https" {
				e.Scheme = s
			}
		case "downstream_remote_address":
			v.d.client = j.scalar()
		default:
			known = false
			j.skip(0)
		}
		if known {
			fields++
		}
	}
	if original != "" && original != "-" {
		e.Target = original
	}
	switch {
	case !j.end():
		return ReasonLayout
	case fields < 4:
		return ReasonOther
	}
	return v.d.finish(e)
}
