package record

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// maxParam bounds a query parameter, in bytes.
const maxParam = 512

var filterParams = []string{
	"since", "until", "id", "site", "client", "action", "intended", "event", "kind",
	"host", "path", "agent", "rule", "crawler", "before", "limit",
}

// ParseFilter reads a filter from query parameters named like Filter's fields. Times are RFC 3339
// or how long before now, as in "24h" or "7d". Unknown, repeated and
// senseless parameters are errors that name the parameter.
func ParseFilter(q url.Values, now time.Time) (Filter, error) {
	var f Filter
	if err := onlyParams(q, filterParams); err != nil {
		return f, err
	}
	var err error
	if f.Since, f.Until, err = parsePeriod(q, now); err != nil {
		return f, err
	}
	for name, to := range map[string]*string{
		"id": &f.ID, "site": &f.Site, "event": &f.Event, "host": &f.Host, "path": &f.Path,
		"agent": &f.Agent, "rule": &f.Rule, "crawler": &f.Crawler, "before": &f.Before,
	} {
		*to = q.Get(name)
	}
	if v := q.Get("client"); v != "" {
		if f.Client, err = defense.ParseAddressOrPrefix(v); err != nil {
			return f, fmt.Errorf("client: %w", err)
		}
	}
	for name, to := range map[string]**defense.Action{"action": &f.Action, "intended": &f.Intended} {
		if v := q.Get(name); v != "" {
			a, err := defense.ParseAction(v)
			if err != nil {
				return f, fmt.Errorf("%s: %w", name, err)
			}
			*to = &a
		}
	}
	if v := q.Get("kind"); v != "" {
		k, err := defense.ParseKind(v)
		if err != nil {
			return f, fmt.Errorf("kind: %w", err)
		}
		f.Kind = &k
	}
	if v := q.Get("limit"); v != "" {
		if f.Limit, err = strconv.Atoi(v); err != nil || f.Limit < 1 {
			return f, fmt.Errorf("limit: %q is not a positive number", v)
		}
	}
	return f, nil
}

func onlyParams(q url.Values, known []string) error {
	for name, values := range q {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown parameter %q: use %s", cut(name, maxShort), strings.Join(known, ", "))
		}
		if len(values) != 1 {
			return fmt.Errorf("%s: given %d times", name, len(values))
		}
		if len(values[0]) > maxParam {
			return fmt.Errorf("%s: %d bytes, at most %d", name, len(values[0]), maxParam)
		}
	}
	return nil
}

func parsePeriod(q url.Values, now time.Time) (since, until time.Time, err error) {
	if since, err = parseTime(q.Get("since"), now); err != nil {
		return since, until, fmt.Errorf("since: %w", err)
	}
	if until, err = parseTime(q.Get("until"), now); err != nil {
		return since, until, fmt.Errorf("until: %w", err)
	}
	if !until.IsZero() && !since.Before(until) {
		return since, until, fmt.Errorf("since: %s is not before until", since.Format(time.RFC3339))
	}
	return since, until, nil
}

// maxAgo bounds a time that is given as an age.
const maxAgo = 100 * 365 * 24 * time.Hour

// parseTime reads RFC 3339 or an age; "" gives the zero time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		if y := t.Year(); y < 1970 || y > 9999 {
			return time.Time{}, fmt.Errorf("the year of %q is out of range", s)
		}
		return t, nil
	}
	var ago time.Duration
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return time.Time{}, errTime(s)
		}
		ago = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if ago, err = time.ParseDuration(s); err != nil {
			return time.Time{}, errTime(s)
		}
	}
	if ago < 0 || ago > maxAgo {
		return time.Time{}, errTime(s)
	}
	return now.Add(-ago), nil
}

func errTime(s string) error {
	return fmt.Errorf("%q is neither a time such as 2026-11-25T12:00:00Z nor an age such as 24h or 7d", s)
}
