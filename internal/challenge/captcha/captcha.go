// Package captcha asks a CAPTCHA provider, external or self-hosted, whether a
// visitor has solved its widget.
//
// It is for owners who want one; nothing here is contacted unless it is configured. Prefer a provider that you run yourself (mcaptcha,
// cap, altcha): an external one sees every visitor who is challenged, learns which page they came for, and its outage is yours.
// The visitor's address is not sent unless SendAddress says so; their browser talks to the provider all the same.
//
// The one rule that must never break: whatever becomes of the provider, no reader is locked out. An error from Verify means that the
// provider could not be asked, never that the reader failed; the caller then falls through to another kind of challenge,
// and does not take the error for a pass either. Before showing the widget at all, ask Available.
package captcha

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/net/idna"
)

const (
	// MaxResponse is the longest response of a widget that is passed on, in bytes.
	MaxResponse = 8 << 10

	maxAnswer      = 64 << 10 // of a provider, in bytes
	defaultTimeout = 5 * time.Second
	maxTimeout     = 30 * time.Second // a reader waits that long
	defaultFlights = 16
	maxFlights     = 1024
	// waitingPerFlight is how many may wait for each one that is under way.
	waitingPerFlight = 8
)

var (
	// ErrUnavailable is wrapped by errors that say that the provider is away, too slow, or answers what cannot be understood.
	ErrUnavailable = errors.New("the provider is not available")
	// ErrSettings is wrapped by errors that say that the provider does not accept our keys: somebody must look at the configuration.
	ErrSettings = errors.New("the provider does not accept the site key or secret")
	// ErrBusy is returned when as many are asked about as MaxInFlight allows, and many more wait.
	ErrBusy = errors.New("too many verifications at once")
	// errOdd is for requests that the provider cannot make sense of. The visitor's input may be the cause, so it does
	// not count as an outage: nobody may switch the provider off by sending nonsense.
	errOdd = errors.New("the provider does not understand the request")
)

// Adapter verifies the responses of one provider's widget. It is safe for concurrent use.
type Adapter struct {
	protocol protocol
	siteKey  string
	secret   Secret
	verify   string
	host     string // of verify: what may be told of it
	timeout  time.Duration
	address  bool
	widget   Widget
	client   *http.Client
	breaker  *gobreaker.CircuitBreaker[verdict]
	slots    chan struct{}
	waiting  atomic.Int64
}

// New returns an adapter. Of the client, its transport is used (nil: a plain one, which uses no proxy); redirects are never followed,
// they could take the secret somewhere else. The error is Validate's.
func New(c Config, client *http.Client) (*Adapter, error) {
	s, err := c.settle()
	if err != nil {
		return nil, err
	}
	a := &Adapter{
		protocol: s.protocol, siteKey: c.SiteKey, secret: c.Secret, verify: s.verify.String(), host: s.verify.Host,
		timeout: s.timeout, address: c.SendAddress, widget: s.widget,
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		slots:  make(chan struct{}, s.flights),
		breaker: gobreaker.NewCircuitBreaker[verdict](gobreaker.Settings{
			Name: c.Provider, Timeout: time.Minute,
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, errOdd) },
		}),
	}
	if client != nil && client.Transport != nil {
		a.client.Transport = client.Transport
	} else {
		a.client.Transport = &http.Transport{
			MaxIdleConnsPerHost: s.flights, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: s.timeout,
			MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		}
	}
	return a, nil
}

// Widget returns what a page needs to show the provider's widget.
func (a *Adapter) Widget() Widget {
	w := a.widget
	w.Origins = slices.Clone(w.Origins)
	w.Attributes = slices.Clone(w.Attributes)
	return w
}

// Available reports whether a verification has a chance. After six failures in a row it is false for a minute: show
// another kind of challenge meanwhile, lest readers solve a widget in vain.
func (a *Adapter) Available() bool { return a.breaker.State() != gobreaker.StateOpen }

