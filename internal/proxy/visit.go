package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/edge"
	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/likeness/visit"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// Rounds looks at the protected sites regularly, and keeps in the library what they look like.
func (e *Part) Rounds(lib artifact.Library) *visit.Rounds {
	var names []string
	for i := range e.sites {
		names = append(names, e.sites[i].Name)
	}
	return &visit.Rounds{Sites: names, Visit: e.Visit, Library: lib, Every: e.s.Config.Tarpit.Epoch, Log: e.s.Log}
}

// Visit reads some pages of a protected site from its upstream, slowly, and returns what they have in common.
func (e *Part) Visit(ctx context.Context, name string) (*likeness.Likeness, error) {
	for i := range e.sites {
		if s := &e.sites[i]; s.Name == name {
			host, scheme := publicName(e.s.Config.Upstream.URL, s), "http"
			if e.cert != nil {
				scheme = "https"
			}
			return visit.Visit(ctx, visit.Options{
				Get: func(ctx context.Context, target string) (*visit.Page, error) {
					return fetch(ctx, s, scheme, host, target)
				},
				Scheme: scheme, Host: host, Agent: "quickthorn",
			})
		}
	}
	return nil, fmt.Errorf("there is no site %q", name)
}

// publicName is a host by which readers know the site; the upstream's own where every host is the site's.
func publicName(target string, s *edge.Site) string {
	for _, h := range s.Hosts {
		if !strings.HasPrefix(h, "*") {
			return h
		}
	}
	if s.SendHost != "" {
		return s.SendHost
	}
	return hostOf(target)
}

// visitTime bounds one request of a visit.
const visitTime = 20 * time.Second

// fetch asks the site's upstream for a page.
func fetch(ctx context.Context, s *edge.Site, scheme, host, target string) (*visit.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	r := (&http.Request{
		Method: http.MethodGet, URL: u, RequestURI: target, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
		Header: http.Header{
			"User-Agent": {"quickthorn (likeness)"}, "Accept": {"text/html,*/*;q=0.1"}, "Accept-Encoding": {"identity"},
			"X-Forwarded-Proto": {scheme}, "X-Forwarded-Host": {host},
		},
	}).WithContext(ctx)
	w := &capture{header: http.Header{}, begun: time.Now()}
	_, err = s.Upstream.Forward(w, r, &upstream.Options{Host: s.SendHost})
	if err != nil && !errors.Is(w.err, errLarge) {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	return &visit.Page{Status: w.status, Header: w.header, Body: w.body.Bytes(), Latency: w.latency}, nil
}

// capture keeps an answer in memory, up to the size that is of use.
type capture struct {
	header  http.Header
	status  int
	body    bytes.Buffer
	begun   time.Time
	latency time.Duration
	err     error
}

var errLarge = errors.New("the page is larger than what is of use")

// Header implements http.ResponseWriter.
func (c *capture) Header() http.Header { return c.header }

// WriteHeader implements http.ResponseWriter.
func (c *capture) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status, c.latency = status, time.Since(c.begun)
	}
}

// Write implements http.ResponseWriter.
func (c *capture) Write(b []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if left := visit.MaxBody - c.body.Len(); len(b) > left {
		c.err = errLarge
		n, _ := c.body.Write(b[:left]) // never fails
		return n, c.err
	}
	return c.body.Write(b)
}
