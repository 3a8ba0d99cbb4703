package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

const (
	insertEvent = `INSERT INTO events (time, id, request, event, site, client, prefix, action, intended, score, rule, kind, family, harm,
		crawler, identity, status, bytes, duration, agent, method, host, path, query, details)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (time, id) DO NOTHING`
	insertAgent = `INSERT INTO agents (id, last, text) VALUES (?,?,?) ON CONFLICT (id) DO UPDATE SET last = excluded.last WHERE last < excluded.last`
	addCounter  = `INSERT INTO counters (hour, site, action, intended, count) VALUES (?,?,?,?,?)
		ON CONFLICT (hour, site, action, intended) DO UPDATE SET count = count + excluded.count`
)

const (
	minuteMillis = 60 * 1000
	hourMillis   = 60 * minuteMillis
)

// details are the parts of an event that nothing selects or groups by.
type details struct {
	Schema    int                   `json:"schema"`
	Edge      string                `json:"edge,omitempty"`
	ASN       uint32                `json:"asn,omitempty"`
	Country   string                `json:"country,omitempty"`
	Token     string                `json:"token,omitempty"`
	Class     string                `json:"class,omitempty"`
	Protocol  string                `json:"protocol,omitempty"`
	Referrer  string                `json:"referrer,omitempty"`
	Headers   defense.EventHeaders  `json:"headers"`
	TLS       *defense.EventTLS     `json:"tls,omitempty"`
	How       string                `json:"how,omitempty"`
	Signals   []defense.Signal      `json:"signals,omitempty"`
	Reason    string                `json:"reason,omitempty"`
	Basis     defense.Basis         `json:"basis"`
	Mode      defense.Mode          `json:"mode"`
	Posture   defense.Posture       `json:"posture"`
	Decision  string                `json:"decision,omitempty"`
	Shadow    []defense.ShadowHit   `json:"shadow,omitempty"`
	Upstream  float64               `json:"upstream,omitempty"`
	Challenge *defense.EventOutcome `json:"challenge,omitempty"`
	Tarpit    *defense.EventTarpit  `json:"tarpit,omitempty"`
}

