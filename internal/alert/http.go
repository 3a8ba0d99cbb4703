package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is how much of a server's answer is read, in bytes; the rest is nobody's business.
const maxAnswer = 4 << 10

// poster posts to one address, which is a secret: it can be all that an intruder needs to write there.
type poster struct {
	client  *http.Client
	address string
	host    string   // what may be told of the address
	secrets []string // what errors must not hold
	now     func() time.Time
}

// newPoster returns a poster. The address may begin with http:// where plain says so, or when it is on this machine.
func newPoster(address string, plain bool, transport http.RoundTripper, now func() time.Time) (*poster, error) {
	if now == nil {
		return nil, errors.New("the clock is missing")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the address is not one that begins with https:// (it is a secret and not shown)") // nor is err, which holds it
	}
	if u.Scheme == "http" && !plain && !loopback(u.Hostname()) {
		return nil, errors.New("the address holds a secret and must begin with https://")
	}
	if transport == nil {
		transport = &http.Transport{
			// Messages are rare: a kept connection would only be found broken.
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 16 << 10,
			TLSHandshakeTimeout:    10 * time.Second,
		}
	}
	p := &poster{
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		address: u.String(), host: u.Host, now: now,
	}
	for _, s := range []string{address, u.String(), u.RequestURI(), u.Path, u.RawQuery} {
		if len(s) > 1 {
			p.secrets = append(p.secrets, s)
		}
	}
	if password, ok := u.User.Password(); ok {
		p.secrets = append(p.secrets, password)
	}
	return p, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// post sends body and returns nil when the answer is a 2xx.
func (p *poster) post(ctx context.Context, body []byte, header http.Header) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.address, bytes.NewReader(body))
	if err != nil {
		return permanent("make the request to %s", p.host) // err holds the address
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "quickthorn")
	answer, err := p.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return p.told(&SendError{Err: fmt.Errorf("post to %s: %w", p.host, err)})
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return nil // whatever the body says, or does not end to say
	}
	e := &SendError{Err: fmt.Errorf("%s answers %d", p.host, answer.StatusCode)}
	// Words of the server help whoever set this up; an error in reading them tells nothing.
	if words, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)); len(words) > 0 {
		e.Err = fmt.Errorf("%w: %s", e.Err, line(string(words), 200))
	}
	switch s := answer.StatusCode; {
	case s >= 300 && s < 400:
		e.Err, e.Permanent = fmt.Errorf("%s answers %d: redirects are not followed", p.host, s), true
	case s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable:
		e.After = p.retryAfter(answer.Header.Get("Retry-After"))
	case s == http.StatusRequestTimeout || s >= 500:
	default:
		e.Permanent = true
	}
	return p.told(e)
}

func (p *poster) told(e *SendError) error {
	e.Err = redacted(e.Err, p.secrets)
	return e
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3); 0 when it says nothing, a day at most.
func (p *poster) retryAfter(value string) time.Duration {
	const most = 24 * time.Hour
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, most)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(p.now()), 0), most)
	}
	return 0
}
