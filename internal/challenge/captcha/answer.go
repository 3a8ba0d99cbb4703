package captcha

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// verdict is what a provider says of a response.
type verdict struct {
	success  bool
	hostname string // where the widget was solved; "" if it does not tell
}

// Bounds of what is kept of a provider's error codes, which end up in logs.
const (
	maxCodes = 4
	maxCode  = 64
)

// judge makes a verdict of an answer. Only a 200 whose success is true is one; a failure is the visitor's unless
// the provider says that it is ours.
func (p *protocol) judge(status int, body []byte) (verdict, error) {
	switch {
	case status >= 300 && status < 400:
		return verdict{}, fmt.Errorf("%w: it answers %d, and redirects are not followed", ErrUnavailable, status)
	case status != http.StatusOK && (status < 400 || status >= 500):
		return verdict{}, fmt.Errorf("%w: it answers %d", ErrUnavailable, status)
	}
	a, err := p.parse(body)
	if err != nil {
		if status != http.StatusOK {
			return verdict{}, fmt.Errorf("%w: it answers %d", classOf(status), status)
		}
		return verdict{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if status == http.StatusOK && a.told && a.success {
		return verdict{success: true, hostname: a.hostname}, nil
	}
	for _, code := range a.codes {
		switch {
		case slices.Contains(p.keyCodes, code):
			return verdict{}, fmt.Errorf("%w: it says %q", ErrSettings, code)
		case slices.Contains(p.oddCodes, code):
			return verdict{}, fmt.Errorf("%w: it says %q", errOdd, code)
		case slices.Contains(p.downCodes, code):
			return verdict{}, fmt.Errorf("%w: it says %q", ErrUnavailable, code)
		}
	}
	switch {
	case status != http.StatusOK && !slices.ContainsFunc(a.codes, func(c string) bool { return slices.Contains(p.failCodes, c) }):
		return verdict{}, fmt.Errorf("%w: it answers %d %q", classOf(status), status, a.codes)
	case status == http.StatusOK && !a.told:
		return verdict{}, fmt.Errorf("%w: its answer has no %s that is true or false", ErrUnavailable, p.success)
	}
	return verdict{}, nil
}

// classOf returns the error for an answer that is not a 200 and does not say why.
func classOf(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrSettings
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return ErrUnavailable
	}
	return errOdd
}

// parsed is what is read of an answer.
type parsed struct {
	told     bool // success was there, as true or false
	success  bool
	hostname string
	codes    []string // bounded, and fit for a log
}

// parse reads an answer. What is missing or of another type is left out; the error says that it is no JSON object.
func (p *protocol) parse(body []byte) (parsed, error) {
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil || top == nil { // the error would quote the answer
		return parsed{}, errors.New("its answer is no JSON object")
	}
	var a parsed
	var success *bool
	if json.Unmarshal(find(top, p.success), &success) == nil && success != nil {
		a.told, a.success = true, *success
	}
	if json.Unmarshal(find(top, p.hostname), &a.hostname) != nil || len(a.hostname) > 512 {
		a.hostname = ""
	}
	var codes []string
	raw := find(top, p.codes)
	if json.Unmarshal(raw, &codes) != nil {
		var one string
		if codes = nil; json.Unmarshal(raw, &one) == nil {
			codes = []string{one}
		}
	}
	for _, c := range codes[:min(len(codes), maxCodes)] {
		a.codes = append(a.codes, printable(c))
	}
	return a, nil
}

// find returns the value at a path of names joined by dots, nil if there is none.
func find(object map[string]json.RawMessage, path string) json.RawMessage {
	for path != "" {
		name, rest, more := strings.Cut(path, ".")
		value := object[name]
		if !more {
			return value
		}
		object = nil
		if json.Unmarshal(value, &object) != nil {
			return nil
		}
		path = rest
	}
	return nil
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxCode)])
	return s
}
