package reputation

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gaissmai/bart"
)

func parse(s string) (*bart.Lite, error) { return parseList(strings.NewReader(s), 1<<20, 100) }

func TestListHoldsAddressesRangesAndComments(t *testing.T) {
	table, err := parse("# a list\r\n\n192.0.2.1\n 198.51.100.0/24 ; SBL123 \n2001:db8:1::/48 # theirs\n203.0.113.9 US 12\n::ffff:192.0.2.77\n")
	if err != nil {
		t.Fatal(err)
	}
	l := &list{}
	l.table.Store(table)
	for s, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false, "198.51.100.200": true, "203.0.113.9": true, "192.0.2.77": true,
		"2001:db8:1:5::/64": true, "2001:db8:2::/64": false,
	} {
		if got := l.check(client(s)).Listed; got != want {
			t.Errorf("%s: listed %v", s, got)
		}
	}
}

func TestAnIPv6ClientIsListedWhenOneOfItsAddressesIs(t *testing.T) {
	table, err := parse("2001:db8::42\n")
	if err != nil {
		t.Fatal(err)
	}
	l := &list{}
	l.table.Store(table)
	if !l.check(client("2001:db8::/64")).Listed || l.check(client("2001:db8:0:1::/64")).Listed {
		t.Error("want the /64 of the address, and only it")
	}
}

func TestWhatIsNoListIsRefusedAsAWhole(t *testing.T) {
	many := strings.Builder{}
	for i := range 101 {
		fmt.Fprintf(&many, "192.0.2.%d\n", i)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"an error page":         {"<html>\n<body>Not found</body>\n</html>\n", "not a list"},
		"everybody":             {"0.0.0.0/0\n", "too wide"},
		"half of the internet":  {"192.0.2.1\n8000::/1\n", "too wide"},
		"too many entries":      {many.String(), "more than 100"},
		"a line without end":    {strings.Repeat("1", 2*maxListLine), "bytes"},
		"more bytes than asked": {strings.Repeat("# comment\n", 200_000), "larger than"},
	} {
		if _, err := parse(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// A slip in a long list costs that line only.
	if table, err := parse(strings.Repeat("192.0.2.1\n", 20) + "192.0.2.300\n192.0.2.5\n"); err != nil || !table.Contains(netip.MustParseAddr("192.0.2.5")) {
		t.Errorf("one bad line: %v", err)
	}
}

func TestListIsReadAgainWhenItsFileHasChangedAndSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// File systems keep times coarsely; two writes must not look like one.
		when := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("192.0.2.1\n", 0)
	c, err := New(Options{Lists: []ListOptions{{Name: "mine", Path: path}}})
	if err != nil {
		t.Fatal(err)
	}
	l := c.lists[0]
	listed := func(s string) bool {
		t.Helper()
		v, err := c.Check(t.Context(), client(s))
		if err != nil {
			t.Fatal(err)
		}
		return len(v.Listed) > 0
	}
	if !listed("192.0.2.1") {
		t.Fatal("not read at the start")
	}
	write("192.0.2.2\n", time.Hour)
	if l.poll(); listed("192.0.2.2") {
		t.Error("read while it may still be written")
	}
	if l.poll(); !listed("192.0.2.2") || listed("192.0.2.1") {
		t.Error("not replaced when it had settled")
	}
	write("<html>", 2*time.Hour)
	l.poll()
	if l.poll(); !listed("192.0.2.2") || !l.state.Failing() {
		t.Error("a broken file replaced a good list, or was not noticed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.poll()
	if l.poll(); !listed("192.0.2.2") {
		t.Error("the list went with its file")
	}
	write("192.0.2.3\n", 3*time.Hour)
	l.poll()
	if l.poll(); !listed("192.0.2.3") || l.state.Failing() {
		t.Error("not read again when the file was back")
	}
}

func TestAListThatIsNotThereYetIsNoErrorAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	c, err := New(Options{Lists: []ListOptions{{Name: "later", Path: path}, {Name: "folder", Path: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	if !c.lists[0].state.Failing() || !c.lists[1].state.Failing() {
		t.Error("nobody would know")
	}
	if err := os.WriteFile(path, []byte("192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.lists[0].poll()
	c.lists[0].poll()
	if v, _ := c.Check(t.Context(), client("192.0.2.1")); len(v.Listed) != 1 || v.Score != 0.85 {
		t.Errorf("%+v", v)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("192.0.2.1\n198.51.100.0/24 ; x\n")
	f.Add("::ffff:1.2.3.4/97\n#")
	f.Add("fe80::1%eth0\n1.2.3.4/33\n")
	f.Fuzz(func(t *testing.T, s string) {
		table, err := parse(s)
		if err != nil {
			return
		}
		if table.Size() > 100 {
			t.Fatalf("%d entries", table.Size())
		}
		for p := range table.All() {
			if p.Addr().Is4() && p.Bits() < widestListed4 || p.Addr().Is6() && p.Bits() < widestListed6 || p.Addr().Is4In6() {
				t.Fatalf("%v is in the table", p)
			}
		}
	})
}
