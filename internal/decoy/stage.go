package decoy

import (
	"bytes"
	"context"
	"io"
)

const (
	// blockLen is how much is compressed at a time.
	blockLen = 20 << 10
	// stageLen is what comes of a block at most: itself, what was kept in front of it and a few headers.
	stageLen = 28 << 10
)

// stage is where an archive is put together before it is sent, so that no compressor is in use while a client is waited for.
type stage struct {
	ctx context.Context
	w   io.Writer
	out bytes.Buffer
}

func newStage(ctx context.Context, w io.Writer) *stage {
	s := &stage{ctx: ctx, w: w}
	s.out.Grow(stageLen)
	return s
}

// Write never fails.
func (s *stage) Write(b []byte) (int, error) { return s.out.Write(b) }

// send sends what is there.
func (s *stage) send() error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if s.out.Len() == 0 {
		return nil
	}
	_, err := s.w.Write(s.out.Bytes())
	s.out.Reset()
	return err
}

// sheet is where the data of one member is written. It hands on whole blocks, and each time what came of them is sent.
type sheet struct {
	to    io.Writer // the member within the stage
	stage *stage
	block []byte
}

// add appends to the member.
func (p *sheet) add(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), blockLen-len(p.block))
		p.block = append(p.block, b[:n]...)
		b = b[n:]
		if len(p.block) == blockLen {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush hands on what is left.
func (p *sheet) flush() error {
	if len(p.block) == 0 {
		return nil
	}
	_, err := p.to.Write(p.block)
	p.block = p.block[:0]
	if err != nil {
		return err
	}
	return p.stage.send()
}
