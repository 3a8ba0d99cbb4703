package backend

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// Kind is what went wrong with a call, as far as it says what to do next.
type Kind int

// The kinds.
const (
	Caller  Kind = iota // the call is wrong: nobody answers it
	Unable              // this server cannot do it; another may
	Refused             // the server refuses our key
	Busy                // not now: After says when
	Broken              // the server fails, or cannot be reached
	Gone                // the caller has gone, or its time is over
)

// Failure is why a call was not answered.
type Failure struct {
	Kind  Kind
	Err   *chat.Error   // for the caller; it holds no key
	After time.Duration // of Busy: when to come again; 0: not known
}

// Error implements error.
func (f *Failure) Error() string { return f.Err.Error() }

// Again reports whether the same call may succeed at the same server a little later.
func (f *Failure) Again() bool { return f.Kind == Busy || f.Kind == Broken }

// Elsewhere reports whether another server may answer.
func (f *Failure) Elsewhere() bool { return f.Kind != Caller && f.Kind != Gone }

// broken is a failure of the server's, which the log tells of with its cause.
func (b *Backend) broken(status int, what string, cause error) *Failure {
	message := b.o.Name + " " + what
	err := errors.New(message)
	if cause != nil {
		err = fmt.Errorf("%s: %s", message, plain.Clip(b.mask(cause.Error()), maxCause))
	}
	b.state.Report(err)
	return &Failure{Kind: Broken, Err: &chat.Error{Status: status, Type: chat.ErrorServer, Message: message}}
}

// Codes of errors of the gateway's own.
const (
	CodeBusy      = "backend_busy"
	CodeRefused   = "backend_refuses_key"
	CodeExhausted = "insufficient_quota"
)

// How long a key rests where nobody says.
const (
	restBusy    = time.Second
	restRefused = time.Minute
	restEmpty   = 5 * time.Minute // its money is used up
	longestRest = time.Hour
)

// judge makes a failure of an answer that is none: status is 300 or more.
func (b *Backend) judge(resp *http.Response, body []byte) *Failure {
	status := resp.StatusCode
	after := RetryAfter(resp.Header, b.o.Now())
	switch {
	case status < 400:
		return b.broken(http.StatusBadGateway, fmt.Sprintf("redirects (it answers %d), which is not followed: is its address right?", status), nil)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		// The body may quote a part of the key.
		message := fmt.Sprintf("%s refuses this service's key (it answers %d)", b.o.Name, status)
		b.state.Report(errors.New(message))
		return &Failure{Kind: Refused, Err: &chat.Error{Status: http.StatusBadGateway, Type: chat.ErrorServer, Code: CodeRefused, Message: message}}
	case status > 599:
		return b.broken(http.StatusBadGateway, fmt.Sprintf("answers with status %d, which is none", status), nil)
	}
	e := b.o.Form.Error(status, body)
	e.Message, e.Type, e.Code, e.Param = b.mask(e.Message), b.mask(e.Type), b.mask(e.Code), b.mask(e.Param)
	switch {
	case e.Status == http.StatusPaymentRequired || e.Status == http.StatusTooManyRequests && strings.Contains(e.Code+e.Type, CodeExhausted):
		message := b.o.Name + " says that the quota of this service's key is used up"
		b.state.Report(errors.New(message))
		return &Failure{Kind: Refused, Err: &chat.Error{Status: http.StatusBadGateway, Type: chat.ErrorServer, Code: CodeExhausted, Message: message}, After: max(after, restEmpty)}
	case e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable && after > 0:
		return &Failure{Kind: Busy, Err: e, After: after}
	case e.Status >= 500 || e.Status == http.StatusRequestTimeout || e.Status == http.StatusConflict || e.Status == http.StatusTooEarly:
		b.state.Report(fmt.Errorf("%s answers %d", b.o.Name, status))
		return &Failure{Kind: Broken, Err: e, After: after}
	case e.Status == http.StatusNotFound:
		return &Failure{Kind: Unable, Err: e} // it does not have the model
	}
	return &Failure{Kind: Caller, Err: e}
}

// RetryAfter reads when to come again: seconds or a date (RFC 9110, section 10.2.3), or milliseconds as OpenAI has them. 0: it does not say. It is at
// most an hour.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return bounded(ms / 1000)
	}
	text := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(text, 64); err == nil && s > 0 {
		return bounded(s)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return bounded(at.Sub(now).Seconds())
	}
	return 0
}

// bounded makes a duration of seconds; not-a-number is the longest.
func bounded(seconds float64) time.Duration {
	if !(seconds < longestRest.Seconds()) {
		return longestRest
	}
	return time.Duration(seconds * float64(time.Second))
}
