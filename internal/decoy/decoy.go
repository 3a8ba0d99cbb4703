// Package decoy makes archives of data that nobody should want: valid files, made on the fly and never stored, whose text is the maze's. Every
// client's copy carries a mark that tells, wherever the data turns up later, whom it was given to and when.
//
// What a file says is a function of a secret seed, its address, the epoch and the client; it does not depend on the machine, the time or
// the version of Go. The bytes of a compressed archive are moreover those of the compressor, whose version go.mod fixes.
//
// A stream takes less than 64 KiB beyond the compressor's own memory, which is only in use while 20 KiB are compressed, never while a
// client is waited for.
package decoy

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"
)

// Source gives random numbers. A *rand.PCG is one.
type Source = interface{ Uint64() uint64 }

// Text makes the text of records: plain UTF-8. It must be a function of what it draws from r alone, and may be called by many goroutines
// at once.
type Text interface {
	// AppendSentence appends a sentence of about so many words, with its full stop.
	AppendSentence(dst []byte, r Source, words int) []byte
	// AppendTitle appends a heading of about so many words, without a full stop.
	AppendTitle(dst []byte, r Source, words int) []byte
}

// Options bound the archives. A field that is zero has its default.
type Options struct {
	// MaxBytes is the largest size of an archive as it is sent. 512 KiB to 64 MiB; default 8 MiB.
	MaxBytes int64
	// MaxRatio is how many times larger an archive may become when it is unpacked. 4 to 1,000; default 20. It does not bound the members
	// that Bombs adds.
	MaxRatio int
	// Epoch is how long an epoch lasts, which gives files their dates. At least an hour; default 7 days.
	Epoch time.Duration
	// Bombs adds a member to each .zip and .tar.gz that unpacks to 32 times MaxBytes, a few hundred times its size in the archive.
	//
	// Leave it off unless a lawyer tells you otherwise. In many countries to send something that is meant to exhaust another's computer is a
	// crime (computer misuse, data interference), also against somebody who misbehaves; and behind a shared address, a proxy or an
	// antivirus scanner it strikes people who have done nothing.
	Bombs bool
}

const (
	minSeed      = 16
	minMaxBytes  = 512 << 10 // with which every member has room for a few records
	mostMaxBytes = 64 << 20
	minMaxRatio  = 4
	mostMaxRatio = 1000
)

