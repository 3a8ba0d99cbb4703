package run

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// ModeSetting is the name under which the mode is kept in the state store.
const ModeSetting = "mode"

// Settings keeps small values over a restart; *embedded.Settings does.
type Settings interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
}

// modeSwitch is the mode in force. Reading it is one atomic load.
type modeSwitch struct {
	mode     atomic.Uint32
	mu       sync.Mutex // orders changes, so that memory and store agree
	settings Settings
}

// openMode reads the mode that was last set, or takes the configured one.
func openMode(ctx context.Context, s Settings, configured defense.Mode) (*modeSwitch, error) {
	m, err := StoredMode(ctx, s, configured)
	if err != nil {
		return nil, err
	}
	sw := &modeSwitch{settings: s}
	sw.mode.Store(uint32(m))
	return sw, nil
}

// StoredMode returns the mode that was last set by command, or the configured one.
func StoredMode(ctx context.Context, s Settings, configured defense.Mode) (defense.Mode, error) {
	b, err := s.Get(ctx, ModeSetting)
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

// StoreMode makes the mode durable.
func StoreMode(ctx context.Context, s Settings, m defense.Mode) error {
	if err := s.Put(ctx, ModeSetting, []byte(m.String())); err != nil {
		return fmt.Errorf("keep the mode: %w", err)
	}
	return nil
}

// Mode returns the mode in force.
func (s *modeSwitch) Mode() defense.Mode { return defense.Mode(s.mode.Load()) }

// SetMode makes the mode durable and then puts it in force.
func (s *modeSwitch) SetMode(m defense.Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := StoreMode(ctx, s.settings, m); err != nil {
		return err
	}
	s.mode.Store(uint32(m))
	return nil
}
