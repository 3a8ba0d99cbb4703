// Package ship brings what an edge has recorded to the intake over HTTP.
//
// A [Client] is the record.Sink of an edge whose intake is another process. It keeps nothing itself: what
// fails is an error, and the Recorder sends the same again, which the ids of events and of sets of counters make safe.
// Give it an HTTP client with a certificate for mTLS, or a key, or both.
package ship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/plain"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Bounds of what is sent and read at once. The intake takes 10,000 events, 32 MiB when unpacked and 8 MiB as
// sent; an event that exceeds its own bound there comes back as rejected.
const (
	maxEvents = 5000     // of one request
	maxPlain  = 16 << 20 // bytes of one request before packing, beyond which no further event is added
	maxAnswer = 1 << 20  // bytes
	maxTold   = 3        // rejected events that one message in the log names
	maxTries  = 3        // of what the intake says it cannot read: once may be the connection's fault
	keptBytes = 32 << 20 // of buffers that are kept for the next batch
)

// maxRetryAfter bounds how long the intake can ask to be left alone.
const maxRetryAfter = 5 * time.Minute

// Options are the settings of a Client. Base, Edge, Log and Now are required.
type Options struct {
	Base    string        // of the intake: "http://ai-service:8000"
	HTTP    *http.Client  // nil: one with the standard transport; redirects are not followed
	Key     string        // sent as a bearer token; "" for none
	Edge    string        // name of the edge whose counters these are
	Timeout time.Duration // of one request; 0: 20 s
	Log     *slog.Logger
	Now     func() time.Time
}

// Client is a record.Sink. It is safe for concurrent use; batches of events wait for each other.
type Client struct {
	o    Options
	http http.Client
	base string

	mu     sync.Mutex // held while a batch is sent: the buffers below are its body
	packer *zstd.Encoder
	plain  bytes.Buffer
	lines  *json.Encoder // into plain
	packed []byte

	refused, refusedSet refusal

	accepted, duplicates, rejected, rejectedSets, failed, sent atomic.Uint64

	rejecting *telemetry.State
}

var _ record.Sink = (*Client)(nil)

// New returns a client. The error says what is wrong with the address.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("address of the intake: %q is not like http://ai-service:8000", o.Base)
	}
	if o.Timeout <= 0 {
		o.Timeout = 20 * time.Second
	}
	c := &Client{o: o, base: strings.TrimSuffix(o.Base, "/")}
	if o.HTTP != nil {
		c.http = *o.HTTP
	}
	// A redirect would carry events and key to somebody else.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.packer, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10)); err != nil {
		return nil, fmt.Errorf("make the encoder: %w", err)
	}
	c.lines = json.NewEncoder(&c.plain)
	c.lines.SetEscapeHTML(false)
	c.rejecting = telemetry.NewState(o.Log, "the intake rejects events, which are lost; are both of the same version?", "the intake takes all events again", o.Now)
	return c, nil
}

// Error is an answer of the intake that is no success.
type Error struct {
	Status int
	Detail string // what the intake says of it, "" if it does not
	after  time.Duration
}

// Error returns status and detail.
func (e *Error) Error() string {
	s := strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// RetryAfter returns how long the intake asks to be left alone, at most five minutes; 0 if it does not.
func (e *Error) RetryAfter() time.Duration { return e.after }

// refusal counts how often the intake would not read the same things.
type refusal struct {
	mu    sync.Mutex
	times map[string]int // by id
}

// final reports whether the thing of that id, which was refused once more, is to be given up: to send it for ever would
// keep back all that comes after it.
func (r *refusal) final(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.times) > 100 || r.times == nil {
		r.times = map[string]int{}
	}
	r.times[id]++
	return r.times[id] >= maxTries
}

