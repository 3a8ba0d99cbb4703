package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/quickthorn/quickthorn/internal/queue"
)

// entry is what the queue file keeps of a batch beside its body. A dead letter is the
// same entry in another bucket, so that burying and replaying do not copy the body.
type entry struct {
	body     uint64 // its key in the bucket of bodies
	size     int    // of the body, in bytes
	sum      uint32 // CRC-32C of the body
	events   int
	attempts int // how often it was handed out
	at       time.Time
	source   string
	buriedAt time.Time // zero while it waits
	reason   string
}

// An entry's record is, in this order: the version, then as uvarints the body's key, its size, the number of events, of attempts
// and the two times in microseconds of Unix time (0: none), the body's checksum, big-endian, the source and the reason,
// each after its length as an uvarint, and a CRC-32C of all that, big-endian.
const entryVersion = 1

// shortestEntry has empty texts and small numbers.
const shortestEntry = 1 + 6 + crc32.Size + 2 + crc32.Size

func appendEntry(b []byte, e *entry) []byte {
	start := len(b)
	b = append(b, entryVersion)
	for _, v := range [...]uint64{e.body, uint64(e.size), uint64(e.events), uint64(e.attempts), micros(e.at), micros(e.buriedAt)} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, e.sum)
	for _, s := range [...]string{e.source, e.reason} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

// micros is t in microseconds of Unix time; 0 for the zero time, and a time before 1970 is taken for its first moment.
func micros(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixMicro(), 1))
}

// parseEntry is the inverse of appendEntry. The entry keeps nothing of b.
func parseEntry(b []byte) (entry, error) {
	var e entry
	if len(b) < shortestEntry {
		return e, fmt.Errorf("entry of %d bytes", len(b))
	}
	if b[0] != entryVersion {
		return e, fmt.Errorf("entry version %d, known is %d", b[0], entryVersion)
	}
	b, sum := b[:len(b)-crc32.Size], b[len(b)-crc32.Size:]
	if binary.BigEndian.Uint32(sum) != checksum(b) {
		return e, errors.New("entry with a wrong checksum")
	}
	b = b[1:]
	var v [6]uint64
	for i, most := range [...]uint64{1<<64 - 1, queue.MaxBody, 1 << 31, 1 << 31, 1 << 58, 1 << 58} {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 || v[i] > most {
			return e, errors.New("entry with a broken number")
		}
		b = b[n:]
	}
	e.body, e.size, e.events, e.attempts = v[0], int(v[1]), int(v[2]), int(v[3])
	for i, t := range [...]*time.Time{&e.at, &e.buriedAt} {
		if us := v[4+i]; us != 0 {
			*t = time.UnixMicro(int64(us)).UTC()
		}
	}
	if len(b) < crc32.Size {
		return e, errors.New("entry that ends too early")
	}
	e.sum, b = binary.BigEndian.Uint32(b), b[crc32.Size:]
	for _, s := range [...]*string{&e.source, &e.reason} {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return e, errors.New("entry with a broken text")
		}
		*s, b = string(b[used:used+int(n)]), b[used+int(n):]
	}
	if len(b) != 0 {
		return e, fmt.Errorf("entry with %d bytes too many", len(b))
	}
	return e, nil
}
