// Package mode holds the mode in force: which verdicts are carried out.
package mode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Setting is the name under which the mode is kept in the state store.
const Setting = "mode"

// Settings keep small values durably; a value that was never put is nil.
type Settings interface {
	Get(ctx context.Context, name string) ([]byte, error)
	Put(ctx context.Context, name string, value []byte) error
}

// Switch is the mode in force. Reading it is one atomic load.
type Switch struct {
	mode     atomic.Uint32
	settings Settings // nil: it cannot be switched here

	mu sync.Mutex // orders changes, so that memory and store agree

	waiting sync.Mutex
	changed chan struct{} // closed with the next change; nil: nobody waits
}

// Stored returns the mode that was last set by command, or the configured one.
func Stored(ctx context.Context, s Settings, configured defense.Mode) (defense.Mode, error) {
	b, err := s.Get(ctx, Setting)
	if err != nil {
		return configured, fmt.Errorf("read the mode: %w", err)
	}
	if b == nil {
		return configured, nil
	}
	m, err := defense.ParseMode(string(b))
	if err != nil {
		return configured, fmt.Errorf("read the mode: %w", err)
	}
	return m, nil
}

// Store makes the mode durable.
func Store(ctx context.Context, s Settings, m defense.Mode) error {
	if err := s.Put(ctx, Setting, []byte(m.String())); err != nil {
		return fmt.Errorf("keep the mode: %w", err)
	}
	return nil
}

// NewSwitch returns a switch that is kept in settings; nil: it follows what another process says.
func NewSwitch(settings Settings) *Switch { return &Switch{settings: settings} }

// Mode returns the mode in force.
func (s *Switch) Mode() defense.Mode { return defense.Mode(s.mode.Load()) }

// SetMode makes the mode durable and then puts it in force.
func (s *Switch) SetMode(m defense.Mode) error {
	if s.settings == nil {
		return errors.New("the mode is set at ai-service, which tells every edge")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := Store(ctx, s.settings, m); err != nil {
		return err
	}
	s.Put(m)
	return nil
}

// Put puts the mode in force.
func (s *Switch) Put(m defense.Mode) {
	s.mode.Store(uint32(m))
	s.waiting.Lock()
	defer s.waiting.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Changed returns a channel that is closed when the mode changes.
func (s *Switch) Changed() <-chan struct{} {
	s.waiting.Lock()
	defer s.waiting.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}
