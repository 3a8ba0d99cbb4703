// Package follow reads an access log as it grows and reports its lines to the intake's webhook.
//
// A line is reported at least once: where the log was read up to is kept in a file, if one is named, and
// written after the intake has acknowledged. What is sent again after a crash the intake recognises, by the place of the line
// in the log. Rotation by renaming and by truncating are both followed to the end of the old file.
package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Options say what is followed and where it is reported.
type Options struct {
	File   string
	URL    string       // of the webhook: http://ai-service:8000/v1/webhook/nginx
	Key    string       // of the source
	Client *http.Client // required; its time limits are the sender's
	// Position is the file in which the place in the log is kept; "" keeps none: reading then begins at
	// the log's end, or at its beginning with FromStart.
	Position  string
	FromStart bool
	JSON      bool          // the lines are events as JSON, not an access log's
	Poll      time.Duration // how often the log is looked at; 0: 500 ms
	Now       func() time.Time
	Log       *slog.Logger
}

// Bounds of one report.
const (
	maxLines = 2000
	maxBytes = 1 << 20
	maxLine  = 64 << 10 // what is longer is no line of an access log: it is passed over
)

// Stats says what was done.
type Stats struct {
	Sent, Accepted, Duplicate, Rejected, TooLong uint64
}

// Follower follows one log. Run must be called once.
type Follower struct {
	o     Options
	stats Stats
	state *telemetry.State

	file *os.File
	info fs.FileInfo
	at   position
	rest []byte // read, but not yet sent
	skip bool   // the rest of a line that is too long is to be passed over
	left bool   // the name means another file; this one is read once more before it is left
}

// position is a place in a log file.
type position struct {
	File   string `json:"file"`   // what tells the file from others, see identity
	Offset int64  `json:"offset"` // bytes that were reported
}

// New returns a follower; the error says what is missing.
func New(o Options) (*Follower, error) {
	if o.Poll <= 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.File == "" || o.URL == "" || o.Client == nil || o.Log == nil {
		return nil, errors.New("follow: file, address, client and log are needed")
	}
	return &Follower{o: o, state: telemetry.NewState(o.Log, "lines cannot be reported; they are sent when the intake is back", "lines are reported again", o.Now)}, nil
}

// Stats returns what was done; call it when Run has ended.
func (f *Follower) Stats() Stats { return f.stats }

// Run follows the log until ctx ends. A log that does not exist yet is waited for. The error is about what
// waiting cannot mend: a position that cannot be kept, an answer that says that the request is wrong.
func (f *Follower) Run(ctx context.Context) error {
	defer func() {
		if f.file != nil {
			f.file.Close() // it was only read
		}
	}()
	first := true
	missing := telemetry.NewState(f.o.Log, "the log cannot be read; waiting for it", "the log is read again", f.o.Now)
	for ctx.Err() == nil {
		if f.file == nil {
			err := f.open(first)
			missing.Report(err)
			if err != nil {
				wait.For(ctx, f.o.Poll)
				continue
			}
			first = false
		}
		n, err := f.read()
		if err != nil {
			return fmt.Errorf("read %s: %w", f.o.File, err)
		}
		sent, err := f.report(ctx)
		if err != nil {
			return err
		}
		if n == 0 && sent == 0 {
			if rotated, err := f.rotated(); err != nil {
				return err
			} else if rotated {
				continue
			}
			wait.For(ctx, f.o.Poll)
		}
	}
	return nil
}

// open opens the log. The first time it goes to the kept position, or to the end.
func (f *Follower) open(first bool) error {
	file, err := os.Open(f.o.File)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	at := position{File: identity(info)}
	if first {
		kept, known, err := f.kept()
		switch {
		case err != nil:
			return errors.Join(err, file.Close())
		case known && kept.File == at.File && lineEnds(file, kept.Offset):
			at = kept
		case !known && !f.o.FromStart:
			at.Offset = info.Size()
		}
	}
	if _, err := file.Seek(at.Offset, io.SeekStart); err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.info, f.at, f.rest, f.skip, f.left = file, info, at, nil, false, false
	// A new file is noted at once: an old place must not be looked for in it after a crash.
	return f.keep()
}

// lineEnds reports whether a line ends right before the offset. If not, the file was truncated while nobody looked.
func lineEnds(file *os.File, offset int64) bool {
	if offset == 0 {
		return true
	}
	var b [1]byte
	_, err := file.ReadAt(b[:], offset-1)
	return err == nil && b[0] == '\n'
}

// kept reads the position that was kept.
func (f *Follower) kept() (p position, known bool, err error) {
	if f.o.Position == "" {
		return p, false, nil
	}
	b, err := os.ReadFile(f.o.Position)
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return p, false, fmt.Errorf("position %s: %w; delete the file to begin at the log's end", f.o.Position, err)
	}
	return p, true, nil
}

// keep writes the position.
func (f *Follower) keep() error {
	if f.o.Position == "" {
		return nil
	}
	b, err := json.Marshal(f.at)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(f.o.Position, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		return fmt.Errorf("keep the position: %w", err)
	}
	return nil
}

