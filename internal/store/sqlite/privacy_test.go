package sqlite

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var key = bytes.Repeat([]byte("k"), 32)

func TestAHashedAddressIsNowhereInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	o := options()
	o.Privacy = Privacy{Addresses: Hashed, Key: key}
	a := open(t, path, o)
	appendAll(t, a, event(1))
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{[]byte("192.0.2"), {192, 0, 2, 77}} {
		if bytes.Contains(b, s) {
			t.Errorf("the file holds %q", s)
		}
	}
}

func TestPrivacySettingsThatCannotWorkAreRefused(t *testing.T) {
	for _, p := range []Privacy{{Addresses: Hashed}, {Addresses: Hashed, Key: []byte("short")}, {Addresses: 9}} {
		o := options()
		o.Privacy = p
		if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "archive.db"), o); err == nil || !strings.Contains(err.Error(), "privacy") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if _, err := ParseAddressMode("hased"); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("got %v", err)
	}
}
