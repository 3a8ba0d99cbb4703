package decoy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/quickthorn/quickthorn/internal/race"
)

var clients = []struct{ address, prefix string }{
	{"192.0.2.7", "192.0.2.7/32"},
	{"0.0.0.0", "0.0.0.0/32"},
	{"255.255.255.255", "255.255.255.255/32"},
	{"::ffff:192.0.2.7", "192.0.2.7/32"},
	{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
	{"fe80::1%eth0", "fe80::/64"},
	{"::1", "::/64"},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff::/64"},
}

func address(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func prefix(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func TestAMarkSaysWhomAndWhen(t *testing.T) {
	d := makes(t, words{}, small)
	for _, c := range append(clients, struct{ address, prefix string }{}) {
		for given, want := range map[time.Time]time.Time{
			noon.Add(59 * time.Second):                  noon,
			time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC): time.Unix(markEpoch, 0).UTC(),
			time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
			{}: time.Unix(markEpoch, 0).UTC(),
			noon.In(time.FixedZone("somewhere", 5*3600+45*60)): noon,
		} {
			m := d.mark(Client{address(c.address), given})
			got, at, ok := d.open(&room{mark: m})
			if !ok || got != prefix(c.prefix) || !at.Equal(want) {
				t.Errorf("%q at %v: %v at %v, %v", c.address, given, got, at, ok)
			}
		}
	}
}

func TestSyllablesAreBytes(t *testing.T) {
	seen := map[[syllableLen]byte]bool{}
	for i := range 256 {
		s := syllable(byte(i))
		if b, ok := byteOf(s); !ok || b != byte(i) {
			t.Errorf("%q is %d, was %d", s, b, i)
		}
		seen[s] = true
	}
	if len(seen) != 256 {
		t.Errorf("%d syllables", len(seen))
	}
}

func TestMarksAreInEveryFile(t *testing.T) {
	d := makes(t, words{}, small)
	for _, c := range clients {
		for _, path := range paths {
			for name, data := range unpack(t, path, write(t, d, path, epoch, Client{address(c.address), noon})) {
				got := d.Find(data)
				want := []Mark{
					{Prefix: prefix(c.prefix), Time: noon, Form: FormHex}, {Prefix: prefix(c.prefix), Time: noon, Form: FormNames},
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Mark{}, "Offset"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
					t.Errorf("%s in %s: %s", name, path, diff)
				}
			}
		}
	}
}

func TestAMarkOutlivesWhatIsDoneToText(t *testing.T) {
	d := makes(t, words{}, small)
	m := d.mark(reader)
	digits, people := string(appendHex(nil, m)), string(appendNames(nil, m))
	letters := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) {
				return unicode.ToLower(r)
			}
			return -1
		}, s)
	}
	list := strings.Split(people, ", ")
	for name, c := range map[string]struct{ text, form string }{
		"names":                     {people, FormNames},
		"names in lower case":       {strings.ToLower(people), FormNames},
		"names in capitals":         {strings.ToUpper(people), FormNames},
		"letters alone":             {letters(people), FormNames},
		"a list over lines":         {"- " + strings.Join(list, "\r\n- "), FormNames},
		"a numbered list":           {fmt.Sprintf("1. %s\n2) %s\n[3] %s", list[0], list[1], list[2]), FormNames},
		"JSON":                      {fmt.Sprintf(`["%s", "%s", "%s"]`, list[0], list[1], list[2]), FormNames},
		"names between other words": {"thanks to " + people + " and others, der ton bal", FormNames},
		"dashes that are no ASCII":  {strings.ReplaceAll(people, " ", " – "), FormNames},
		"digits":                    {digits, FormHex},
		"digits in capitals":        {strings.ToUpper(digits), FormHex},
		"a UUID":                    {digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:], FormHex},
		"digits among digits":       {"0a3" + digits + "ffff", FormHex},
		"digits among letters":      {"rev" + digits + "zz", FormHex},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.Find([]byte("Ärger " + c.text))
			if len(got) != 1 || got[0].Prefix != prefix("192.0.2.7/32") || !got[0].Time.Equal(noon) || got[0].Form != c.form {
				t.Fatalf("%q: %+v", c.text, got)
			}
			first := digits[0]
			if c.form == FormNames {
				first = people[0] | 0x20
			}
			if at := ("Ärger " + c.text)[got[0].Offset]; at|0x20 != first|0x20 {
				t.Errorf("it begins at %q", at)
			}
		})
	}
}

