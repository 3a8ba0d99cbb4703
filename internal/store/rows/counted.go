package rows

import (
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// countedFor is how long it is remembered that a set of counters was added, in milliseconds: longer than any
// queue holds it.
const countedFor = 7 * 24 * 60 * 60 * 1000

// OldestCounted returns the least id of a set of counters that is still remembered when the set of the given id is added at now. The
// error says that the id is no ULID.
func OldestCounted(id string, now time.Time) (string, error) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return "", fmt.Errorf("id %q: %w", id, err)
	}
	t := min(u.Time(), uint64(max(0, now.UnixMilli()))) // a clock that runs ahead must not make everything forgotten
	var oldest ulid.ULID
	if err := oldest.SetTime(t - min(t, countedFor)); err != nil {
		return "", fmt.Errorf("id %q: %w", id, err)
	}
	return oldest.String(), nil
}
