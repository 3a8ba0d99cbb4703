package queue

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSource is the length of the longest Source of a Batch, in bytes.
const MaxSource = 128

// MaxReason is the length of the longest Reason of a DeadLetter, in bytes.
const MaxReason = 1024

// Check says why no queue takes the batch, nil when every queue does.
func (b *Batch) Check() error {
	switch {
	case len(b.Body) > MaxBody:
		return fmt.Errorf("a batch of %d bytes, at most %d", len(b.Body), MaxBody)
	case len(b.Source) > MaxSource:
		return fmt.Errorf("a batch whose source's name has %d bytes, at most %d", len(b.Source), MaxSource)
	case b.Events < 0:
		return fmt.Errorf("a batch of %d events", b.Events)
	}
	return nil
}

// ClipReason returns reason as every queue can keep it: valid UTF-8 and no longer than MaxReason. A batch must
// be buried whatever is said about it.
func ClipReason(reason string) string {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) <= MaxReason {
		return reason
	}
	n := MaxReason
	for !utf8.RuneStart(reason[n]) {
		n--
	}
	return reason[:n]
}
