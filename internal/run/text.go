package run

import (
	"cmp"
	"fmt"
	"io"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/prose"
)

// openText opens what the maze says, and returns what closes it.
func openText(c *config.Config) (maze.Text, io.Closer, error) {
	t := &c.Tarpit
	switch {
	case t.Text == "licensed":
		l, err := prose.NewLicence(t.Licence, cmp.Or(t.Contact, c.Edge.Contact))
		if err != nil {
			return nil, nil, fmt.Errorf("tarpit.licence: %w", err)
		}
		return l, io.NopCloser(nil), nil
	case t.Text == "shuffled-facts":
		return prose.Facts{}, io.NopCloser(nil), nil
	case t.Corpus != "":
		m, err := prose.Open(t.Corpus)
		if err != nil {
			return nil, nil, fmt.Errorf("tarpit.corpus: %w", err)
		}
		return m, m, nil
	}
	return &builtinText{open: prose.Builtin()}, io.NopCloser(nil), nil
}

// builtinText is the built-in model, made when the first client is in the maze: most installs idle.
type builtinText struct {
	open func() (*prose.Model, error)
}

// model returns the model. That it cannot be made is a fault of the program, which its tests would show.
func (b *builtinText) model() *prose.Model {
	m, err := b.open()
	if err != nil {
		panic(err)
	}
	return m
}

// AppendSentence implements maze.Text.
func (b *builtinText) AppendSentence(dst []byte, r maze.Source, words int) []byte {
	return b.model().AppendSentence(dst, r, words)
}

// AppendTitle implements maze.Text.
func (b *builtinText) AppendTitle(dst []byte, r maze.Source, words int) []byte {
	return b.model().AppendTitle(dst, r, words)
}
