package alert

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Rule says where alerts go. The first rule that fits an alert counts; one that no rule fits is not sent.
type Rule struct {
	Severity Severity // fits alerts that are at least so severe
	Kinds    []string // fits these kinds; empty: all
	Sites    []string // fits these sites; empty: all, and alerts without a site
	Channels []string // names of channels; empty: every channel
	Silence  bool     // what fits goes nowhere
	Quiet    *QuietHours
}

// QuietHours hold alerts back and have them sent as one digest when they end.
type QuietHours struct {
	From, To Clock          // by the wall clock of Location; To is the first minute that is not quiet. From may be the later one: over midnight
	Location *time.Location // nil: UTC
	// CriticalPasses lets critical alerts through, with what they are grouped with.
	CriticalPasses bool
}

// Clock is a time of day in minutes since midnight, 0 to 1439.
type Clock int

// ParseClock reads a time of day such as "22:00".
func ParseClock(text string) (Clock, error) {
	if len(text) == 5 && text[2] == ':' {
		if t, err := time.Parse("15:04", text); err == nil {
			return Clock(t.Hour()*60 + t.Minute()), nil
		}
	}
	return 0, fmt.Errorf("%q is not a time of day from 00:00 to 23:59", text)
}

// String returns a time of day as [ParseClock] reads it.
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

// MarshalText implements encoding.TextMarshaler.
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Clock) UnmarshalText(text []byte) error {
	v, err := ParseClock(string(text))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

func (q *QuietHours) check() error {
	switch {
	case q.From < 0 || q.From > 24*60-1 || q.To < 0 || q.To > 24*60-1:
		return errors.New("quiet hours: a time of day is from 00:00 to 23:59")
	case q.From == q.To:
		return fmt.Errorf("quiet hours: from %s to %s is no time, or all of it; a rule with silence sends nothing", q.From, q.To)
	}
	return nil
}

// until returns when the quiet hours end that are at now, and whether there are any.
func (q *QuietHours) until(now time.Time) (time.Time, bool) {
	location := q.Location
	if location == nil {
		location = time.UTC
	}
	local := now.In(location)
	minute := Clock(local.Hour()*60 + local.Minute())
	days := 0
	switch {
	case q.From < q.To && minute >= q.From && minute < q.To:
	case q.From > q.To && minute < q.To:
	case q.From > q.To && minute >= q.From:
		days = 1
	default:
		return time.Time{}, false
	}
	end := time.Date(local.Year(), local.Month(), local.Day()+days, int(q.To)/60, int(q.To)%60, 0, 0, location)
	// When the clocks change, the wall clock may show the end twice or not at all, and the time that
	// stands for it can be past.
	if !end.After(now) {
		end = now.Add(time.Minute)
	}
	return end, true
}

// holds returns until when an item of that severity is held back, and whether it is.
func (q *QuietHours) holds(s Severity, now time.Time) (time.Time, bool) {
	if q == nil || s == Critical && q.CriticalPasses {
		return time.Time{}, false
	}
	return q.until(now)
}

func (r *Rule) fits(a *Alert) bool {
	return a.Severity >= r.Severity &&
		(len(r.Kinds) == 0 || slices.Contains(r.Kinds, a.Kind)) &&
		(len(r.Sites) == 0 || slices.Contains(r.Sites, a.Site))
}
