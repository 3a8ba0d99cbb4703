// Package explain answers "why this verdict": it takes a request that somebody
// describes, has the engine judge it without charging a budget, and writes down every
// step. The command line and the private API share it.
package explain

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// Question is a request to explain.
type Question struct {
	URL     string   `json:"url"`               // absolute, or a path on any host
	Method  string   `json:"method,omitempty"`  // default GET
	Headers []string `json:"headers,omitempty"` // "Name: value", as curl takes them
	Client  string   `json:"client,omitempty"`  // address; default 192.0.2.1, which no decision should name
	Site    string   `json:"site,omitempty"`
}

// DefaultClient is the client of a question that names none: a documentation address (RFC 5737).
const DefaultClient = "192.0.2.1"

// Bounds of a question, since the private API takes them as well.
const (
	maxURL     = 16 << 10
	maxHeaders = 200
	maxHeader  = 64 << 10
	maxMethod  = 64
)

// Request builds the server request that the question describes.
func (q *Question) Request() (*http.Request, netip.Addr, error) {
	if len(q.URL) > maxURL {
		return nil, netip.Addr{}, fmt.Errorf("url: %d bytes, at most %d", len(q.URL), maxURL)
	}
	u, err := url.Parse(q.URL)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("url: %w", err)
	}
	if u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return nil, netip.Addr{}, fmt.Errorf("url: scheme %q is not http or https", u.Scheme)
	}
	target := q.URL
	if i := strings.Index(target, "://"); u.Host != "" && i >= 0 {
		target = target[i+3:]
		if j := strings.IndexAny(target, "/?"); j >= 0 {
			target = target[j:]
		} else {
			target = "/"
		}
	}
	target, _, _ = strings.Cut(target, "#")
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	if !httpguts.ValidHeaderFieldName(method) || len(method) > maxMethod { // both are tokens (RFC 9110 section 9.1)
		return nil, netip.Addr{}, fmt.Errorf("method: %.80q is none", method)
	}
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("url: %w", err)
	}
	client := q.Client
	if client == "" {
		client = DefaultClient
	}
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("client: %q is not an IP address", client)
	}
	r := &http.Request{
		Method: method, URL: parsed, RequestURI: target, Host: u.Host, Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: netip.AddrPortFrom(addr, 1024).String(), Body: http.NoBody,
	}
	if u.Scheme == "https" {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	}
	if len(q.Headers) > maxHeaders {
		return nil, netip.Addr{}, fmt.Errorf("headers: %d, at most %d", len(q.Headers), maxHeaders)
	}
	for i, line := range q.Headers {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) || len(value) > maxHeader {
			return nil, netip.Addr{}, fmt.Errorf("header %d: %.80q is not of the form \"Name: value\"", i+1, line)
		}
		if http.CanonicalHeaderKey(name) == "Host" {
			if !httpguts.ValidHostHeader(value) {
				return nil, netip.Addr{}, fmt.Errorf("header %d: %.80q is no host", i+1, value)
			}
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return r, addr, nil
}

// Clearer reads the clearance of a request; *challenge.Gate does. May be nil.
type Clearer interface {
	Clearance(h http.Header, client *defense.Client, family defense.AgentFamily, now time.Time) defense.Clearance
}

// Ask judges the question's request and returns what was found.
func Ask(q *Question, f *profile.Profiler, e *engine.Engine, c Clearer, now time.Time) (*Report, error) {
	r, addr, err := q.Request()
	if err != nil {
		return nil, err
	}
	rep := &Report{}
	p := &rep.profile
	f.FromRequest(p, r, defense.NewClient(addr), now)
	p.Site = q.Site
	if c != nil {
		p.Clearance = c.Clearance(r.Header, &p.Client, p.Agent.Family, now)
	}
	var s engine.Scratch
	var x engine.Explanation
	e.Judge(p, &s, &rep.verdict, &x)
	rep.fill(&x)
	return rep, nil
}