func TestNothingElseIsAMark(t *testing.T) {
	d := makes(t, words{}, small)
	other, err := New([]byte("another seed of 16 bytes"), words{}, small)
	if err != nil {
		t.Fatal(err)
	}
	m := other.mark(reader)
	changed := appendHex(nil, d.mark(reader))
	changed[5] ^= 1
	cut := appendNames(nil, d.mark(reader))
	for name, text := range map[string][]byte{
		"nothing":             nil,
		"another seed's":      append(appendHex(nil, m), appendNames(nil, m)...),
		"a changed digit":     changed,
		"a name too few":      cut[:bytes.LastIndexByte(cut, ' ')],
		"a name in between":   bytes.Replace(cut, []byte(", "), []byte(" and "), 1),
		"digits from a paper": []byte("d41d8cd98f00b204e9800998ecf8427e 00000000000000000000000000000000"),
		"two hyphens":         []byte(strings.Replace(string(appendHex(nil, d.mark(reader))), "", "--", 10)),
		"names that are none": []byte(strings.Repeat("bal", 100)),
		"a lot of digits":     []byte(hex.EncodeToString(random(100 << 10))),
	} {
		if got := d.Find(text); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestEveryClientOfACollectionIsFoundOnce(t *testing.T) {
	d := makes(t, words{}, small)
	var text []byte
	for i := range 300 {
		m := d.mark(Client{netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 100)}), noon})
		text = append(appendHex(text, m), " - "...)
		text = append(appendNames(text, m), '\n')
	}
	if got := d.Find(text); len(got) != 200 {
		t.Errorf("%d marks of 100 clients in two forms", len(got))
	}
}

func TestFindIsBounded(t *testing.T) {
	d := makes(t, words{}, small)
	var text []byte
	for i := range MaxMarks + 10 {
		text = append(appendHex(text, d.mark(Client{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), noon})), '\n')
	}
	if got := d.Find(text); len(got) != MaxMarks {
		t.Errorf("%d marks", len(got))
	}
	long := make([]byte, MaxText, MaxText+100)
	if got := d.Find(appendHex(long, d.mark(reader))); len(got) != 0 {
		t.Errorf("%+v beyond what is looked at", got)
	}
}

func TestOpeningAMarkAllocatesNothing(t *testing.T) {
	d := makes(t, words{}, small)
	var r room
	if n := testing.AllocsPerRun(100, func() { d.open(&r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFindAllocatesForMarksOnly(t *testing.T) {
	race.SkipAllocations(t)
	d := makes(t, words{}, small)
	text := []byte(strings.Repeat("balder 0123456789abcdef", 1000))
	if n := testing.AllocsPerRun(10, func() { d.Find(text) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzFind(f *testing.F) {
	d := makes(f, words{}, small)
	m := d.mark(reader)
	f.Add(appendHex(nil, m))
	f.Add(appendNames(nil, m))
	f.Add([]byte(strings.ToUpper(string(appendNames([]byte("x"), m)))))
	f.Add([]byte("00000000-0000-0000-0000-000000000000 bal bal"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, got := range d.Find(text) {
			// There is but one mark that a fuzzer may come across: that of its corpus.
			if got.Prefix != prefix("192.0.2.7/32") || !got.Time.Equal(noon) || got.Offset < 0 || got.Offset >= len(text) {
				t.Errorf("%+v", got)
			}
		}
		// A mark is found whatever comes before it, unless that runs into it.
		whole := append(append(bytes.Clone(text), '\n'), appendHex(nil, m)...)
		found := false
		for _, got := range d.Find(whole) {
			found = found || got.Form == FormHex
		}
		if !found {
			t.Errorf("it is not found after %q", text)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	d := makes(b, words{}, small)
	for name, text := range map[string][]byte{
		"records": write(b, d, "/a.jsonl", epoch, reader),
		"digits":  []byte(hex.EncodeToString(random(128 << 10))),
		"names":   []byte(strings.Repeat("bal", 80<<10)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				d.Find(text)
			}
		})
	}
}
