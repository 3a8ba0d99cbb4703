package decision

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLimitedReaderFailsOnlyWhenThereIsMore(t *testing.T) {
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
		for in, want := range map[string]error{"": nil, "1234": nil, "12345": nil, "123456": ErrImportTooLarge} {
			b, err := io.ReadAll(&limited{r: wrap(strings.NewReader(in)), n: 5})
			if !errors.Is(err, want) || string(b) != in[:min(5, len(in))] {
				t.Errorf("%q: %q, %v", in, b, err)
			}
		}
	}
}
