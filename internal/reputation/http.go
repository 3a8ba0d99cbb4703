package reputation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// HTTPOptions describe a service that scores addresses: one GET, answered with JSON.
type HTTPOptions struct {
	Name string
	// URL holds {address} where the client's address goes: "https://api.example/v2/check?ip={address}". It may hold a key; no
	// error and no log shows it.
	URL string
	// KeyHeader and Key are sent with each question if KeyHeader is not "": "Key", "Authorization".
	KeyHeader, Key string
	// Field is the path to the score in the answer, its parts joined by dots; a number picks from an array: "data.score", "results.0.risk".
	// The score is a number, or a string that holds one; null means that the service does not know.
	Field string
	Scale float64 // the score that means certainty, 1 or 100, say; 0: 100
	// Listed is the share of Scale from which on a client counts as listed, 0..1; 0: 0.5.
	Listed      float64
	HTTP        *http.Client  // its transport is used; nil: a plain one
	Timeout     time.Duration // of one question; 0: 3 s
	TTL         time.Duration // how long an answer is remembered; 0: 24 h
	CacheSize   int           // clients remembered; 0: 16,384 (about 4 MB)
	PerDay      int           // questions; 0: 500
	MaxInFlight int           // questions at once; 0: 4
	MaxBody     int64         // of an answer, in bytes; 0: 256 KiB
}

// HTTPSource asks a service over HTTP. It follows no redirects, and stops asking for a minute after six failures in a row.
type HTTPSource struct {
	o       HTTPOptions
	path    []string
	client  *http.Client
	now     func() time.Time
	cache   *cache
	budget  budget
	slots   chan struct{}
	breaker *gobreaker.CircuitBreaker[Finding]
	state   *telemetry.State
}

// placeholder stands for the address in HTTPOptions.URL.
const placeholder = "{address}"

// NewHTTPSource returns a source; the error names the option that is wrong.
func NewHTTPSource(o HTTPOptions, now func() time.Time, log *slog.Logger) (*HTTPSource, error) {
	if strings.Count(o.URL, placeholder) != 1 {
		return nil, errors.New("url: it must hold " + placeholder + " once")
	}
	u, err := url.Parse(strings.Replace(o.URL, placeholder, "192.0.2.1", 1))
	switch {
	case err != nil:
		return nil, errors.New("url: it is no URL") // the error would show a key in it
	case u.Host == "" || strings.Contains(u.Host, "192.0.2.1") || u.User != nil:
		return nil, errors.New("url: it must name a host, without a password, and hold " + placeholder + " in its path or query")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return nil, errors.New("url: use https: who visits the site, and the key, are nobody else's business")
	}
	if o.Field == "" || len(o.Field) > 256 {
		return nil, errors.New("field: it must name the score in the answer, such as data.score")
	}
	if o.Key != "" && o.KeyHeader == "" {
		return nil, errors.New("keyHeader: it must say in which header the key goes")
	}
	if o.Scale == 0 {
		o.Scale = 100
	}
	if !(o.Scale > 0) || math.IsInf(o.Scale, 0) {
		return nil, fmt.Errorf("scale: %v is not above 0", o.Scale)
	}
	if o.Listed == 0 {
		o.Listed = 0.5
	}
	if !(o.Listed > 0 && o.Listed <= 1) {
		return nil, fmt.Errorf("listed: %v is not between 0 and 1", o.Listed)
	}
	if err := positive(field{"timeout", &o.Timeout, 3 * time.Second}, field{"ttl", &o.TTL, 24 * time.Hour}); err != nil {
		return nil, err
	}
	if err := counts(count{"cacheSize", &o.CacheSize, 16 << 10}, count{"perDay", &o.PerDay, 500}, count{"maxInFlight", &o.MaxInFlight, 4}); err != nil {
		return nil, err
	}
	if o.MaxBody < 0 {
		return nil, fmt.Errorf("maxBody: %d is negative", o.MaxBody)
	}
	if o.MaxBody == 0 {
		o.MaxBody = 256 << 10
	}
	client := &http.Client{}
	if o.HTTP != nil {
		*client = *o.HTTP
	}
	// A redirect could take the key and the address somewhere else.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &HTTPSource{
		o: o, path: strings.Split(o.Field, "."), client: client, now: now, cache: newCache(o.CacheSize),
		budget: budget{limit: o.PerDay, period: 24 * time.Hour},
		slots:  make(chan struct{}, o.MaxInFlight),
		breaker: gobreaker.NewCircuitBreaker[Finding](gobreaker.Settings{
			Name: o.Name, Timeout: time.Minute,
			// Neither is the service's fault.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, ErrSpent) },
		}),
		state: telemetry.NewState(log.With("service", o.Name), "a reputation service has no opinion", "the reputation service has an opinion again", now),
	}, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// Name implements Source.
