package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/wait"
)

const (
	// learnAfter is how long after the start a site is visited: it may be starting, too.
	learnAfter = 20 * time.Second
	// learnAgain is how long it is until a visit that failed is tried again; it doubles up to learnLast.
	learnAgain = time.Minute
	learnLast  = time.Hour
)

// learner keeps what the protected sites look like.
type learner struct {
	pit   *tarpitPart
	sites []string
	visit func(ctx context.Context, site string) (*likeness.Likeness, error)
	after time.Duration // until the first visit
}

// file is where what a site looks like is kept.
func (l *learner) file(site string) string {
	return filepath.Join(l.pit.s.Config.Data.Directory, "likeness-"+url.PathEscape(site)+".json")
}

// Run dresses the maze as the sites look, and looks at them again once in an epoch, until ctx ends.
func (l *learner) Run(ctx context.Context) error {
	due := map[string]time.Time{}
	pause := map[string]time.Duration{}
	now := time.Now()
	for _, site := range l.sites {
		due[site], pause[site] = now.Add(l.after), learnAgain
		switch at, err := l.remembered(site); {
		case err == nil:
			due[site] = at.Add(l.pit.s.Config.Tarpit.Epoch)
		case !errors.Is(err, fs.ErrNotExist):
			l.pit.s.Log.Warn("what the site looks like could not be read; it is learnt anew", "site", site, "error", err)
		}
	}
	for ctx.Err() == nil {
		next := time.Now().Add(time.Hour)
		for _, site := range l.sites {
			if now := time.Now(); !now.Before(due[site]) {
				if err := l.learn(ctx, site); err == nil {
					due[site], pause[site] = now.Add(l.pit.s.Config.Tarpit.Epoch), learnAgain
				} else if ctx.Err() == nil {
					l.pit.s.Log.Info("what the site looks like could not be learnt yet", "site", site, "again", pause[site], "error", err)
					due[site], pause[site] = now.Add(pause[site]), min(2*pause[site], learnLast)
				}
			}
			if due[site].Before(next) {
				next = due[site]
			}
		}
		wait.For(ctx, time.Until(next))
	}
	return nil
}

// remembered dresses the maze in what was learnt before, and returns when that was.
func (l *learner) remembered(site string) (time.Time, error) {
	path := l.file(site)
	fi, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	if fi.Size() > likeness.MaxSize {
		return time.Time{}, fmt.Errorf("%s has %d bytes: want at most %d", path, fi.Size(), likeness.MaxSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, err
	}
	like, err := likeness.Parse(b)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return fi.ModTime(), l.pit.dress(site, like)
}

// learn visits the site.
func (l *learner) learn(ctx context.Context, site string) error {
	like, err := l.visit(ctx, site)
	if err != nil {
		return err
	}
	if err := l.pit.dress(site, like); err != nil {
		return err
	}
	b, err := json.Marshal(like)
	if err != nil {
		return err
	}
	l.pit.s.Log.Info("the maze looks like the site now", "site", site)
	return atomicfile.Replace(l.file(site), func(w io.Writer) error { _, err := w.Write(b); return err })
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
