package run

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

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

// ShowText writes what the tarpit's text is made of, with n sentences of it.
func ShowText(out io.Writer, c *config.Config, n int) (err error) {
	text, closer, err := openText(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	var b bytes.Buffer
	m, _ := text.(*prose.Model)
	if t, ok := text.(*builtinText); ok {
		m = t.model()
	}
	if m != nil {
		fmt.Fprintf(&b, "%d words and marks, %d different ones, language %s\n", m.Tokens(), m.Words(), cmp.Or(m.Language(), "not told"))
		for _, t := range m.Texts() {
			fmt.Fprintf(&b, "  %s: %d words and marks, source %s, licence %s\n", t.Name, t.Tokens, cmp.Or(t.Source, "not told"), cmp.Or(t.Licence, "not told"))
		}
	}
	r := rand.NewPCG(rand.Uint64(), rand.Uint64())
	for range n {
		b.Write(text.AppendSentence(nil, r, 15))
		b.WriteByte('\n')
	}
	_, err = out.Write(b.Bytes())
	return err
}
