package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
)

// apiClient speaks to the private listener of a running install.
type apiClient struct {
	base string
	key  string
	http *http.Client
}

func newAPIClient(listen, key string) *apiClient {
	t := &http.Transport{ResponseHeaderTimeout: time.Minute}
	a := &apiClient{base: "http://" + listen, key: key, http: &http.Client{Transport: t}}
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		a.base = "http://localhost"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	} else if host, port, err := net.SplitHostPort(listen); err == nil && (host == "" || host == "0.0.0.0" || host == "::") {
		a.base = "http://" + net.JoinHostPort("127.0.0.1", port)
	}
	return a
}

// up reports whether the install answers. A refused connection is "no"; an answer that refuses
// the key is an error, because another install's listener must not be mistaken for ours.
func (a *apiClient) up(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var m map[string]any
	err := a.call(ctx, http.MethodGet, "/v1/mode", nil, &m)
	var net *net.OpError
	if errors.As(err, &net) {
		return false, nil
	}
	return err == nil, err
}

func (a *apiClient) decisions() *decision.Client {
	return &decision.Client{Base: a.base, Key: a.key, HTTP: a.http}
}

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
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
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
		return nil, fmt.Errorf("%s%s: %s", a.base, strings.SplitN(path, "?", 2)[0], p.Detail)
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
