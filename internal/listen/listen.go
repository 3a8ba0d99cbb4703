// Package listen opens the addresses that a configuration names.
package listen

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// On opens a TCP address or, as "unix:/path", a Unix socket. A stale socket file that
// nobody listens on any more is replaced; anything else in its place is an error.
func On(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return lc.Listen(ctx, "tcp", address)
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: the file exists and is no socket", address)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("listen on %s: another program listens there", address)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: remove stale socket: %w", address, err)
		}
	}
	return lc.Listen(ctx, "unix", path)
}
