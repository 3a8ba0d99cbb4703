package listen

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnixSocketListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.sock")
	l, err := On(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := On(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	l.Close()
	l, err = On(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatalf("stale: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := On(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
}