// Verify reports whether the response, what the widget put in the form, is that of somebody who solved it. The address is sent only if
// Config.SendAddress is set. The hostname, if it is not "", must be the one for which the widget was solved, where the provider
// tells: a response earned on another site with the same keys does not count. false without an error means that the visitor
// should try again. An error wraps ErrUnavailable, ErrSettings, ErrBusy or the context's, or says that the provider
// does not understand the request; it holds neither the secret nor the response.
func (a *Adapter) Verify(ctx context.Context, response, remoteIP, hostname string) (bool, error) {
	if !plausible(response) {
		return false, nil
	}
	if err := a.enter(ctx); err != nil {
		return false, fmt.Errorf("ask %s: %w", a.host, err)
	}
	defer func() { <-a.slots }()
	v, err := a.breaker.Execute(func() (verdict, error) { return a.ask(ctx, response, remoteIP) })
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return false, fmt.Errorf("ask %s: %w: it failed several times, and is left alone for a minute", a.host, ErrUnavailable)
	case err != nil:
		return false, fmt.Errorf("ask %s: %w", a.host, err)
	}
	return v.success && sameHost(v.hostname, hostname), nil
}

// plausible reports whether a response can be one: all providers' are visible ASCII. What is not would only make a provider stumble.
func plausible(response string) bool {
	if response == "" || len(response) > MaxResponse {
		return false
	}
	for i := range len(response) {
		if response[i] <= ' ' || response[i] >= 0x7f {
			return false
		}
	}
	return true
}

// enter waits for a slot, within the time that the question itself may take.
func (a *Adapter) enter(ctx context.Context) error {
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	defer a.waiting.Add(-1)
	if a.waiting.Add(1) > int64(waitingPerFlight*cap(a.slots)) {
		return ErrBusy
	}
	patience := time.NewTimer(a.timeout)
	defer patience.Stop()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-patience.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask asks the provider. Its errors do not hold the verification address: it may have a key in it.
func (a *Adapter) ask(ctx context.Context, response, remoteIP string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	r, err := a.request(ctx, response, remoteIP)
	if err != nil {
		return verdict{}, err
	}
	answer, err := a.client.Do(r)
	if err != nil {
		return verdict{}, transportError(ctx, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return verdict{}, transportError(ctx, err)
	}
	if len(body) > maxAnswer {
		return verdict{}, fmt.Errorf("%w: its answer has more than %d bytes", ErrUnavailable, maxAnswer)
	}
	v, err := a.protocol.judge(answer.StatusCode, body)
	if err != nil && a.tells(err.Error()) {
		// A provider that repeats what it was sent would have our log repeat it too.
		for _, class := range []error{ErrSettings, ErrUnavailable, errOdd} {
			if errors.Is(err, class) {
				return verdict{}, class
			}
		}
	}
	return v, err
}

// tells reports whether the text holds the secret, or the half of it that is one.
func (a *Adapter) tells(text string) bool {
	_, half, _ := strings.Cut(string(a.secret), ":")
	return strings.Contains(text, string(a.secret)) || half != "" && strings.Contains(text, half)
}

func transportError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled // the reader is gone
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (a *Adapter) request(ctx context.Context, response, remoteIP string) (*http.Request, error) {
	p := &a.protocol
	fields := map[string]string{p.response: response}
	if p.secret != "" {
		fields[p.secret] = string(a.secret)
	}
	if p.siteKey != "" {
		fields[p.siteKey] = a.siteKey
	}
	if p.address != "" && a.address {
		// A zone is a name of our own machine's, and what is no address is none of theirs.
		if ip, err := netip.ParseAddr(remoteIP); err == nil {
			fields[p.address] = ip.Unmap().WithZone("").String()
		}
	}
	var body []byte
	contentType := "application/json"
	if p.json {
		var err error
		if body, err = json.Marshal(fields); err != nil { // strings always marshal
			return nil, err
		}
	} else {
		contentType = "application/x-www-form-urlencoded"
		form := make(url.Values, len(fields))
		for name, value := range fields {
			form.Set(name, value)
		}
		body = []byte(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.verify, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: the request cannot be made", ErrUnavailable) // err holds the address
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "quickthorn")
	switch {
	case p.basic:
		id, secret, _ := strings.Cut(string(a.secret), ":")
		r.SetBasicAuth(id, secret)
	case p.secretHeader != "":
		r.Header.Set(p.secretHeader, string(a.secret))
	}
	return r, nil
}

// sameHost reports whether the provider's word for where the widget was solved is the site. Providers say nothing ("" or, in hCaptcha's
// words, "not-provided") for browsers that tell nobody where they are: that is no reason to refuse them.
func sameHost(told, site string) bool {
	if site == "" || told == "" || told == "not-provided" {
		return true
	}
	return hostOf(told) == hostOf(site)
}

// hostOf returns the host of "example.com", "example.com:8443" or "https://example.com", as it is looked up in DNS.
func hostOf(s string) string {
	if !strings.Contains(s, "://") {
		s = "//" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		return ascii
	}
	return strings.ToLower(host)
}
