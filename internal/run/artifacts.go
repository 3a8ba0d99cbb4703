package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/prose"
)

// ArtifactKinds are the kinds of artifacts, and who may put them beside the operator.
func ArtifactKinds() map[string]artifact.Kind {
	return map[string]artifact.Kind{
		artifact.Corpus:   {Check: func(b []byte) error { _, err := prose.Parse(b); return err }},
		artifact.Switch:   {Check: func(b []byte) error { _, err := position(b); return err }, Writers: []string{auth.Proxy}},
		artifact.Likeness: {Check: func(b []byte) error { _, err := parseLikeness(b); return err }, Writers: []string{auth.Proxy}},
	}
}

// parseLikeness reads what a site looks like, if a maze can be made of it.
func parseLikeness(b []byte) (*likeness.Likeness, error) {
	if len(b) > likeness.MaxSize {
		return nil, fmt.Errorf("a likeness of %d bytes: want at most %d", len(b), likeness.MaxSize)
	}
	return likeness.Parse(b)
}

// artifactGroup serves the archive's artifacts.
func artifactGroup(a *artifact.API) auth.Group {
	a.Kinds = ArtifactKinds()
	return auth.Group{API: a, Callers: []string{auth.Proxy}}
}

// switchName is the name of the tarpit's switch in the archive.
const switchName = "tarpit"

// position reads the position of a switch.
func position(b []byte) (on bool, err error) {
	switch string(b) {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, fmt.Errorf("a switch is on or off, not %.20q", b)
}

// lookEvery is how often a tarpit looks for what is new in the archive.
const lookEvery = 5 * time.Second

// watch puts into force what the library has for the tarpit; nil: there is nothing that it could have. shared says that the switch is there, too.
func (p *tarpitPart) watch(lib artifact.Library, shared bool) func(ctx context.Context) error {
	take := map[string]func(a *artifact.Artifact, body []byte) error{}
	if p.text.stored {
		take[artifact.Corpus] = func(a *artifact.Artifact, body []byte) error {
			if a.Name != corpusName {
				return nil
			}
			m, err := prose.Parse(body)
			if err != nil {
				return err
			}
			p.text.say(m)
			return nil
		}
	}
	if p.learns() {
		take[artifact.Likeness] = func(a *artifact.Artifact, body []byte) error {
			like, err := parseLikeness(body)
			if err != nil {
				return err
			}
			return p.dress(a.Name, like)
		}
	}
	if shared {
		take[artifact.Switch] = func(a *artifact.Artifact, body []byte) error {
			if a.Name != switchName {
				return nil
			}
			on, err := position(body)
			if err == nil {
				p.Switch(on)
			}
			return err
		}
	}
	if len(take) == 0 {
		return nil
	}
	return (&artifact.Watcher{Library: lib, Every: lookEvery, Take: take, Log: p.s.Log}).Run
}

// dress has the site's maze look like it.
func (p *tarpitPart) dress(site string, like *likeness.Likeness) error {
	m, err := p.maze(like)
	if err != nil {
		return err
	}
	p.Redress(site, m)
	return nil
}

// learns reports whether the maze looks like the site.
func (p *tarpitPart) learns() bool { return maze.Skin(p.s.Config.Tarpit.Skin) == maze.SkinLearnt }

// trainCorpus trains a model on the texts of tarpit.texts and keeps it in the library. The same texts make the same model, which is not kept twice.
func trainCorpus(ctx context.Context, c *config.Config, lib artifact.Library) error {
	names, err := corpusTexts(c.Tarpit.Texts)
	if err != nil {
		return fmt.Errorf("tarpit.texts: %w", err)
	}
	b, err := TrainCorpus(ctx, names, prose.Text{}, prose.Options{Language: c.Tarpit.TextsLanguage})
	if err != nil {
		return err
	}
	_, err = lib.Put(ctx, artifact.Corpus, corpusName, fmt.Sprintf("%d texts of tarpit.texts", len(names)), b)
	return err
}

// corpusTexts lists the files that the patterns name, in order.
func corpusTexts(patterns []string) ([]string, error) {
	var names []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: there is no such file", p)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// TrainCorpus trains a model on text files; about says where they are from.
func TrainCorpus(ctx context.Context, names []string, about prose.Text, o prose.Options) (_ []byte, err error) {
	var texts []prose.Text
	for _, name := range names {
		f, err2 := os.Open(name)
		if err2 != nil {
			return nil, err2
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		about.Name, about.Reader = filepath.Base(name), f
		texts = append(texts, about)
	}
	return prose.Train(ctx, texts, o)
}

// StoredCorpora lists the versions of the model in the library, the newest first.
func StoredCorpora(ctx context.Context, lib artifact.Library) ([]artifact.Artifact, error) {
	list, err := lib.List(ctx)
	return slices.DeleteFunc(list, func(a artifact.Artifact) bool { return a.Kind != artifact.Corpus || a.Name != corpusName }), err
}

// RestoreCorpus keeps an older version as the newest.
func RestoreCorpus(ctx context.Context, lib artifact.Library, version int64) (artifact.Artifact, error) {
	_, body, err := lib.Get(ctx, artifact.Corpus, corpusName, version)
	if err != nil {
		return artifact.Artifact{}, err
	}
	return StoreCorpus(ctx, lib, fmt.Sprintf("version %d again", version), body)
}

// StoreCorpus keeps a trained model where the tarpit looks for it.
func StoreCorpus(ctx context.Context, lib artifact.Library, note string, b []byte) (artifact.Artifact, error) {
	return lib.Put(ctx, artifact.Corpus, corpusName, note, b)
}
