package decoy

import (
	"archive/tar"
	"archive/zip"
	"io"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// member is a file in an archive. Its size is known before it is written, as tar wants it.
type member struct {
	path string
	size int64
	date time.Time
	// write writes exactly size bytes.
	write func(p *sheet) error
}

// container puts members one after the other.
type container interface {
	// open begins a member; what is written until the next one is its data.
	open(m *member) (io.Writer, error)
	close() error
}

// zip writes the file as a .zip, whose sizes and checksums follow the data.
func (x *file) zip(s *stage) error {
	z := zip.NewWriter(s)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewStatelessWriter(w), nil })
	return x.pack(s, zipped{z})
}

type zipped struct{ z *zip.Writer }

func (c zipped) open(m *member) (io.Writer, error) {
	h := zip.FileHeader{Name: m.path, Method: zip.Deflate, Modified: m.date}
	h.SetMode(0o644)
	return c.z.CreateHeader(&h)
}

func (c zipped) close() error { return c.z.Close() }

// tarGz writes the file as a .tar.gz.
func (x *file) tarGz(s *stage) error {
	z, err := gzip.NewWriterLevel(s, gzip.StatelessCompression)
	if err != nil {
		return err
	}
	z.ModTime = x.date
	return x.pack(s, tarred{tar.NewWriter(z), z})
}

type tarred struct {
	t *tar.Writer
	z *gzip.Writer
}

func (c tarred) open(m *member) (io.Writer, error) {
	// The format is set lest a long name or a date changes it.
	return c.t, c.t.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: m.path, Size: m.size, Mode: 0o644, ModTime: m.date, Format: tar.FormatUSTAR, Uname: "data", Gname: "data",
	})
}

func (c tarred) close() error {
	if err := c.t.Close(); err != nil {
		return err
	}
	return c.z.Close()
}

// pack writes all members.
func (x *file) pack(s *stage, c container) error {
	p := &sheet{stage: s, block: make([]byte, 0, blockLen)}
	for _, m := range x.members() {
		var err error
		if p.to, err = c.open(&m); err != nil {
			return err
		}
		if err := m.write(p); err != nil {
			return err
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	if err := c.close(); err != nil {
		return err
	}
	return s.send()
}

// plain writes the file as records alone.
func (x *file) plain(s *stage, f format) error {
	p := &sheet{to: s, stage: s, block: make([]byte, 0, blockLen)}
	if err := x.records(p, f, aspectPart, 0, x.size); err != nil {
		return err
	}
	return p.flush()
}