func (o *Options) complete() error {
	setDefault(&o.MaxBytes, 8<<20)
	setDefault(&o.MaxRatio, 20)
	setDefault(&o.Epoch, 7*24*time.Hour)
	switch {
	case o.MaxBytes < minMaxBytes || o.MaxBytes > mostMaxBytes:
		return fmt.Errorf("decoy: archives of up to %d bytes: want a size from %d to %d", o.MaxBytes, minMaxBytes, mostMaxBytes)
	case o.MaxRatio < minMaxRatio || o.MaxRatio > mostMaxRatio:
		return fmt.Errorf("decoy: archives that unpack to up to %d times their size: want %d to %d", o.MaxRatio, minMaxRatio, mostMaxRatio)
	case o.Epoch < time.Hour:
		return fmt.Errorf("decoy: an epoch of %v: want at least an hour", o.Epoch)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Decoy makes archives and finds their marks. It may be used by many goroutines at once.
type Decoy struct {
	o       Options
	text    Text
	seal    cipher.Block // of marks
	check   cipher.Block // makes their check
	content [32]byte     // key of what files say
}

// New returns a Decoy. The seed is secret, of at least 16 bytes; with another one, marks made with this one are not found.
func New(seed []byte, text Text, o Options) (*Decoy, error) {
	if len(seed) < minSeed {
		return nil, fmt.Errorf("decoy: the seed has %d bytes; it needs at least %d", len(seed), minSeed)
	}
	if text == nil {
		return nil, errors.New("decoy: there is no text to make files of")
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	d := &Decoy{o: o, text: text}
	key, err := hkdf.Key(sha256.New, seed, nil, "quickthorn decoy 1", 2*markLen+len(d.content))
	if err != nil {
		return nil, fmt.Errorf("decoy: keys: %w", err)
	}
	if d.seal, err = aes.NewCipher(key[:markLen]); err != nil {
		return nil, fmt.Errorf("decoy: key of marks: %w", err)
	}
	if d.check, err = aes.NewCipher(key[markLen : 2*markLen]); err != nil {
		return nil, fmt.Errorf("decoy: key of checks: %w", err)
	}
	copy(d.content[:], key[2*markLen:])
	return d, nil
}

// format is a kind of archive.
type format uint8

const (
	formatNone format = iota
	formatZip
	formatTarGz
	formatJSONL
	formatCSV
)

// formatOf tells the format by the end of the path, in whatever case.
func formatOf(path string) (f format, suffix string) {
	for _, c := range [...]struct {
		suffix string
		f      format
	}{{".zip", formatZip}, {".tar.gz", formatTarGz}, {".jsonl", formatJSONL}, {".csv", formatCSV}} {
		if n := len(path) - len(c.suffix); n >= 0 && strings.EqualFold(path[n:], c.suffix) {
			return c.f, c.suffix
		}
	}
	return formatNone, ""
}

// ContentType returns the media type of the file at the path; "" when Write makes none there.
func ContentType(path string) string {
	f, _ := formatOf(path)
	return [...]string{"", "application/zip", "application/gzip", "application/x-ndjson", "text/csv; charset=utf-8"}[f]
}

// file is what Write knows of the file that it makes.
type file struct {
	d     *Decoy
	name  string // the last part of the path, without its ending
	key   [2]uint64
	date  time.Time // of the newest thing in it
	size  int64     // of its data, unpacked
	hex   []byte    // the client's mark in both forms
	names []byte
}

// Write writes the file at the path name, which ends in .zip, .tar.gz, .jsonl or .csv, in the copy for the client c. Another epoch, which is a
// number of Options.Epoch since 1970, has other files. The size is not known beforehand: send it in chunks.
//
// The error is that of ctx or of w; or it says that there is no such kind of file, and then nothing was written.
func (d *Decoy) Write(ctx context.Context, w io.Writer, name string, epoch int64, c Client) error {
	f, suffix := formatOf(name)
	if f == formatNone {
		return fmt.Errorf("decoy: %.100q is no archive: want a name that ends in .zip, .tar.gz, .jsonl or .csv", name)
	}
	x := d.file(name, suffix, epoch, c)
	s := newStage(ctx, w)
	switch f {
	case formatZip:
		return x.zip(s)
	case formatTarGz:
		return x.tarGz(s)
	default:
		return x.plain(s, f)
	}
}

// file plans the file at the path.
func (d *Decoy) file(path, suffix string, epoch int64, c Client) *file {
	m := hmac.New(sha256.New, d.content[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(epoch)))
	m.Write([]byte(path)) // the last part, so that nothing can run into it
	sum := m.Sum(nil)
	x := &file{
		d: d, name: baseName(path[:len(path)-len(suffix)]),
		key: [2]uint64{binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])},
	}
	r := x.source(aspectFile, 0)
	x.date = d.dateOf(epoch).Add(-time.Duration(below(r, 48*3600)) * time.Second)
	most := d.o.MaxBytes - d.o.MaxBytes/16 // what formats add is far less, also where nothing can be compressed
	if d.o.Bombs {
		most /= 2
	}
	x.size = most/4 + int64(below(r, int(most-most/4)))
	mark := d.mark(c)
	x.hex, x.names = appendHex(nil, mark), appendNames(nil, mark)
	return x
}

// The aspects of a file that are drawn apart, so that a change to one leaves the others as they are.
const (
	aspectFile = iota
	aspectFront
	aspectPart
	aspectIndex
)

// source returns the numbers that the i-th thing of an aspect is drawn from.
func (x *file) source(aspect, i uint64) *rand.PCG {
	n := aspect<<32 | i
	return rand.NewPCG(mix(x.key[0]^n), mix(x.key[1]+n))
}

// dateOf is the beginning of the epoch, within what archives can express.
func (d *Decoy) dateOf(epoch int64) time.Time {
	const from, to = 631152000, 4102444800 // 1990 and 2100
	length := int64(d.o.Epoch / time.Second)
	return time.Unix(min(max(epoch, from/length), to/length)*length, 0).UTC()
}

// maxName bounds the names of folders.
const maxName = 48

// baseName is the last part of a path as the name of a folder: letters, digits, "-", "_" and ".".
func baseName(path string) string {
	path = path[strings.LastIndexByte(path, '/')+1:]
	path = path[:min(len(path), maxName)]
	b := []byte(path)
	for i, c := range b {
		if !isAlnum(c) && c != '-' && c != '_' && (c != '.' || i == 0) {
			b[i] = '-'
		}
	}
	if strings.Trim(string(b), "-") == "" {
		return "dataset"
	}
	return string(b)
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
