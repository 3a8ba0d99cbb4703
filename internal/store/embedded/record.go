package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// A decision's record is, in this order: the version, the id in binary, scope and
// action as one byte each, created and expires as uvarints of Unix seconds (0: none),
// then value, origin, reason, case and site, each after its length as an uvarint, and a CRC-32C of
// all that, big-endian: a flipped bit must not ban somebody else. The sequence is its
// key. An imported address takes about 60 bytes, where JSON takes 250.
const recordVersion = 1

// shortestRecord has empty texts and no times.
const shortestRecord = 1 + 16 + 2 + 2 + 5 + crc32.Size

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendRecord appends d's record to b.
func appendRecord(b []byte, d *defense.Decision) ([]byte, error) {
	id, err := ulid.ParseStrict(d.ID)
	if err != nil {
		return nil, fmt.Errorf("decision id %q: %w", d.ID, err)
	}
	start := len(b)
	b = append(b, recordVersion)
	b = append(b, id[:]...)
	b = append(b, byte(d.Scope), byte(d.Action))
	b = appendTime(b, d.Created)
	b = appendTime(b, d.Expires)
	for _, s := range [...]string{d.Value, d.Origin, d.Reason, d.CaseID, d.Site} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, checksum(b[start:])), nil
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(max(t.Unix(), 1)))
}

// parseRecord is the inverse of appendRecord. The decision keeps nothing of b.
func parseRecord(b []byte) (defense.Decision, error) {
	var d defense.Decision
	if len(b) < shortestRecord {
		return d, fmt.Errorf("record of %d bytes", len(b))
	}
	if b[0] != recordVersion {
		return d, fmt.Errorf("record version %d, known is %d", b[0], recordVersion)
	}
	b, sum := b[:len(b)-crc32.Size], b[len(b)-crc32.Size:]
	if binary.BigEndian.Uint32(sum) != checksum(b) {
		return d, errors.New("record with a wrong checksum")
	}
	d.ID = ulid.ULID(b[1:17]).String()
	d.Scope, d.Action = defense.Scope(b[17]), defense.Action(b[18])
	b = b[19:]
	for _, t := range [...]*time.Time{&d.Created, &d.Expires} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<40 {
			return d, errors.New("record with a broken time")
		}
		b = b[n:]
		if v != 0 {
			*t = time.Unix(int64(v), 0).UTC()
		}
	}
	for _, s := range [...]*string{&d.Value, &d.Origin, &d.Reason, &d.CaseID, &d.Site} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(len(b)-n) {
			return d, errors.New("record with a broken text")
		}
		*s, b = string(b[n:n+int(v)]), b[n+int(v):]
	}
	if len(b) != 0 {
		return d, fmt.Errorf("record with %d bytes too many", len(b))
	}
	return d, nil
}
