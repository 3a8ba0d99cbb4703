package rows

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

const (
	// MaxTallies is how many entries each list of a summary has.
	MaxTallies = 25
	// MaxGroups is how many groups a harm report has.
	MaxGroups = 100
	// CountersFor is how long counters are kept, so that a year can be compared with the one before.
	CountersFor = 2 * 366 * 24 * time.Hour

	defaultLimit = 100
)

// Limit returns how many entries a page has; the error wraps bad.
func Limit(limit, most int, bad error) (int, error) {
	switch {
	case limit == 0:
		return defaultLimit, nil
	case limit < 0 || limit > most:
		return 0, fmt.Errorf("%w: limit %d is not between 1 and %d", bad, limit, most)
	}
	return limit, nil
}

// Cursor returns the text that names the place after an entry in a list ordered by time and id, both descending.
func Cursor(ms int64, id string) string { return strconv.FormatInt(ms, 10) + "." + id }

// ParseCursor reads the text of [Cursor]; the error wraps bad.
func ParseCursor(s string, bad error) (ms int64, id string, err error) {
	text, id, ok := strings.Cut(s, ".")
	ms, err = strconv.ParseInt(text, 10, 64)
	if err != nil || !ok {
		return 0, "", fmt.Errorf("%w: before: %q is not from the page before", bad, s)
	}
	return ms, id, nil
}

// ULID returns the id's 16 bytes if it is a ULID in its canonical form.
func ULID(s string) (ulid.ULID, bool) {
	u, err := ulid.ParseStrict(s)
	return u, err == nil && u.String() == s
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Containing returns the LIKE pattern, with \ as its escape, of texts that contain s.
func Containing(s string) string { return "%" + likeEscaper.Replace(s) + "%" }

// AgentID is the key of a User-Agent's text: the first 63 bits of its SHA-256.
func AgentID(s string) int64 {
	sum := sha256.Sum256([]byte(s))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// FloorHour turns Unix milliseconds into hours, rounding down.
func FloorHour(ms int64) int64 { return Floor(ms, 60*60*1000) }

// Floor divides by a positive unit, rounding down.
func Floor(n, unit int64) int64 {
	q := n / unit
	if n%unit < 0 {
		q--
	}
	return q
}

// Stopping is the list of actions that keep a request from the upstream, for SQL's IN.
func Stopping() string {
	var names []string
	for a := defense.Allow; a <= defense.Charge; a++ {
		if a.Stops() {
			names = append(names, "'"+a.String()+"'")
		}
	}
	return "(" + strings.Join(names, ",") + ")"
}

// Tallies collects counts by name.
type Tallies map[string]record.Tally

// Add adds the counts of t to the name's.
func (m Tallies) Add(name string, t record.Tally) {
	sum := m[name]
	m[name] = record.Tally{Name: name, Events: sum.Events + t.Events, Stopped: sum.Stopped + t.Stopped, Held: sum.Held + t.Held}
}

// Top returns the most frequent, at most [MaxTallies].
func (m Tallies) Top() []record.Tally {
	list := make([]record.Tally, 0, len(m))
	for _, t := range m {
		list = append(list, t)
	}
	slices.SortFunc(list, func(x, y record.Tally) int {
		return cmp.Or(cmp.Compare(y.Events, x.Events), cmp.Compare(x.Name, y.Name))
	})
	return list[:min(len(list), MaxTallies)]
}