func (s *HTTPSource) Name() string { return s.o.Name }

// Check implements Source.
func (s *HTTPSource) Check(ctx context.Context, client netip.Prefix) (Finding, error) {
	if f, ok := s.cache.get(client, s.now()); ok {
		return f, nil
	}
	limited, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-limited.Done():
		return Finding{}, fmt.Errorf("waiting for other questions: %w", limited.Err())
	}
	f, err := s.breaker.Execute(func() (Finding, error) {
		if !s.budget.take(s.now()) {
			return Finding{}, fmt.Errorf("%d questions a day: %w", s.o.PerDay, ErrSpent)
		}
		return s.ask(limited, client.Addr())
	})
	if !errors.Is(err, ErrSpent) && ctx.Err() == nil {
		s.state.Report(err)
	}
	if err != nil {
		return Finding{}, err
	}
	s.cache.put(client, f, s.now().Add(s.o.TTL))
	return f, nil
}

func (s *HTTPSource) ask(ctx context.Context, a netip.Addr) (Finding, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.Replace(s.o.URL, placeholder, url.QueryEscape(a.String()), 1), nil)
	if err != nil {
		return Finding{}, errors.New("the question cannot be asked: the URL is wrong")
	}
	req.Header.Set("Accept", "application/json")
	if s.o.KeyHeader != "" {
		req.Header.Set(s.o.KeyHeader, s.o.Key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		// url.Error tells the URL, which may hold a key.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return Finding{}, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return Finding{}, nil // how several services say that they do not know an address
	case resp.StatusCode/100 != 2:
		return Finding{}, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, s.o.MaxBody+1))
	if err != nil {
		return Finding{}, fmt.Errorf("reading the answer: %w", err)
	}
	if int64(len(body)) > s.o.MaxBody {
		return Finding{}, fmt.Errorf("the answer is larger than %d bytes", s.o.MaxBody)
	}
	value, known, err := scoreAt(body, s.path)
	if err != nil || !known {
		return Finding{}, err
	}
	share := value / s.o.Scale
	if share < 0 || share > 1 || math.IsNaN(share) {
		return Finding{}, fmt.Errorf("%s: %g is not between 0 and %g", s.o.Field, value, s.o.Scale)
	}
	if share < s.o.Listed {
		return Finding{}, nil
	}
	return Finding{Listed: true, Score: share, Detail: strconv.FormatFloat(math.Round(share*100), 'f', 0, 64) + " %"}, nil
}

// scoreAt returns the number at the path; known is false for null.
func scoreAt(body []byte, path []string) (value float64, known bool, err error) {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return 0, false, fmt.Errorf("the answer is not JSON: %w", err)
	}
	for i, part := range path {
		at := strings.Join(path[:i+1], ".")
		switch node := v.(type) {
		case map[string]any:
			next, ok := node[part]
			if !ok {
				return 0, false, fmt.Errorf("the answer has no %s", at)
			}
			v = next
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(node) {
				return 0, false, fmt.Errorf("the answer has no %s", at)
			}
			v = node[n]
		case nil:
			return 0, false, nil
		default:
			return 0, false, fmt.Errorf("the answer has no %s", at)
		}
	}
	switch n := v.(type) {
	case float64:
		return n, true, nil
	case string: // some services write numbers so
		f, err := strconv.ParseFloat(n, 64)
		if err != nil {
			return 0, false, fmt.Errorf("%s is not a number", strings.Join(path, "."))
		}
		return f, true, nil
	case nil:
		return 0, false, nil
	}
	return 0, false, fmt.Errorf("%s is not a number", strings.Join(path, "."))
}
