package decision

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// A snapshot file is the eight bytes of snapshotMagic, the last of which is the version, and a zstd frame. That
// holds the sequence up to which it goes as an uvarint and the mode as one byte (noMode: unknown), then each
// decision as its length and its record, a length of 0, the number of decisions as an uvarint, and a CRC-32C of all
// this, the magic included, big-endian.
const (
	snapshotMagic = "QTDECS\x00\x01"
	noMode        = 0xff

	maxID           = 64
	maxRecord       = 8 << 10 // bytes; texts at their bounds take 1,800
	maxSnapshot     = 2 << 30 // bytes when unpacked
	maxSnapshotDisk = 1 << 30 // bytes on disk
)

// ErrSnapshot is wrapped by the error about a snapshot file that is damaged or of a newer version.
var ErrSnapshot = errors.New("the snapshot of decisions cannot be used")

// Restored says what Follower.Load found.
type Restored struct {
	Decisions int // put in force
	Refused   int // not in force, for example because a proxy became trusted
}

// Load puts in force what the snapshot file holds, before Run. A missing file holds nothing. One that is damaged is moved
// aside, under the same name with ".damaged", and said in the log; nothing of it is used. An error is the file
// system's; following works without.
func (f *Follower) Load() (Restored, error) {
	var r Restored
	if f.o.Snapshot == "" {
		return r, nil
	}
	// Once to see whether all of it is in order, and then again: a set is not filled by half.
	err := readSnapshot(f.o.Snapshot, nil, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case errors.Is(err, ErrSnapshot):
		aside := f.o.Snapshot + ".damaged"
		f.o.Log.Error("the snapshot of decisions is moved aside; starting without", "error", err, "to", aside)
		if err := os.Rename(f.o.Snapshot, aside); err != nil {
			return r, fmt.Errorf("move the snapshot of decisions aside: %w", err)
		}
		return r, nil
	case err != nil:
		return r, fmt.Errorf("load the snapshot of decisions: %w", err)
	}
	var k known
	batch := make([]item, 0, MaxBatch)
	flush := func() error {
		err := f.set.put(batch)
		r.Decisions += len(batch)
		batch = batch[:0]
		return err
	}
	err = readSnapshot(f.o.Snapshot, func(head known) { k = head }, func(d *defense.Decision) error {
		it, err := f.set.check(*d)
		if err != nil {
			r.Refused++
			f.refuse(d.ID, fmt.Errorf("decision %s: %w", quote(d.ID), err))
			return nil
		}
		if batch = append(batch, it); len(batch) < MaxBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return r, fmt.Errorf("load the snapshot of decisions: %w", err)
	}
	f.at = Position{After: k.after}
	f.mu.Lock()
	f.known.after, f.known.synced, f.heard = k.after, true, f.o.Now()
	f.saved = f.known
	f.saved.mode, f.saved.hasMode = k.mode, k.hasMode
	f.mu.Unlock()
	f.stats.refused.Store(uint64(len(f.refused)))
	if k.hasMode {
		f.setMode(k.mode)
	}
	return r, nil
}

// keepSaving writes the snapshot after changes, until ctx ends.
func (f *Follower) keepSaving(ctx context.Context) {
	for {
		select {
		case <-f.dirty:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		_ = f.save() // reported there; tried again with the next change, and at the end
		// Whatever the size of the set, writing takes a twentieth of the time at most.
		pause(ctx, max(f.o.Save, 20*time.Since(began)), nil)
	}
}

// save writes the snapshot unless it says already what is known.
func (f *Follower) save() error {
	k := f.currently()
	if !k.synced || k == f.saved {
		return nil
	}
	err := writeSnapshot(f.o.Snapshot, k, f.set)
	f.saving.Report(err)
	if err != nil {
		return fmt.Errorf("keep decisions over a restart: %w", err)
	}
	f.saved = k
	f.stats.saves.Add(1)
	return nil
}

// writeSnapshot replaces the file. The set may change meanwhile: who reads it asks for
// the changes after k.after, and these are the same again.
func writeSnapshot(path string, k known, s *Set) error {
	return atomicfile.Replace(path, func(w io.Writer) error { return encodeSnapshot(w, k, s) })
}

func encodeSnapshot(w io.Writer, k known, s *Set) error {
	if _, err := io.WriteString(w, snapshotMagic); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10))
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(z, 64<<10)
	sum := crc32.Update(0, castagnoli(), []byte(snapshotMagic))
	var failed error
	write := func(p []byte) {
		if failed == nil {
			sum = crc32.Update(sum, castagnoli(), p)
			_, failed = b.Write(p)
		}
	}
	mode := byte(noMode)
	if k.hasMode {
		mode = byte(k.mode)
	}
	write(append(binary.AppendUvarint(nil, k.after), mode))
	var length, record []byte
	n := uint64(0)
	s.each(func(*entry) bool { return failed == nil }, func(e *entry) {
		d := e.decision()
		record = appendRecord(record[:0], &d)
		length = binary.AppendUvarint(length[:0], uint64(len(record)))
		write(length)
		write(record)
		n++
	})
	write(binary.AppendUvarint([]byte{0}, n))
	write(binary.BigEndian.AppendUint32(nil, sum))
	if failed == nil {
		failed = b.Flush()
	}
	return errors.Join(failed, z.Close())
}

