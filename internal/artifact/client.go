package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client is the Library of a service that serves the API.
type Client struct {
	Base string       // "http://ai-service:8000"
	HTTP *http.Client // nil: http.DefaultClient
	Key  string       // sent as a bearer token; "" for none
}

// callTime bounds one call: at 1 MiB/s the largest artifact takes about that.
const callTime = time.Minute

// List lists all versions.
func (c *Client) List(ctx context.Context) ([]Artifact, error) {
	var l Listing
	err := c.do(ctx, http.MethodGet, "/v1/artifacts", nil, decode(&l))
	return l.Artifacts, err
}

// Get returns a version with its body.
func (c *Client) Get(ctx context.Context, kind, name string, version int64) (a Artifact, body []byte, err error) {
	a = Artifact{Kind: kind, Name: name}
	err = c.do(ctx, http.MethodGet, address(kind, name)+"?version="+strconv.FormatInt(version, 10), nil, func(res *http.Response) error {
		if a.Version, err = strconv.ParseInt(res.Header.Get(headerVersion), 10, 64); err != nil {
			return fmt.Errorf("%s: %w", headerVersion, err)
		}
		if a.At, err = http.ParseTime(res.Header.Get("Last-Modified")); err != nil {
			return fmt.Errorf("Last-Modified: %w", err)
		}
		if body, err = io.ReadAll(io.LimitReader(res.Body, MaxBody+1)); err != nil {
			return err
		}
		if len(body) > MaxBody {
			return fmt.Errorf("more than %d bytes", MaxBody)
		}
		a.Size, a.SHA256 = int64(len(body)), res.Header.Get(headerSum)
		return a.Check(body)
	})
	return a, body, err
}

// Put keeps the body as the next version, unless it is the latest one's.
func (c *Client) Put(ctx context.Context, kind, name, note string, body []byte) (a Artifact, err error) {
	target := address(kind, name)
	if note != "" {
		target += "?" + url.Values{"note": {note}}.Encode()
	}
	return a, c.do(ctx, http.MethodPut, target, body, decode(&a))
}

func address(kind, name string) string {
	return "/v1/artifacts/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}

func decode(v any) func(res *http.Response) error {
	return func(res *http.Response) error { return json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(v) }
}

func (c *Client) do(ctx context.Context, method, target string, body []byte, take func(res *http.Response) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.Base, "/")+target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("artifact: %w", err)
	}
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("artifact: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		if err := take(res); err != nil {
			return fmt.Errorf("artifact: the answer of %s: %w", c.Base, err)
		}
		return nil
	}
	var p struct{ Detail string }
	_ = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&p) // a body that is no problem has no detail
	if res.StatusCode == http.StatusNotFound {
		return fmt.Errorf("artifact: %w at %s: %s", ErrUnknown, c.Base, p.Detail)
	}
	return fmt.Errorf("artifact: %s answered %s: %s", c.Base, res.Status, p.Detail)
}
