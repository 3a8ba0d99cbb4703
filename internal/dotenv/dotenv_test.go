package dotenv_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/dotenv"
)

const example = `# The port. Default 8080.
PROXY_PORT=8080

# Password of Redis (generated).
REDIS_PASSWORD=

# Key at the provider; blank: none.
PROVIDER_KEY=
`

// zeros is no chance at all.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var zero = strings.Repeat("0", 32)

func TestFill(t *testing.T) {
	for _, tt := range []struct {
		name, have, want string
		filled           []string
	}{
		{"a new file", "", strings.Replace(example, "REDIS_PASSWORD=", "REDIS_PASSWORD="+zero, 1), []string{"REDIS_PASSWORD"}},
		{"what is set stays", "PROXY_PORT=80\nREDIS_PASSWORD=mine\nPROVIDER_KEY=k\n", "PROXY_PORT=80\nREDIS_PASSWORD=mine\nPROVIDER_KEY=k\n", nil},
		{"blank secrets are filled in place", "REDIS_PASSWORD=\nPROXY_PORT=80\nPROVIDER_KEY=\n", "REDIS_PASSWORD=" + zero + "\nPROXY_PORT=80\nPROVIDER_KEY=\n", []string{"REDIS_PASSWORD"}},
		{"what is new is added with its comment", "PROXY_PORT=80\nPROVIDER_KEY=\nOWN=x",
			"PROXY_PORT=80\nPROVIDER_KEY=\nOWN=x\n\n# Password of Redis (generated).\nREDIS_PASSWORD=" + zero + "\n", []string{"REDIS_PASSWORD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var have []byte
			if tt.have != "" {
				have = []byte(tt.have)
			}
			got, filled, err := dotenv.Fill([]byte(example), have, zeros{})
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want || !slices.Equal(filled, tt.filled) {
				t.Errorf("filled %v:\n%s\nwant %v:\n%s", filled, got, tt.filled, tt.want)
			}
			again, filled, err := dotenv.Fill([]byte(example), got, nil)
			if err != nil || !bytes.Equal(again, got) || filled != nil {
				t.Errorf("a second time it changes: %v, %v\n%s", filled, err, again)
			}
		})
	}
}

func TestSecretsDiffer(t *testing.T) {
	one, _, err := dotenv.Fill([]byte("# (generated)\nA=\n# (generated)\nB=\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(one), "\n")
	a, b := strings.TrimPrefix(lines[1], "A="), strings.TrimPrefix(lines[3], "B=")
	if len(a) != 32 || len(b) != 32 || a == b {
		t.Errorf("%q, %q", a, b)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for _, have := range []string{"no variable here", "1A=x", "=x", "A B=x", strings.Repeat("A", dotenv.MaxFile+1)} {
		if _, _, err := dotenv.Fill([]byte(example), []byte(have), nil); err == nil {
			t.Errorf("%.20q is taken", have)
		}
	}
}

func FuzzFill(f *testing.F) {
	f.Add([]byte(example), []byte("PROXY_PORT=80\n"))
	f.Fuzz(func(t *testing.T, example, have []byte) {
		out, _, err := dotenv.Fill(example, have, zeros{})
		if err != nil {
			return
		}
		again, filled, err := dotenv.Fill(example, out, zeros{})
		if err != nil && len(out) <= dotenv.MaxFile || err == nil && (len(filled) > 0 || !bytes.Equal(again, out)) {
			t.Errorf("not stable: %v %v\n%q\n%q", err, filled, out, again)
		}
	})
}
