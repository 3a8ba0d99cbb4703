// Package testlog is a log for tests that several goroutines write and a test reads meanwhile.
package testlog

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written to it. The zero value is empty and ready for use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
