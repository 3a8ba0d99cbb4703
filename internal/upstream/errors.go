package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
)

// Failure is the kind of reason for which a request was not answered in full.
// It is an error, so errors.Is(err, ErrTimeout) works, and [Failure.String]
// suits a metric's label.
type Failure uint8

// The failures.
const (
	FailureNone       Failure = iota
	FailureConnect            // no connection to the upstream
	FailureTimeout            // connecting, sending or waiting for the header took too long
	FailureReset              // the upstream closed the connection without an answer
	FailureResponse           // the upstream's answer was malformed, too large or broke off
	FailureClientGone         // the client went away, or the request was cancelled
	FailureRequest            // the request cannot be expressed safely to the upstream
	FailureBody               // the client's body was malformed or broke off

	FailureKinds // how many there are, for arrays of counters
)

// The failures as errors, for [errors.Is].
const (
	ErrConnect     = FailureConnect
	ErrTimeout     = FailureTimeout
	ErrReset       = FailureReset
	ErrBadResponse = FailureResponse
	ErrClientGone  = FailureClientGone
	ErrRequest     = FailureRequest
	ErrRequestBody = FailureBody
)

// String returns the failure's name: "connect", "timeout", "reset",
// "bad-response", "client-gone", "bad-request", "request-body", or "none".
func (f Failure) String() string {
	switch f {
	case FailureConnect:
		return "connect"
	case FailureTimeout:
		return "timeout"
	case FailureReset:
		return "reset"
	case FailureResponse:
		return "bad-response"
	case FailureClientGone:
		return "client-gone"
	case FailureRequest:
		return "bad-request"
	case FailureBody:
		return "request-body"
	}
	return "none"
}

// Error returns the failure in words.
func (f Failure) Error() string {
	switch f {
	case FailureConnect:
		return "cannot connect to the upstream"
	case FailureTimeout:
		return "the upstream took too long"
	case FailureReset:
		return "the upstream closed the connection without an answer"
	case FailureResponse:
		return "the upstream's answer is not complete and valid HTTP"
	case FailureClientGone:
		return "the client went away"
	case FailureRequest:
		return "the request cannot be forwarded"
	case FailureBody:
		return "the request body broke off"
	}
	return "no failure"
}

// Status returns the status code with which a gateway answers the failure:
// 502, 504, 400, or 499 (nginx's code, for logs: nobody is left to read it)
// when the client has gone. It is 0 for no failure.
func (f Failure) Status() int {
	switch f {
	case FailureNone:
		return 0
	case FailureTimeout:
		return http.StatusGatewayTimeout
	case FailureClientGone:
		return 499
	case FailureRequest, FailureBody:
		return http.StatusBadRequest
	}
	return http.StatusBadGateway
}

// KindOf returns the failure that err carries, FailureNone if it carries none.
func KindOf(err error) Failure {
	var e *Error
	if errors.As(err, &e) {
		return e.Failure
	}
	return FailureNone
}

// Error is what [Upstream.Forward] returns when a request was not answered in
// full. It matches its Failure and the error below it.
type Error struct {
	Failure Failure
	// Started says that part of the answer has reached the client, who must
	// not take it for a complete one: abort the connection.
	Started bool
	// Err is the cause. Its text may quote the upstream, always escaped and
	// cut short.
	Err error
}

// Error returns the failure and its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Failure.Error()
	}
	return e.Failure.Error() + ": " + e.Err.Error()
}

// Unwrap returns the failure and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Failure}
	}
	return []error{e.Failure, e.Err}
}

// fail makes an *Error. The context's end explains any error that follows from it.
func fail(ctx context.Context, f Failure, cause error) *Error {
	var inner *Error
	if errors.As(cause, &inner) {
		return inner
	}
	switch err := ctx.Err(); {
	case err == nil:
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Failure: FailureTimeout, Err: context.Cause(ctx)}
	default:
		return &Error{Failure: FailureClientGone, Err: context.Cause(ctx)}
	}
	return &Error{Failure: f, Err: cause}
}

// bodyFailure makes an *Error of a failure to read the client's body. One that
// ends too soon is a client that went away; what is left is a malformed one, a
// limit, or a deadline that the caller set.
func bodyFailure(ctx context.Context, cause error) *Error {
	var op *net.OpError
	if errors.Is(cause, io.ErrUnexpectedEOF) || errors.As(cause, &op) && !op.Timeout() {
		return fail(ctx, FailureClientGone, cause)
	}
	return fail(ctx, FailureBody, cause)
}

// isTimeout reports whether err is a deadline's or a dialer's time-out.
func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
