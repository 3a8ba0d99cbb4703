package spend

import (
	"context"
	"sync"
	"time"
)

// Memory is a Store for as long as the process lives. Make it with NewMemory; it is safe for concurrent use.
type Memory struct {
	now  func() time.Time
	mu   sync.Mutex
	days map[memoryKey]*Day
}

type memoryKey struct {
	account string
	date    Date
}

var _ Store = (*Memory)(nil)

// NewMemory returns a store with nothing in it.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, days: map[memoryKey]*Day{}}
}

// day is an account's day; old ones are forgotten. The caller holds the lock.
func (m *Memory) day(account string, d Date) *Day {
	k := memoryKey{account, d}
	if m.days[k] == nil {
		for old := range m.days {
			if old.date < d-Keep {
				delete(m.days, old)
			}
		}
		m.days[k] = &Day{}
	}
	return m.days[k]
}

// Reserve implements Store.
func (m *Memory) Reserve(_ context.Context, e Entry, most Amount, limit Limit) (Sums, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sums, ok := m.day(e.Account, e.Date).Reserve(m.now(), e.ID, most, limit)
	return sums, ok, nil
}

// Note implements Store.
func (m *Memory) Note(_ context.Context, e Entry, used Amount) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.day(e.Account, e.Date).Note(m.now(), e.ID, used)
	return nil
}

// Settle implements Store.
func (m *Memory) Settle(_ context.Context, e Entry, used, noted Amount) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.day(e.Account, e.Date).Settle(m.now(), e.ID, used, noted)
	return nil
}

// Sums implements Store.
func (m *Memory) Sums(_ context.Context, account string, d Date) (Sums, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.day(account, d).Sums(m.now()), nil
}