// readSnapshot calls head and then fn for what the file holds; both may be nil. Errors about its
// content wrap ErrSnapshot; those of fn and of the file system do not.
func readSnapshot(path string, head func(known), fn func(*defense.Decision) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxSnapshotDisk {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrSnapshot, info.Size(), maxSnapshotDisk)
	}
	return decodeSnapshot(file, head, fn)
}

func decodeSnapshot(r io.Reader, head func(known), fn func(*defense.Decision) error) error {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return damaged("its beginning", err)
	}
	const name = len(snapshotMagic) - 1
	if string(magic[:name]) != snapshotMagic[:name] {
		return fmt.Errorf("%w: it is another kind of file", ErrSnapshot)
	}
	if magic[name] != snapshotMagic[name] {
		return fmt.Errorf("%w: it is of version %d, known is %d", ErrSnapshot, magic[name], snapshotMagic[name])
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return damaged("its packing", err)
	}
	defer z.Close()
	in := &summed{r: bufio.NewReaderSize(io.LimitReader(z, maxSnapshot), 64<<10), sum: crc32.Update(0, castagnoli(), magic)}

	var k known
	if k.after, err = binary.ReadUvarint(in); err != nil {
		return damaged("its sequence", err)
	}
	mode, err := in.ReadByte()
	if err != nil {
		return damaged("its mode", err)
	}
	if mode != noMode {
		if mode > byte(defense.ModeOff) {
			return fmt.Errorf("%w: unknown mode %d", ErrSnapshot, mode)
		}
		k.mode, k.hasMode = defense.Mode(mode), true
	}
	if head != nil {
		head(k)
	}
	var record []byte
	n := uint64(0)
	for {
		length, err := binary.ReadUvarint(in)
		if err != nil {
			return damaged(fmt.Sprintf("decision %d", n), err)
		}
		if length == 0 {
			break
		}
		if length > maxRecord {
			return fmt.Errorf("%w: decision %d has %d bytes", ErrSnapshot, n, length)
		}
		if uint64(cap(record)) < length {
			record = make([]byte, length, maxRecord)
		}
		record = record[:length]
		if _, err := io.ReadFull(in, record); err != nil {
			return damaged(fmt.Sprintf("decision %d", n), err)
		}
		d, err := parseRecord(record)
		if err != nil {
			return damaged(fmt.Sprintf("decision %d", n), err)
		}
		if fn != nil {
			if err := fn(&d); err != nil {
				return err
			}
		}
		n++
	}
	count, err := binary.ReadUvarint(in)
	if err != nil {
		return damaged("its end", err)
	}
	want := in.sum
	var sum [crc32.Size]byte
	if _, err := io.ReadFull(in, sum[:]); err != nil {
		return damaged("its checksum", err)
	}
	if count != n || binary.BigEndian.Uint32(sum[:]) != want {
		return fmt.Errorf("%w: its checksum is wrong", ErrSnapshot)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: it goes on after its end", ErrSnapshot)
	}
	return nil
}

func damaged(what string, err error) error { return fmt.Errorf("%w: %s: %w", ErrSnapshot, what, err) }

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// summed adds up what is read through it.
type summed struct {
	r   *bufio.Reader
	sum uint32
	one [1]byte
}

func (s *summed) ReadByte() (byte, error) {
	c, err := s.r.ReadByte()
	if err == nil {
		s.one[0] = c
		s.sum = crc32.Update(s.sum, castagnoli(), s.one[:])
	}
	return c, err
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum = crc32.Update(s.sum, castagnoli(), p[:n])
	return n, err
}

// A record is scope and action as one byte each, sequence, created and expires (Unix seconds, 0: none) as
// uvarints, and the texts, each after its length as an uvarint.

func appendRecord(b []byte, d *defense.Decision) []byte {
	b = append(b, byte(d.Scope), byte(d.Action))
	b = binary.AppendUvarint(b, d.Sequence)
	b = binary.AppendUvarint(b, uint64(toUnix(d.Created)))
	b = binary.AppendUvarint(b, uint64(toUnix(d.Expires)))
	for _, s := range [...]string{d.ID, d.Value, d.Origin, d.Reason, d.CaseID, d.Site} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func parseRecord(b []byte) (defense.Decision, error) {
	var d defense.Decision
	if len(b) < 2 {
		return d, io.ErrUnexpectedEOF
	}
	d.Scope, d.Action = defense.Scope(b[0]), defense.Action(b[1])
	b = b[2:]
	var numbers [3]uint64
	for i := range numbers {
		v, n := binary.Uvarint(b)
		if n <= 0 || i > 0 && v > 1<<32-1 {
			return d, errors.New("a broken number")
		}
		numbers[i], b = v, b[n:]
	}
	d.Sequence, d.Created, d.Expires = numbers[0], fromUnix(uint32(numbers[1])), fromUnix(uint32(numbers[2]))
	for _, s := range [...]*string{&d.ID, &d.Value, &d.Origin, &d.Reason, &d.CaseID, &d.Site} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(len(b)-n) {
			return d, errors.New("a broken text")
		}
		*s, b = string(b[n:n+int(v)]), b[n+int(v):]
	}
	if len(b) != 0 {
		return d, fmt.Errorf("%d bytes too many", len(b))
	}
	if d.ID == "" || len(d.ID) > maxID {
		return d, fmt.Errorf("an id of %d bytes", len(d.ID))
	}
	return d, nil
}