// unreadable reports whether an answer says that the intake will not take what was sent, however often.
func unreadable(e *Error) bool {
	switch e.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// receipt is the intake's answer to events.
type receipt struct {
	Accepted  *int `json:"accepted"`
	Duplicate int  `json:"duplicate"`
	Rejected  []struct {
		Index   int    `json:"index"`
		Problem string `json:"problem"`
	} `json:"rejected"` // the first ones
}

// Append sends the events, in several requests when they are many. An error means that some may not have been taken: send all again.
// Events that the intake rejects are counted and said in the log, once while it lasts; to send them again would not help, so they are no error. A batch
// that it cannot read at all is treated like that when it comes for the third time.
func (c *Client) Append(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.shrink()
	for len(events) > 0 {
		n, err := c.write(events)
		if err != nil {
			return duplicates, c.fail("packing events", err)
		}
		d, err := c.sendEvents(ctx, events[:n])
		if err != nil {
			return duplicates, c.fail("sending events", err)
		}
		duplicates += d
		events = events[n:]
	}
	return duplicates, nil
}

func (c *Client) fail(doing string, err error) error {
	c.failed.Add(1)
	return fmt.Errorf("%s to the intake: %w", doing, err)
}

// write fills plain with the first events, as many as one request takes, and returns how many.
func (c *Client) write(events []*defense.Event) (n int, err error) {
	c.plain.Reset()
	for n < len(events) && n < maxEvents && c.plain.Len() < maxPlain {
		if err := c.lines.Encode(events[n]); err != nil {
			return 0, fmt.Errorf("event %s: %w", events[n].ID, err)
		}
		n++
	}
	return n, nil
}

// sendEvents sends what plain holds, which is those events. When it is too large for the intake, it goes in halves.
func (c *Client) sendEvents(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	c.packed = c.packer.EncodeAll(c.plain.Bytes(), c.packed[:0])
	body, err := c.post(ctx, "/v1/events", "application/x-ndjson", "zstd", c.packed)
	var problem *Error
	switch {
	case err == nil:
	case !errors.As(err, &problem):
		return 0, err
	case problem.Status == http.StatusRequestEntityTooLarge && len(events) > 1:
		for _, half := range [][]*defense.Event{events[:len(events)/2], events[len(events)/2:]} {
			if _, err := c.write(half); err != nil {
				return duplicates, err
			}
			d, err := c.sendEvents(ctx, half)
			if duplicates += d; err != nil {
				return duplicates, err
			}
		}
		return duplicates, nil
	case problem.Status == http.StatusRequestEntityTooLarge, unreadable(problem) && c.refused.final(events[0].ID):
		c.reject(len(events), fmt.Errorf("%d events: %w", len(events), err))
		return 0, nil
	default:
		return 0, err
	}
	var r receipt
	if err := json.Unmarshal(body, &r); err != nil || r.Accepted == nil || *r.Accepted < 0 || r.Duplicate < 0 || *r.Accepted+r.Duplicate+len(r.Rejected) > len(events) {
		return 0, errForeign
	}
	c.sent.Add(uint64(len(events)))
	c.accepted.Add(uint64(*r.Accepted))
	c.duplicates.Add(uint64(r.Duplicate))
	c.reject(len(events)-*r.Accepted-r.Duplicate, rejections(events, &r))
	return r.Duplicate, nil
}

// reject counts events that the intake does not take, none of them included.
func (c *Client) reject(n int, why error) {
	c.rejected.Add(uint64(n))
	if n == 0 {
		why = nil
	}
	c.rejecting.Report(why)
}

// rejections tells of the first rejected events; nil when none was.
func rejections(events []*defense.Event, r *receipt) error {
	n := len(events) - *r.Accepted - r.Duplicate
	if n == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d events", n, len(events))
	for _, e := range r.Rejected[:min(len(r.Rejected), maxTold)] {
		if e.Index >= 0 && e.Index < len(events) {
			fmt.Fprintf(&b, "; %s: %s", events[e.Index].ID, short(e.Problem))
		}
	}
	return errors.New(b.String())
}

// short bounds a text from the other side.
func short(s string) string { return plain.Clip(s, 200) }

// counterBatch is the body of POST /v1/counters.
type counterBatch struct {
	ID       string           `json:"id"`
	Edge     string           `json:"edge"`
	Counters []record.Counter `json:"counters"`
}

// AddCounters sends a set of counters. The intake counts a set once, by its id, however often it comes.
func (c *Client) AddCounters(ctx context.Context, id string, counters []record.Counter) error {
	if len(counters) == 0 {
		return nil
	}
	body, err := json.Marshal(counterBatch{ID: id, Edge: c.o.Edge, Counters: counters})
	if err != nil {
		return c.fail("packing counters", err)
	}
	_, err = c.post(ctx, "/v1/counters", "application/json", "", body)
	var problem *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &problem) && unreadable(problem) && c.refusedSet.final(id):
		c.rejectedSets.Add(1)
		c.o.Log.Error("the intake does not take a set of counters, which is lost", "counters", len(counters), "error", err)
		return nil
	}
	return c.fail("sending counters", err)
}

var errForeign = errors.New("the answer is not that of an intake: is the address right?")

// post sends a body and returns the answer of a success, which is 202. Problems are *Error.
func (c *Client) post(ctx context.Context, path, contentType, encoding string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, fmt.Errorf("no answer within %s", c.o.Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	if c.o.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Key)
	}
	// Not sent; it tells net/http that the request may go again when a connection that lay idle turns out to be closed.
	req.Header["Idempotency-Key"] = nil
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode == http.StatusAccepted && err == nil:
		return answer, nil
	case resp.StatusCode == http.StatusAccepted:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case resp.StatusCode/100 == 2:
		return nil, fmt.Errorf("%w: %s", errForeign, resp.Status)
	}
	e := &Error{Status: resp.StatusCode, after: c.retryAfter(resp)}
	var problem struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(answer, &problem) == nil { // otherwise it is a page of something in between
		e.Detail = short(problem.Detail)
	}
	return nil, e
}

// retryAfter reads the header of that name, in seconds or as a date (RFC 9110, 10.2.3).
func (c *Client) retryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	s := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(0, t.Sub(c.o.Now())), maxRetryAfter)
	}
	return 0
}

// shrink gives buffers back that one unusual batch has made large.
func (c *Client) shrink() {
	if c.plain.Cap()+cap(c.packed) > keptBytes {
		c.plain, c.packed = bytes.Buffer{}, nil
	}
}

// Stats is what a client has done since its start, for metrics.
type Stats struct {
	Sent       uint64 // events in requests that were answered
	Accepted   uint64 // events
	Duplicates uint64 // events that the intake had before
	Rejected   uint64 // events that the intake does not take, and are lost
	// RejectedSets counts sets of counters that the intake does not take, and are lost.
	RejectedSets uint64
	Failed       uint64 // attempts to send that failed
	Err          error  // why events are rejected now; nil when none is
}

// Stats returns the present state.
func (c *Client) Stats() Stats {
	return Stats{
		Sent: c.sent.Load(), Accepted: c.accepted.Load(), Duplicates: c.duplicates.Load(), Rejected: c.rejected.Load(), RejectedSets: c.rejectedSets.Load(), Failed: c.failed.Load(),
		Err: c.rejecting.Err(),
	}
}
