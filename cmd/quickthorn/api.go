package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/listen"
)

// apiClient speaks to the private listener of a running install.
type apiClient struct {
	base string
	key  string
	http *http.Client
}

func newAPIClient(address, key string) *apiClient {
	base, client := listen.Client(address)
	return &apiClient{base: base, key: key, http: client}
}

// up reports whether the install answers. A refused connection is "no", and so is an answer that
// is not our API's or refuses our key: something else listens there. Whoever goes on offline then is
// kept from a data directory that is in use by its lock.
func (a *apiClient) up(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var m map[string]any
	err := a.call(ctx, http.MethodGet, "/v1/mode", nil, &m)
	var dial *net.OpError
	var other *apiError
	if errors.As(err, &dial) || errors.As(err, &other) {
		return false, nil
	}
	return err == nil, err
}

func (a *apiClient) decisions() *decision.Client {
	return &decision.Client{Base: a.base, Key: a.key, HTTP: a.http}
}

// apiError is an answer that is not what was asked for.
type apiError struct {
	where, detail string
	status        int // 0 when the answer is not understood
}

func (e *apiError) Error() string { return e.where + ": " + shown(e.detail, 1000) }

// maxAnswer bounds what the client reads of one JSON answer.
const maxAnswer = 64 << 20

// call sends in as JSON, if it is not nil, and reads the answer into out.
func (a *apiClient) call(ctx context.Context, method, path string, in, out any) error {
	body, err := a.stream(ctx, method, path, "application/json", in)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(out); err != nil {
		return &apiError{where: a.base + path, detail: "the answer is not understood: " + err.Error()}
	}
	return nil
}

// stream sends a request and returns the body of a good answer.
func (a *apiClient) stream(ctx context.Context, method, path, accept string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+a.key)
	r.Header.Set("Accept", accept)
	res, err := a.http.Do(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		var p struct{ Detail string }
		_ = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&p) // a body that is no problem has no detail
		if p.Detail == "" {
			p.Detail = res.Status
		}
		where, _, _ := strings.Cut(path, "?")
		return nil, &apiError{a.base + where, p.Detail, res.StatusCode}
	}
	return res.Body, nil
}

// WriteBackup streams the running install's backup; it implements backup.Source.
func (a *apiClient) WriteBackup(ctx context.Context, w io.Writer) error {
	body, err := a.stream(ctx, http.MethodGet, "/v1/backup", "application/x-tar", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err
}
