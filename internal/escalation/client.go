package escalation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Client asks an engine elsewhere; it is a [Judge]. It is safe for concurrent use.
type Client struct {
	Base string       // "http://escalation-engine:8003"
	HTTP *http.Client // nil: http.DefaultClient
	Key  string       // sent as a bearer token; "" for none
	// Timeout bounds one call of Judge or Ready, retries included; 0: 30 s, as another opinion may take long.
	Timeout time.Duration
	// Backoff is about how long it waits before the first retry, and twice that before the second; 0: 200 ms.
	Backoff time.Duration
}

// ProblemError is what the engine answered instead of a judgement.
type ProblemError struct {
	Status int // of HTTP
	Detail string
}

// Error tells both.
func (e *ProblemError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("the escalation engine answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the escalation engine answers %d: %s", e.Status, e.Detail)
}

// Bounds on the client.
const (
	maxRetries    = 2
	maxJudgement  = 1 << 20 // bytes
	clientTimeout = 30 * time.Second
	clientBackoff = 200 * time.Millisecond
)

// Judge implements [Judge]. It asks again, at most twice, when the engine cannot be reached or is about to end, which is safe since a
// revision of a case is judged the same way every time. A case that no engine would judge is an
// *InvalidError, what the engine says instead of a judgement a *ProblemError, wrapped.
func (c *Client) Judge(ctx context.Context, k *defense.Case) (*defense.Judgement, error) {
	if err := check(k); err != nil {
		return nil, err
	}
	body, err := json.Marshal(JudgeRequest{k})
	if err != nil {
		return nil, fmt.Errorf("judge case: %w", err)
	}
	var j defense.Judgement
	if err := c.do(ctx, http.MethodPost, body, &j); err != nil {
		return nil, fmt.Errorf("judge case %s: %w", k.ID, err)
	}
	if j.CaseID != k.ID || j.Revision != k.Revision {
		return nil, fmt.Errorf("judge case %s revision %d: the answer is about case %q revision %d", k.ID, k.Revision, clean(j.CaseID), j.Revision)
	}
	return &j, nil
}

// Ready is nil when the engine can be reached and knows the key.
func (c *Client) Ready(ctx context.Context) error {
	var r Readiness
	if err := c.do(ctx, http.MethodGet, nil, &r); err != nil {
		return fmt.Errorf("ask the escalation engine whether it is there: %w", err)
	}
	if len(r.Stages) == 0 {
		return errors.New("ask the escalation engine whether it is there: it has no stages")
	}
	return nil
}

// do asks until there is an answer that asking again would not change.
func (c *Client) do(ctx context.Context, method string, body []byte, answer any) error {
	timeout, backoff := c.Timeout, c.Backoff
	if timeout == 0 {
		timeout = clientTimeout
	}
	if backoff == 0 {
		backoff = clientBackoff
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for retries := 0; ; retries++ {
		again, err := c.try(ctx, method, body, answer)
		if err == nil || !again || retries == maxRetries || ctx.Err() != nil {
			return err
		}
		// Between half and one and a half of it, so that many who lost the engine at once do not come back at once.
		if !wait.For(ctx, backoff/2+rand.N(backoff)) {
			return err // what went wrong says more than that the time is over
		}
		backoff *= 2
	}
}

// try asks once; again says whether it makes sense to ask again.
func (c *Client) try(ctx context.Context, method string, body []byte, answer any) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Base, "/")+"/v1/judge", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
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
		var u *url.Error
		return !errors.As(err, &u) || !u.Timeout(), err
	}
	defer resp.Body.Close()
	limited := io.LimitReader(resp.Body, maxJudgement)
	if resp.StatusCode/100 != 2 {
		p := &ProblemError{Status: resp.StatusCode}
		var told struct {
			Detail string `json:"detail"`
		}
		// What is no problem document, such as a proxy's page, is not shown.
		if json.NewDecoder(limited).Decode(&told) == nil {
			p.Detail = clean(told.Detail)
		}
		switch resp.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			again = true
		}
		return again, p
	}
	if err := json.NewDecoder(limited).Decode(answer); err != nil {
		return true, fmt.Errorf("read the answer: %w", err) // the engine ended while it answered
	}
	return false, nil
}
