package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/challenge/captcha"
	"github.com/quickthorn/quickthorn/internal/challenge/work"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/service"
)

// ClearanceKeyFile returns the path of the file with the key that signs clearances.
func ClearanceKeyFile(c *config.Config) string {
	if c.Challenge.KeyFile != "" {
		return c.Challenge.KeyFile
	}
	return filepath.Join(c.Data.Directory, clearance.KeyFile)
}

// OpenSigner reads the keys that sign clearances. Keys that cannot be read are an error.
func OpenSigner(c *config.Config) (*clearance.Signer, error) {
	keys, err := clearance.LoadKeys(ClearanceKeyFile(c))
	if err != nil {
		return nil, err
	}
	return clearance.NewSigner(keys...)
}

// NewGate returns a gate as it is configured, with the widget of the provider, if there is one. shared is what edges share; nil if there is
// one edge.
func NewGate(c *config.Config, s *clearance.Signer, shared challenge.Redemptions) (*challenge.Gate, captcha.Widget, error) {
	o := challenge.Options{
		Signer: s, Validity: c.Challenge.Validity, Redemptions: shared,
		Budget: clearance.Budget{Minute: uint32(c.Challenge.PerMinute), Day: uint32(c.Challenge.PerDay)},
	}
	var kinds []defense.ChallengeKind
	for _, name := range c.Challenge.Kinds {
		var k defense.ChallengeKind
		if err := k.UnmarshalText([]byte(name)); err != nil {
			return nil, captcha.Widget{}, fmt.Errorf("challenge.kinds: %w", err)
		}
		kinds = append(kinds, k)
	}
	var err error
	if o.Ladder, err = defense.NewLadder(kinds...); err != nil {
		return nil, captcha.Widget{}, fmt.Errorf("challenge.kinds: %w", err)
	}
	if o.Algorithm, err = work.ParseAlgorithm(c.Challenge.Algorithm); err != nil {
		return nil, captcha.Widget{}, fmt.Errorf("challenge.algorithm: %w", err)
	}
	var widget captcha.Widget
	if p := &c.Challenge.Captcha; p.Provider != "" {
		a, err := captcha.New(captcha.Config{
			Provider: p.Provider, SiteKey: p.SiteKey, Secret: captcha.Secret(p.Secret), VerifyURL: p.VerifyURL, PublicURL: p.PublicURL,
			ScriptURL: p.ScriptURL, Timeout: p.Timeout, SendAddress: p.SendAddress,
		}, nil)
		if err != nil {
			return nil, captcha.Widget{}, fmt.Errorf("challenge.captcha: %w", err)
		}
		o.Captcha, widget = a, a.Widget()
	}
	return challenge.NewGate(o), widget, nil
}

// openPages opens what readers are shown and keeps it up to date with the owner's files.
func openPages(s *service.Service) (*answer.Writer, error) {
	w, err := answer.Open(s.Config.Challenge.Pages)
	if err != nil {
		return nil, fmt.Errorf("challenge.pages: %w", err)
	}
	for _, warning := range w.Warnings() {
		s.Log.Warn("pages", "problem", warning)
	}
	if s.Config.Challenge.Pages != "" {
		s.Background("watching the pages", service.UntilEnded(func(ctx context.Context) error {
			w.Watch(ctx, time.Second, func(err error) {
				if err != nil {
					s.Log.Error("the pages could not be read again; the old ones stay in use", "error", err)
					return
				}
				s.Log.Info("pages read again")
				for _, warning := range w.Warnings() {
					s.Log.Warn("pages", "problem", warning)
				}
			})
			return nil
		}))
	}
	return w, nil
}

// watchKeys takes new keys of clearances into use when their files change.
func (e *Part) watchKeys(ctx context.Context) error {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := e.reloadKeys(); err == nil {
				last = ""
			} else if err.Error() != last { // once for each problem
				last = err.Error()
				e.s.Log.Error("the keys of clearances could not be read again; the old ones stay in use", "error", err)
			}
		}
	}
}

// reloadKeys reads the keys of clearances again. A key that is gone is an error: a new one would void every clearance.
func (e *Part) reloadKeys() error {
	path := ClearanceKeyFile(e.s.Config)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("clearance key: %w", err)
	}
	keys, err := clearance.LoadKeys(path)
	if err != nil {
		return err
	}
	return errors.Join(e.signer.Replace(keys...), e.sessions.Replace(keys...))
}
