package reputation

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// ListOptions name a file of addresses.
type ListOptions struct {
	Name  string
	Path  string
	Score float64 // 0..1; 0: 0.85
	// MaxBytes bounds the file; 0: 32 MiB. A larger file is refused as a whole: half a list would be a surprise.
	MaxBytes int64
	// MaxEntries bounds what is kept; 0: 500,000 (about 60 MB if they are scattered).
	MaxEntries int
}

// maxListLine bounds a line of a list, in bytes.
const maxListLine = 4 << 10

// widest entries that a list may hold: whoever lists more lists everybody.
const (
	widestListed4 = 8
	widestListed6 = 16
)

// list is one file of addresses. The table in use is replaced as a whole.
type list struct {
	o     ListOptions
	table atomic.Pointer[bart.Lite]
	state *telemetry.State

	mu     sync.Mutex  // one load at a time
	loaded os.FileInfo // of the last attempt; nil when the file could not be looked at
	seen   os.FileInfo // at the last poll
	failed bool
}

func newList(o ListOptions, now func() time.Time, log *slog.Logger) (*list, error) {
	var err error
	if o.Path == "" {
		return nil, errors.New("path: it is missing")
	}
	if o.Score, err = score(o.Score, 0.85); err != nil {
		return nil, err
	}
	if o.MaxBytes < 0 || o.MaxEntries < 0 {
		return nil, errors.New("maxBytes, maxEntries: they cannot be negative")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = 500_000
	}
	return &list{o: o, state: telemetry.NewState(log.With("list", o.Name, "file", o.Path), "a reputation list cannot be read; what was read before stays in force", "the reputation list is read again", now)}, nil
}

func (l *list) size() int {
	if t := l.table.Load(); t != nil {
		return t.Size()
	}
	return 0
}

func (l *list) check(client netip.Prefix) Finding {
	t := l.table.Load()
	// An IPv6 client is a /64, and listed as soon as one of its addresses is.
	if t == nil || !t.OverlapsPrefix(client) {
		return Finding{}
	}
	return Finding{Listed: true, Score: l.o.Score}
}

// load reads the file and swaps the table; on an error the old one stays.
func (l *list) load() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read()
}

func (l *list) read() {
	f, err := os.Open(l.o.Path)
	if err == nil {
		defer f.Close()
		// Looked at before it is read: a change in between is seen at the next poll.
		if l.loaded, err = f.Stat(); err == nil && !l.loaded.Mode().IsRegular() {
			err = errors.New("it is not a regular file")
		}
		if err == nil {
			var t *bart.Lite
			if t, err = parseList(f, l.o.MaxBytes, l.o.MaxEntries); err == nil {
				l.table.Store(t)
			}
		}
	} else {
		l.loaded = nil
	}
	l.failed = err != nil
	l.state.Report(err)
}

// poll reads the file again when it has changed and been the same for one interval, lest a half-written
// file be read. While it cannot be read, each poll tries again.
func (l *list) poll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := os.Stat(l.o.Path)
	if err != nil {
		info = nil
	}
	stable := sameFile(info, l.seen)
	l.seen = info
	if changed := !sameFile(info, l.loaded); changed && stable || !changed && l.failed {
		l.read()
	}
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// parseList reads one address or range a line; what follows "#", ";" or white space is a comment, as the public lists have it. Lines that are
// neither are left out, unless they are more than a tenth: then it is no list but, say, an error page.
func parseList(r io.Reader, maxBytes int64, maxEntries int) (*bart.Lite, error) {
	limited := &io.LimitedReader{R: r, N: maxBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 4<<10), maxListLine)
	t := new(bart.Lite)
	var good, bad, number int
	var first error
	for lines.Scan() {
		number++
		text := lines.Text()
		if i := strings.IndexAny(text, "#;"); i >= 0 {
			text = text[:i]
		}
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		p, err := defense.ParseAddressOrPrefix(fields[0])
		if err == nil && (p.Addr().Is4() && p.Bits() < widestListed4 || p.Addr().Is6() && p.Bits() < widestListed6) {
			err = fmt.Errorf("%s is too wide for a list", p)
		}
		if err != nil {
			if bad++; first == nil {
				first = fmt.Errorf("line %d: %w", number, err)
			}
			continue
		}
		if good++; good > maxEntries {
			return nil, fmt.Errorf("line %d: more than %d entries", number, maxEntries)
		}
		t.Insert(p)
	}
	switch err := lines.Err(); {
	case limited.N <= 0:
		return nil, fmt.Errorf("it is larger than %d bytes", maxBytes)
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d has more than %d bytes", number+1, maxListLine)
	case err != nil:
		return nil, err
	case bad > 0 && bad*10 > good:
		return nil, fmt.Errorf("it is not a list of addresses: %d of %d lines are none, the first: %w", bad, bad+good, first)
	}
	return t, nil
}
