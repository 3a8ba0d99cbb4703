package run

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/prose"
)

// corpusName is the name of the model in the archive that the tarpit's text is made from.
const corpusName = "default"

// text is what the maze says. It may change while the maze speaks.
type text struct {
	now    atomic.Pointer[maze.Text]
	stored bool // a model from the archive may take its place
	closer io.Closer
}

// openText opens what the maze says by the configuration.
func openText(c *config.Config) (*text, error) {
	t, x := &c.Tarpit, &text{closer: io.NopCloser(nil)}
	switch {
	case t.Text == "licensed":
		l, err := prose.NewLicence(t.Licence, cmp.Or(t.Contact, c.Edge.Contact))
		if err != nil {
			return nil, fmt.Errorf("tarpit.licence: %w", err)
		}
		x.say(l)
	case t.Text == "shuffled-facts":
		x.say(prose.Facts{})
	case t.Corpus != "":
		m, err := prose.Open(t.Corpus)
		if err != nil {
			return nil, fmt.Errorf("tarpit.corpus: %w", err)
		}
		x.say(m)
		x.closer = m
	default:
		x.say(&builtinText{open: prose.Builtin()})
		x.stored = true
	}
	return x, nil
}

func (x *text) say(t maze.Text) { x.now.Store(&t) }

// prepare makes what is only made when it is needed.
func (x *text) prepare() {
	if b, ok := (*x.now.Load()).(*builtinText); ok {
		b.model()
	}
}

// AppendSentence implements maze.Text.
func (x *text) AppendSentence(dst []byte, r maze.Source, words int) []byte {
	return (*x.now.Load()).AppendSentence(dst, r, words)
}

// AppendTitle implements maze.Text.
func (x *text) AppendTitle(dst []byte, r maze.Source, words int) []byte {
	return (*x.now.Load()).AppendTitle(dst, r, words)
}

// Close releases a model in a file. Nothing may be said after it.
func (x *text) Close() error { return x.closer.Close() }

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
	text, err := openText(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, text.Close()) }()
	var b bytes.Buffer
	var m *prose.Model
	switch t := (*text.now.Load()).(type) {
	case *prose.Model:
		m = t
	case *builtinText:
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
