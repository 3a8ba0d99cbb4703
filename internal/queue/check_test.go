package queue_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/queue"
)

func TestCheckRefusesWhatNoQueueTakes(t *testing.T) {
	big := make([]byte, queue.MaxBody+1)
	for name, c := range map[string]struct {
		batch queue.Batch
		wrong string // part of the error; "" for none
	}{
		"the largest body":   {queue.Batch{Body: big[1:]}, ""},
		"a body too large":   {queue.Batch{Body: big}, "at most 8388608"},
		"the longest source": {queue.Batch{Source: strings.Repeat("s", 128)}, ""},
		"a source too long":  {queue.Batch{Source: strings.Repeat("s", 129)}, "at most 128"},
		"less than nothing":  {queue.Batch{Events: -1}, "-1 events"},
	} {
		err := c.batch.Check()
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

func TestClipReasonKeepsWholeCharacters(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"short", "short"},
		{strings.Repeat("a", 1030), strings.Repeat("a", 1024)},
		{"a" + strings.Repeat("é", 600), "a" + strings.Repeat("é", 511)},
		{"bad\xff\xfe", "bad\uFFFD"},
	} {
		got := queue.ClipReason(c.in)
		if got != c.want || len(got) > queue.MaxReason || !utf8.ValidString(got) {
			t.Errorf("%.20q: got %d bytes %.40q", c.in, len(got), got)
		}
	}
}
