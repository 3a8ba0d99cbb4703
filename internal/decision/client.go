package decision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Client speaks to an API. Errors that the other side reports are *Problem, wrapped.
type Client struct {
	Base string       // "http://127.0.0.1:8081"
	HTTP *http.Client // nil: http.DefaultClient
	Key  string       // sent as a bearer token; "" for none
}

// maxAnswer bounds what the client reads of an answer, in bytes. The largest is a
// full batch of decisions with the longest reasons.
const maxAnswer = 64 << 20

// Add adds decisions, all or none, and returns them as they are now. A missing origin is "operator".
func (c *Client) Add(ctx context.Context, ds []defense.Decision, o AddOptions) ([]defense.Decision, error) {
	in := make([]map[string]any, len(ds))
	for i := range ds {
		in[i] = sent(&ds[i])
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("adding decisions: %w", err)
	}
	q := url.Values{}
	if o.Force {
		q.Set("force", "true")
	}
	var answer Listing
	if err := c.do(ctx, http.MethodPost, "", q, "application/json", bytes.NewReader(body), &answer); err != nil {
		return nil, fmt.Errorf("adding decisions: %w", err)
	}
	return answer.Decisions, nil
}

// sent is d without what the log assigns and without zero times.
func sent(d *defense.Decision) map[string]any {
	m := map[string]any{
		"scope": d.Scope, "value": d.Value, "action": d.Action, "origin": d.Origin, "reason": d.Reason, "caseId": d.CaseID, "site": d.Site,
	}
	if !d.Created.IsZero() {
		m["created"] = d.Created
	}
	if !d.Expires.IsZero() {
		m["expires"] = d.Expires
	}
	return m
}

// values is the filter as query parameters.
func (f *Filter) values() url.Values {
	q := url.Values{}
	if f.Client.IsValid() {
		q.Set("client", f.Client.String())
	}
	if f.Value != "" {
		q.Set("value", f.Value)
	}
	if f.Action != nil {
		q.Set("action", f.Action.String())
	}
	if f.Origin != "" {
		q.Set("origin", f.Origin)
	}
	if f.Before != 0 {
		q.Set("before", strconv.FormatUint(f.Before, 10))
	}
	return q
}

// List returns decisions in force that fit, latest first; limit 0 is the server's default.
func (c *Client) List(ctx context.Context, f Filter, limit int) (Listing, error) {
	q := f.values()
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	var answer Listing
	if err := c.do(ctx, http.MethodGet, "", q, "", nil, &answer); err != nil {
		return Listing{}, fmt.Errorf("listing decisions: %w", err)
	}
	return answer, nil
}

// Delete deletes the decision of that id.
func (c *Client) Delete(ctx context.Context, id string) error {
	if err := c.do(ctx, http.MethodDelete, "/"+url.PathEscape(id), nil, "", nil, new(Deleted)); err != nil {
		return fmt.Errorf("deleting decision %s: %w", quote(id), err)
	}
	return nil
}

// DeleteWhere deletes the decisions that fit and returns how many.
func (c *Client) DeleteWhere(ctx context.Context, f Filter) (int, error) {
	var answer Deleted
	if err := c.do(ctx, http.MethodDelete, "", f.values(), "", nil, &answer); err != nil {
		return 0, fmt.Errorf("deleting decisions: %w", err)
	}
	return answer.Deleted, nil
}

// SinceOptions say how to ask for changes.
type SinceOptions struct {
	Limit int           // most changes; 0: the server's default
	Wait  time.Duration // for a change, when there is none; at most a minute
	Mode  *defense.Mode // the mode that is known: another one is a change too; nil: none is
}

// Since returns the changes after a position, see Log.Since, and the mode in force, nil if the server does not say. An
// error about a position from which changes can no longer be told wraps ErrBehind. The
// context and the HTTP client must leave more time than o.Wait.
func (c *Client) Since(ctx context.Context, from Position, o SinceOptions) (Page, *defense.Mode, error) {
	q := url.Values{"since": {strconv.FormatUint(from.After, 10)}}
	if from.Snapshot != 0 {
		q.Set("snapshot", strconv.FormatUint(from.Snapshot, 10))
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Wait > 0 {
		q.Set("wait", o.Wait.String())
	}
	if o.Mode != nil {
		q.Set("mode", o.Mode.String())
	}
	var answer changesAnswer
	if err := c.do(ctx, http.MethodGet, "", q, "", nil, &answer); err != nil {
		var p *Problem
		if errors.As(err, &p) && p.Status == http.StatusGone {
			err = fmt.Errorf("%w (%w)", ErrBehind, err)
		}
		return Page{}, nil, fmt.Errorf("asking for decision changes after %d: %w", from.After, err)
	}
	return Page{Changes: answer.Changes, Next: Position{After: answer.Since, Snapshot: answer.Snapshot}, More: answer.More}, answer.Mode, nil
}

// Import streams r to the server. When it fails on the way, the result says what was done before.
func (c *Client) Import(ctx context.Context, r io.Reader, o ImportOptions) (Imported, error) {
	q := url.Values{}
	for name, v := range map[string]string{"format": string(o.Format), "origin": o.Origin, "reason": o.Reason, "site": o.Site} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if o.Action != nil {
		q.Set("action", o.Action.String())
	}
	if !o.Expires.IsZero() {
		q.Set("expires", o.Expires.Format(time.RFC3339))
	}
	if o.Force {
		q.Set("force", "true")
	}
	var answer Imported
	if err := c.do(ctx, http.MethodPost, "/import", q, "application/octet-stream", r, &answer); err != nil {
		if p, ok := err.(*Problem); ok && p.Imported != nil {
			answer = *p.Imported
		}
		return answer, fmt.Errorf("importing decisions: %w", err)
	}
	return answer, nil
}

// Export writes the decisions in force to w as NDJSON.
func (c *Client) Export(ctx context.Context, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, "/export", nil, "", nil)
	if err != nil {
		return fmt.Errorf("exporting decisions: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("exporting decisions: %w", err)
	}
	return nil
}

// do sends a request and decodes the answer.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, contentType string, body io.Reader, answer any) error {
	resp, err := c.send(ctx, method, path, q, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// send sends a request and returns the response if it is a success; close its body.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, contentType string, body io.Reader) (*http.Response, error) {
	u := strings.TrimSuffix(c.Base, "/") + "/v1/decisions" + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.Key)
	}
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(p); err != nil {
		p = &Problem{} // not one of ours: a proxy's page, or plain text
	}
	p.Status, p.Title = resp.StatusCode, resp.Status
	return nil, p
}
