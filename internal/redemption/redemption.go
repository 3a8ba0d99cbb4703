// Package redemption remembers which challenges were redeemed, so that a ticket earns one clearance however many
// edges there are: in a process, and by asking the one that all edges share.
//
// The rule that must never break: a memory that is away, slow or forgetful lets a ticket be redeemed again; it never keeps a
// reader from passing.
package redemption

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/private"
)

const (
	// Keep is how long a redemption is remembered at least: as long as its ticket may come back, by the clocks of several edges.
	Keep = 2*time.Hour + 20*time.Minute

	// Path is where the API answers.
	Path = "/v1/redemptions"

	maxBody = 1 << 10
)

// Store is the memory that all edges share.
type Store interface {
	// Redeem notes a redemption for the time keep and returns the first one of its ticket; known is false if there was none before. Of
	// several at once, one is the first.
	Redeem(ctx context.Context, r defense.Redemption, keep time.Duration) (first defense.Redemption, known bool, err error)
}

// Answer is what the API says.
type Answer struct {
	First defense.Redemption `json:"first"` // of the ticket
	Known bool               `json:"known"` // it was redeemed before
}

// API serves POST /v1/redemptions to edges.
type API struct{ Store Store }

// Register adds the API's route to mux.
func (a *API) Register(mux *http.ServeMux) { mux.HandleFunc("POST /v1/redemptions", a.redeem) }

func (a *API) redeem(w http.ResponseWriter, r *http.Request) {
	var in defense.Redemption
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := d.Decode(&in); err != nil {
		private.Problem(w, http.StatusBadRequest, "not a redemption: "+err.Error())
		return
	}
	if in.Ticket == 0 || in.Visitor == 0 || in.At.IsZero() || in.Share == 0 {
		private.Problem(w, http.StatusBadRequest, "a redemption has ticket, visitor, at and share, none of them zero")
		return
	}
	first, known, err := a.Store.Redeem(r.Context(), in, Keep)
	if err != nil {
		private.Problem(w, http.StatusServiceUnavailable, "the state cannot be written now")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(Answer{first, known}) // an error means that the edge is gone
}

// Client asks the API. It is safe for concurrent use.
type Client struct {
	Base string // "http://ai-service:8000"
	HTTP *http.Client
	Key  string // sent as a bearer token; "" for none
}

// Redeem notes a redemption and returns the first one of its ticket; known is false if there was none before.
func (c *Client) Redeem(ctx context.Context, in defense.Redemption) (first defense.Redemption, known bool, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return first, false, fmt.Errorf("redeem: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Base, "/")+Path, bytes.NewReader(body))
	if err != nil {
		return first, false, fmt.Errorf("redeem: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
	res, err := c.HTTP.Do(r)
	if err != nil {
		return first, false, fmt.Errorf("redeem: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return first, false, fmt.Errorf("redeem: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return first, false, fmt.Errorf("redeem: %s", res.Status)
	}
	var a Answer
	if err := json.Unmarshal(answer, &a); err != nil {
		return first, false, fmt.Errorf("redeem: %w", err)
	}
	if a.First.Ticket != in.Ticket {
		return first, false, fmt.Errorf("redeem: the answer is about another ticket")
	}
	return a.First, a.Known, nil
}
