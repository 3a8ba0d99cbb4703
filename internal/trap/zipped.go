package trap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/gzip"
)

const (
	zipInput  = 4 << 10
	zipOutput = 8 << 10
)

// zipped changes a page that comes compressed. What decompresses reads, while an answer is written, so it runs as a coroutine: it goes on
// when there is more to read, and writeZipped goes on when it has read all. Only one of the two runs at any time.
//
// A piece comes out as soon as it can be read, if whoever compressed it flushed it (zlib's Z_SYNC_FLUSH); otherwise when 32 KiB more have
// come, or the end.
type zipped struct {
	page  inserter // writes to the compressor
	to    io.Writer
	in    []byte // the piece at hand, as far as it is not read
	ended bool
	fresh bool  // the compressor holds something back
	raw   bool  // what comes is not compressed after all
	err   error // why the coroutine ended, nil if it read all
	next  func() (struct{}, bool)
	stop  func()
	wait  func(struct{}) bool

	buffer  *bufio.Reader
	unzip   *gzip.Reader
	zip     *gzip.Writer
	scratch [zipOutput]byte
}

func newZipped() *zipped {
	w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // fails only for a level that there is not
	z := &zipped{unzip: new(gzip.Reader), zip: w}
	z.buffer = bufio.NewReaderSize((*zipSource)(z), zipInput)
	return z
}

// begin makes z ready for a page, which is written to to. The caller must release z.
func (z *zipped) begin(to io.Writer, links func() []byte) {
	z.zip.Reset(to)
	z.buffer.Reset((*zipSource)(z))
	z.page = inserter{to: (*zipSink)(z), links: links}
	z.to, z.in, z.ended, z.fresh, z.raw, z.err = to, nil, false, false, false, nil
	z.next, z.stop = iter.Pull(func(yield func(struct{}) bool) {
		z.wait = yield
		z.err = z.run()
	})
}

// write changes the next piece. The error is that of the client's writer, or says what is wrong with the page.
func (z *zipped) write(p []byte) error {
	z.in = p
	z.next()
	return z.err
}

// end writes what is left when the page has ended.
func (z *zipped) end() error {
	z.ended = true
	z.next()
	return z.err
}

// flush writes what the compressor holds back.
func (z *zipped) flush() error {
	if !z.fresh {
		return nil
	}
	z.fresh = false
	return z.zip.Flush()
}

// release ends the page wherever it is, and lets go of what belongs to it.
func (z *zipped) release() {
	z.stop()
	z.zip.Reset(io.Discard)
	z.page, z.to, z.in, z.next, z.stop, z.wait = inserter{}, nil, nil, nil, nil, nil
}

// zipSource is where the decompressor reads.
type zipSource zipped

var errReleased = errors.New("the page was given up")

func (z *zipSource) Read(p []byte) (int, error) {
	for len(z.in) == 0 {
		if z.ended {
			return 0, io.EOF
		}
		if !z.wait(struct{}{}) {
			return 0, errReleased
		}
	}
	n := copy(p, z.in)
	z.in = z.in[n:]
	return n, nil
}

// zipSink is where the page goes.
type zipSink zipped

func (z *zipSink) Write(p []byte) (int, error) {
	z.fresh = true
	return z.zip.Write(p)
}

// run is the coroutine.
func (z *zipped) run() error {
	ok, err := z.member()
	if err != nil {
		return err
	}
	if !ok { // the upstream is mistaken about its answer, which a client may forgive
		z.raw = true
		return z.copyTo(z.to)
	}
	for ok {
		if err := z.unzip.Reset(z.buffer); err != nil {
			return z.broken(err)
		}
		z.unzip.Multistream(false)
		for {
			n, err := z.unzip.Read(z.scratch[:])
			if err := z.page.write(z.scratch[:n]); err != nil {
				return err
			}
			if err == io.EOF {
				break
			} else if err != nil {
				return z.broken(err)
			}
		}
		if ok, err = z.member(); err != nil {
			return err
		}
	}
	if err := z.copyTo(io.Discard); err != nil { // browsers ignore what follows the last member
		return err
	}
	if err := z.page.end(); err != nil {
		return err
	}
	z.fresh = false
	return z.zip.Close()
}

// member reports whether a member of a gzip file (RFC 1952) begins here.
func (z *zipped) member() (bool, error) {
	b, err := z.buffer.Peek(3)
	if err != nil && err != io.EOF {
		return false, err
	}
	return string(b) == "\x1f\x8b\x08", nil
}

func (z *zipped) copyTo(w io.Writer) error {
	for {
		n, err := z.buffer.Read(z.scratch[:])
		if n > 0 {
			if _, err := w.Write(z.scratch[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// broken sends what could be read of a page that is damaged. Its end is not sent: the client must see that it is damaged.
func (z *zipped) broken(err error) error {
	if errors.Is(err, errReleased) {
		return err
	}
	return errors.Join(fmt.Errorf("page with links: the upstream's gzip is damaged: %w", err), z.flush())
}