// Append stores the events in one transaction. Times are kept to the millisecond. The events are changed: each is
// brought within the limits of [record.Bound].
// Errors wrap ErrCorrupt or ErrFull where they apply.
func (a *Archive) Append(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	err = a.write(ctx, func(tx *sql.Tx, db *files) error {
		insert, agent := tx.Stmt(db.insert), tx.Stmt(db.agent)
		// The driver starts a goroutine for each statement whose context can end; between statements is often enough.
		stmtCtx := context.WithoutCancel(ctx)
		minutes := map[int64]int64{} // by agent: the newest minute stored in this batch
		args := make([]any, 0, 25)
		duplicates = 0
		for _, e := range events {
			if err := ctx.Err(); err != nil {
				return err
			}
			record.Bound(e)
			id, minute := agentID(e.Request.Agent), floor(e.Time.UnixMilli(), minuteMillis)
			if last, ok := minutes[id]; !ok || last < minute {
				if _, err := agent.ExecContext(stmtCtx, id, minute, e.Request.Agent); err != nil {
					return err
				}
				minutes[id] = minute
			}
			var err error
			if args, err = a.row(args[:0], e, id); err != nil {
				return err
			}
			res, err := insert.ExecContext(stmtCtx, args...)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			duplicates += 1 - int(n)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("appending %d events: %w", len(events), err)
	}
	return duplicates, nil
}

// row appends the values of insertEvent.
func (a *Archive) row(args []any, e *defense.Event, agent int64) ([]any, error) {
	r, v := &e.Request, &e.Verdict
	d := details{
		Schema: e.Schema, Edge: e.Edge, ASN: e.Client.ASN, Country: e.Client.Country, Token: e.Client.Token,
		Class: r.Class, Protocol: r.Protocol, Referrer: a.privacy.referrer(r.Referrer), Headers: r.Headers, TLS: r.TLS,
		How: e.Identity.How, Signals: e.Signals, Reason: v.Reason, Basis: v.Basis, Mode: v.Mode, Posture: v.Posture,
		Decision: v.Decision, Shadow: v.Shadow, Upstream: finite(e.Response.UpstreamDuration), Challenge: e.Challenge, Tarpit: e.Tarpit,
	}
	if d.Tarpit != nil {
		t := *d.Tarpit
		t.Held = finite(t.Held)
		d.Tarpit = &t
	}
	text, err := json.Marshal(&d)
	if err != nil {
		return nil, fmt.Errorf("encoding event %q: %w", e.ID, err)
	}
	client, prefix := a.privacy.client(e.Client.Address)
	return append(args,
		e.Time.UnixMilli(), idValue(e.ID), idValue(e.RequestID), e.Kind, e.Site, client, prefix,
		v.Action.String(), v.Intended.String(), v.Score, v.Rule, r.Kind.String(), r.Family.String(), harm(e),
		e.Identity.Crawler, e.Identity.Status.String(), e.Response.Status, e.Response.Bytes, int64(math.Round(finite(e.Response.Duration)*1e6)),
		agent, r.Method, r.Host, r.Path, a.privacy.query(r.Query), string(text)), nil
}

// finite makes a number of seconds one that JSON and an integer of microseconds can hold.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return max(-1e9, min(1e9, f))
}

// AddCounters adds to the exact counters in one transaction.
func (a *Archive) AddCounters(ctx context.Context, counters []record.Counter) error {
	err := a.write(ctx, func(tx *sql.Tx, db *files) error {
		add := tx.Stmt(db.addCount)
		for _, c := range counters {
			n := int64(min(c.Count, math.MaxInt64))
			if _, err := add.ExecContext(ctx, floorHour(c.Hour.UnixMilli()), c.Site, c.Action.String(), c.Intended.String(), n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding to %d counters: %w", len(counters), err)
	}
	return nil
}

// write runs do in a transaction of the writing connection. A file that turns out to be broken is replaced,
// if the options say so; the error is returned all the same.
func (a *Archive) write(ctx context.Context, do func(*sql.Tx, *files) error) error {
	used, err := a.tryWrite(ctx, do)
	if err != nil {
		return a.replaceIfBroken(ctx, used, explain(err))
	}
	return nil
}

func (a *Archive) tryWrite(ctx context.Context, do func(*sql.Tx, *files) error) (*files, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	db := a.files
	tx, err := db.w.BeginTx(ctx, nil)
	if err != nil {
		return db, err
	}
	defer tx.Rollback() // without effect after a commit
	if err := do(tx, db); err != nil {
		return db, err
	}
	return db, tx.Commit()
}

// harm says what reader the client looks like if the verdict stopped it or would have;
// "" if it does not look like one or passed. A crawler that proved who it is counts as one where the
// verdict is a matter of judgement: the site's owner may have decided against it, a score has not.
func harm(e *defense.Event) string {
	crawler, judged := e.Identity.Crawler, e.Verdict.Basis == defense.BasisJudged
	switch family, kind := e.Request.Family, e.Request.Kind; {
	case !e.Verdict.Action.Stops() && !e.Verdict.Intended.Stops(), e.Identity.Status == defense.IdentityImpostor:
		return ""
	case e.Identity.Status == defense.IdentityVerified:
		if judged {
			return "crawler"
		}
		return ""
	case family == defense.AgentFeed, kind == defense.KindFeed && crawler == "":
		return "feed"
	case family == defense.AgentGit, kind == defense.KindGit && crawler == "":
		return "git"
	case kind == defense.KindPreview && judged:
		return "preview"
	case crawler != "":
		return ""
	case family == defense.AgentBrowser:
		return "browser"
	case family == defense.AgentApp:
		return "app"
	}
	return ""
}

// agentID is the key of a User-Agent's text.
func agentID(s string) int64 {
	sum := sha256.Sum256([]byte(s))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// idValue stores a ULID in 16 bytes and anything else as it is.
func idValue(s string) any {
	if u, err := ulid.ParseStrict(s); err == nil && u.String() == s {
		return u[:]
	}
	return s
}

// readID undoes idValue.
func readID(v any) string {
	switch v := v.(type) {
	case []byte:
		if len(v) == len(ulid.ULID{}) {
			return ulid.ULID(v).String()
		}
		return string(v)
	case string:
		return v
	}
	return ""
}

// floorHour turns Unix milliseconds into hours, rounding down.
func floorHour(ms int64) int64 { return floor(ms, hourMillis) }

// floor divides by a positive unit, rounding down.
func floor(n, unit int64) int64 {
	q := n / unit
	if n%unit < 0 {
		q--
	}
	return q
}
