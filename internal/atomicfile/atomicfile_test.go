package atomicfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/quickthorn/quickthorn/internal/atomicfile"
)

func TestAFileIsReplacedWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	says := func(text string, fail error) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return errors.Join(err, fail)
		}
	}
	want := func(text string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil || string(b) != text {
			t.Errorf("%q, %v, want %q", b, err, text)
		}
		list, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(list) != 1 {
			t.Errorf("left beside it: %v, %v", list, err)
		}
	}
	if err := atomicfile.Replace(path, says("one", nil)); err != nil {
		t.Fatal(err)
	}
	want("one")
	broken := errors.New("broken")
	if err := atomicfile.Replace(path, says("half of tw", broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	want("one")
	if err := atomicfile.Replace(path, says("two", nil)); err != nil {
		t.Fatal(err)
	}
	want("two")
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