// read reads what is there, up to maxBytes.
func (f *Follower) read() (int, error) {
	room := maxBytes + maxLine - len(f.rest)
	if room <= 0 {
		return 0, nil
	}
	buf := make([]byte, min(room, 256<<10))
	n, err := f.file.Read(buf)
	f.rest = append(f.rest, buf[:n]...)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// report sends the complete lines that were read, and returns how many bytes that was.
func (f *Follower) report(ctx context.Context) (int, error) {
	body, used := f.complete()
	if used == 0 {
		return 0, nil
	}
	if len(body) > 0 {
		if err := f.send(ctx, body); err != nil || ctx.Err() != nil {
			return 0, err
		}
	}
	f.at.Offset += int64(used)
	f.rest = append(f.rest[:0], f.rest[used:]...)
	if f.skip {
		return used, nil // a place within a line is none to begin at after a restart
	}
	return used, f.keep()
}

// complete returns whole lines from the beginning of what was read, and how much of it they are, with what is passed over.
func (f *Follower) complete() (body []byte, used int) {
	for n := 0; n < maxLines && used < maxBytes; n++ {
		i := bytes.IndexByte(f.rest[used:], '\n')
		if i < 0 {
			if len(f.rest)-used > maxLine { // no line of a log: pass over it up to its end
				if !f.skip {
					f.stats.TooLong++
				}
				f.skip = true
				used = len(f.rest)
			}
			break
		}
		line := f.rest[used : used+i+1]
		used += i + 1
		switch {
		case f.skip:
			f.skip = false
		case len(line) > maxLine:
			f.stats.TooLong++
		default:
			body = append(body, line...)
		}
	}
	return body, used
}

// permanentError is an answer that sending again will not change.
type permanentError struct{ detail string }

func (e *permanentError) Error() string { return "the intake refuses the report: " + e.detail }

// send reports lines until the intake has acknowledged them or ctx ends.
func (f *Follower) send(ctx context.Context, body []byte) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(body); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	// The first line tells a file that was truncated and filled anew from what was there before.
	line, _, _ := bytes.Cut(body, []byte{'\n'})
	key := fmt.Sprintf("%s@%d#%08x", f.at.File, f.at.Offset, crc32.ChecksumIEEE(line))
	pause := 250 * time.Millisecond
	for ctx.Err() == nil {
		retry, err := f.post(ctx, packed.Bytes(), key)
		if permanent := (*permanentError)(nil); errors.As(err, &permanent) {
			return err
		}
		if ctx.Err() == nil {
			f.state.Report(err)
		}
		if err == nil {
			f.stats.Sent += uint64(bytes.Count(body, []byte{'\n'}))
			return nil
		}
		wait.For(ctx, max(retry, pause/2+rand.N(pause)))
		pause = min(2*pause, 15*time.Second)
	}
	return nil
}

// post sends once. retry is how long the intake asks to wait.
func (f *Follower) post(ctx context.Context, body []byte, key string) (retry time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.o.URL, bytes.NewReader(body))
	if err != nil {
		return 0, &permanentError{err.Error()}
	}
	r.Header.Set("Authorization", "Bearer "+f.o.Key)
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	if f.o.JSON {
		r.Header.Set("Content-Type", "application/x-ndjson")
	}
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("Idempotency-Key", key)
	res, err := f.o.Client.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	if res.StatusCode == http.StatusAccepted {
		var receipt struct {
			Accepted, Duplicate uint64
			Rejected            []struct{ Problem string }
		}
		if err := json.Unmarshal(answer, &receipt); err != nil {
			return 0, fmt.Errorf("the answer is not understood: %w", err)
		}
		f.stats.Accepted += receipt.Accepted
		f.stats.Duplicate += receipt.Duplicate
		if n := len(receipt.Rejected); n > 0 {
			if f.stats.Rejected == 0 {
				f.o.Log.Warn("lines were not understood", "first", receipt.Rejected[0].Problem)
			}
			f.stats.Rejected += uint64(n)
		}
		return 0, nil
	}
	var p struct{ Detail string }
	_ = json.Unmarshal(answer, &p) // an answer that is no problem document has no detail
	detail := strings.TrimSpace(res.Status + " " + p.Detail)
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusRequestTimeout, http.StatusInternalServerError:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After")) // 0 when it is missing
		return time.Duration(max(0, min(seconds, 60))) * time.Second, errors.New(detail)
	}
	return 0, &permanentError{detail}
}

// rotated reports whether the log's name now means another file, or the file has become shorter; it then goes on there.
func (f *Follower) rotated() (bool, error) {
	now, err := os.Stat(f.o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between renaming and making anew
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", f.o.File, err)
	}
	if !os.SameFile(now, f.info) {
		// The old file is read to its end: what was written before the rename must not be lost. A server may write to it for a
		// moment after it has made the new one, so it is left when there is nothing new in it twice.
		if n, err := f.read(); n > 0 || err != nil || !f.left {
			f.left = true
			return false, err
		}
		return true, f.reopen()
	}
	if now.Size() < f.at.Offset+int64(len(f.rest)) {
		return true, f.reopen()
	}
	return false, nil
}

// reopen opens the log anew at its beginning with the next turn of Run.
func (f *Follower) reopen() error {
	err := f.file.Close()
	f.file = nil
	return err
}

// identity tells a file from another of the same name.
func identity(info fs.FileInfo) string {
	return filepath.Base(info.Name()) + inode(info)
}
