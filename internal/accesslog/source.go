package accesslog

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd frame may ask for, in bytes.
const maxWindow = 128 << 20

// Source is an opened log: a file or standard input, decompressed as it is read.
type Source struct {
	io.Reader
	name    string
	size    int64
	counted *counter
	close   []func() error
}

// counter counts what is read of a file before it is decompressed.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Open opens the file of that name, or takes stdin if the name is "-". Gzip (also
// several in one file, as log rotation with "copytruncate" or cat makes them), zstd
// and bzip2 are recognised by their first bytes, whatever the file is called.
func Open(name string, stdin io.Reader) (*Source, error) {
	s := &Source{name: name}
	var raw io.Reader
	if name == "-" {
		s.name, raw = "standard input", stdin
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		s.close = append(s.close, f.Close)
		if fi, err := f.Stat(); err == nil {
			if fi.IsDir() {
				return nil, errors.Join(fmt.Errorf("open log: %s is a directory", name), s.Close())
			}
			if fi.Mode().IsRegular() {
				s.size = fi.Size()
			}
		}
		raw = f
	}
	s.counted = &counter{r: raw}
	if err := s.decompress(); err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", name, err), s.Close())
	}
	return s, nil
}

func (s *Source) decompress() error {
	in := bufio.NewReaderSize(s.counted, 256<<10)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		s.Reader = z
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		s.close = append(s.close, func() error { z.Close(); return nil })
		s.Reader = z
	case bytes.HasPrefix(head, []byte("BZh")):
		s.Reader = bzip2.NewReader(in)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return errors.New("xz is not supported: decompress it first, or pipe it in: xz -dc FILE | … -")
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return errors.New("zip is not supported: unpack it first, or pipe it in: unzip -p FILE | … -")
	default:
		s.Reader = in
	}
	return nil
}

// Name returns the file's name, or "standard input".
func (s *Source) Name() string { return s.name }

// Progress returns how many bytes of the file have been read and how many it has;
// of is 0 if that is not known. Both are before decompression. It may be called
// while another goroutine reads.
func (s *Source) Progress() (done, of int64) { return s.counted.n.Load(), s.size }

// Close closes the file. Standard input is left open.
func (s *Source) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	s.close = nil
	return errors.Join(errs...)
}
