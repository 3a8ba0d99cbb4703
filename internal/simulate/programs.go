package simulate

import (
	"maps"
	"net/http"
	"time"
)

// poller asks for one address again and again, as feed readers and monitors do.
type poller struct {
	client
	header   http.Header
	target   string
	start    time.Duration
	until    time.Duration
	interval time.Duration
	etag     string
}

// Start asks for the first time.
func (p *poller) Start() []*Request { return []*Request{p.ask(p.start)} }

func (p *poller) ask(at time.Duration) *Request {
	return p.request(at, p.target, maps.Clone(p.header), nil)
}

// Send asks for news only.
func (p *poller) Send(q *Request) {
	if p.etag != "" {
		set(q.Header, "If-None-Match", p.etag)
	}
}

// Receive asks again when it is time.
func (p *poller) Receive(_ *Request, r *Response) []*Request {
	if r.Status == http.StatusOK {
		p.etag = r.Header.Get("Etag")
	}
	at := r.At + max(p.interval, retryAfter(r.Header)) + p.between(0, 5*time.Second)
	if at >= p.until {
		return nil
	}
	return []*Request{p.ask(at)}
}

// script sends requests one after the other, whatever the answers are.
type script struct {
	requests []*Request
	gaps     []time.Duration // before each, after the answer to the one before; the first counts from the start
	sent     int
	stopsAt  int // a status from which on it gives up; 0: never
}

// Start sends the first request.
func (s *script) Start() []*Request { return s.next(0) }

// Send changes nothing.
func (s *script) Send(*Request) {}

// Receive sends the next request.
func (s *script) Receive(_ *Request, r *Response) []*Request {
	if s.stopsAt > 0 && (r.Status == 0 || r.Status >= s.stopsAt) {
		return nil
	}
	return s.next(r.At)
}

func (s *script) next(after time.Duration) []*Request {
	if s.sent == len(s.requests) {
		return nil
	}
	q := s.requests[s.sent]
	q.At = after + s.gaps[s.sent]
	s.sent++
	return []*Request{q}
}

func (s *script) add(gap time.Duration, q *Request) {
	s.requests = append(s.requests, q)
	s.gaps = append(s.gaps, gap)
}

// gitClone is one fetch by git's smart protocol: what the other side can do, its refs, the pack.
func gitClone(c *client, start time.Duration) *script {
	agent := pick(c.rng, []string{"git/2.45.2", "git/2.39.5", "git/2.51.0", "git/2.47.1.windows.2", "git/2.39.5 (Apple Git-154)"})
	header := func(accept string) http.Header {
		h := http.Header{}
		set(h, "User-Agent", agent)
		set(h, "Accept", accept)
		set(h, "Accept-Encoding", "deflate, gzip, br, zstd")
		set(h, "Git-Protocol", "version=2")
		return h
	}
	s := &script{stopsAt: 400}
	s.add(start, c.request(0, repository+".git/info/refs?service=git-upload-pack", header("*/*"), nil))
	for _, body := range []string{"0014command=ls-refs\n0000", "0011command=fetch0000"} {
		h := header("application/x-git-upload-pack-result")
		set(h, "Content-Type", "application/x-git-upload-pack-request")
		q := c.request(0, repository+".git/git-upload-pack", h, nil)
		q.Method, q.Body = http.MethodPost, []byte(body)
		s.add(c.between(20*time.Millisecond, 200*time.Millisecond), q)
	}
	return s
}

// preview is what a social network's server does with a link that somebody posted.
func preview(c *client, start time.Duration, target string) *script {
	h := http.Header{}
	set(h, "User-Agent", pick(c.rng, []string{
		"http.rb/5.2.0 (Mastodon/4.3.0; +https://social.example/) Bot",
		"Mastodon/4.4.2 (http.rb/5.3.1; +https://mastodon.example/) Bot",
		"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
		"TelegramBot (like TwitterBot)",
	}))
	set(h, "Accept", "text/html")
	set(h, "Accept-Encoding", "gzip")
	s := &script{}
	s.add(start, c.request(0, target, h, nil))
	return s
}

// feedHeaders returns the headers of some feed reader.
func feedHeaders(c *client) http.Header {
	h := http.Header{}
	set(h, "User-Agent", pick(c.rng, []string{
		"Mozilla/5.0 (compatible; Miniflux/2.2.6; +https://miniflux.app)",
		"FreshRSS/1.26.1 (Linux; https://freshrss.org)",
		"NetNewsWire (RSS Reader; https://netnewswire.com/)",
		"Feedly/1.0 (+http://www.feedly.com/fetcher.html; 12 subscribers; like FeedFetcher-Google)",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0",
	}))
	set(h, "Accept", "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.8")
	set(h, "Accept-Encoding", "gzip")
	return h
}
