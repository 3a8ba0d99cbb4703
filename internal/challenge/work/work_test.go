package work

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/race"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const ticket = "1.Zm9yIHRlc3Rz.2026-11-26"

var (
	hashing = Puzzle{Algorithm: SHA256, Puzzles: 8, Bits: 10, Least: 2}
	sorting = Puzzle{Algorithm: Memory, Puzzles: 3, Least: 1}
)

func solve(t testing.TB, p Puzzle, ticket string) string {
	t.Helper()
	answer, err := p.Solve(context.Background(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func decode(t testing.TB, answer string) []byte {
	t.Helper()
	b, err := encoding.DecodeString(answer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func both(t *testing.T, f func(t *testing.T, p Puzzle, answer string)) {
	for _, p := range []Puzzle{hashing, sorting} {
		t.Run(p.Algorithm.String(), func(t *testing.T) { f(t, p, solve(t, p, ticket)) })
	}
}

func TestSolvedPuzzlesCount(t *testing.T) {
	both(t, func(t *testing.T, p Puzzle, answer string) {
		if n, err := p.Verify(ticket, answer); n != p.Puzzles || err != nil {
			t.Fatalf("solved %d, %v", n, err)
		}
	})
}

func TestAShareOfThePuzzlesCountsForAShare(t *testing.T) {
	both(t, func(t *testing.T, p Puzzle, answer string) {
		raw, size := decode(t, answer), p.entry()
		for n := range p.Puzzles {
			for name, part := range map[string][]byte{"first": raw[:n*size], "last": raw[len(raw)-n*size:]} {
				got, err := p.Verify(ticket, encoding.EncodeToString(part))
				if n < p.Least {
					if got != 0 || err != ErrTooFew {
						t.Errorf("the %s %d: %d, %v", name, n, got, err)
					}
				} else if got != n || err != nil {
					t.Errorf("the %s %d: %d, %v", name, n, got, err)
				}
			}
		}
	})
}

func TestAnAnswerIsForItsTicketOnly(t *testing.T) {
	both(t, func(t *testing.T, p Puzzle, answer string) {
		for other, want := range map[string]error{
			ticket + "x": ErrWrong, ticket[1:]: ErrWrong, strings.Repeat("x", MaxTicket): ErrWrong,
			"": ErrMalformed, strings.Repeat("x", MaxTicket+1): ErrMalformed,
		} {
			if n, err := p.Verify(other, answer); n != 0 || err != want {
				t.Errorf("ticket %.30q: %d, %v", other, n, err)
			}
		}
	})
}

func TestAnAnswerIsForItsAlgorithmOnly(t *testing.T) {
	many := Puzzle{Algorithm: SHA256, Puzzles: 57, Bits: 8, Least: 1}
	if n, err := many.Verify(ticket, solve(t, sorting, ticket)); n != 0 || err == nil {
		t.Errorf("memory as sha256: %d, %v", n, err)
	}
	if n, err := sorting.Verify(ticket, solve(t, Puzzle{Algorithm: SHA256, Puzzles: 19, Bits: 8, Least: 1}, ticket)); n != 0 || err == nil {
		t.Errorf("sha256 as memory: %d, %v", n, err)
	}
}

func TestNoChangedBitMakesAnAnswerWorthMore(t *testing.T) {
	both(t, func(t *testing.T, p Puzzle, answer string) {
		accepted := 0
		try := func(changed string) {
			n, err := p.Verify(ticket, changed)
			if err != nil && n != 0 || n > p.Puzzles {
				t.Errorf("%q: %d, %v", changed, n, err)
			}
			if err == nil {
				accepted++
			}
		}
		for i := range 8 * len(answer) {
			b := []byte(answer)
			b[i/8] ^= 1 << (i % 8)
			try(string(b))
		}
		raw := decode(t, answer)
		for i := range 8 * len(raw) {
			b := slices.Clone(raw)
			b[i/8] ^= 1 << (i % 8)
			try(encoding.EncodeToString(b))
		}
		// A nonce with a bit changed solves its puzzle by chance once in 2^Bits.
		if accepted > 8 {
			t.Errorf("%d changed answers were taken", accepted)
		}
	})
}

func TestMalformedAnswersAreRefused(t *testing.T) {
	both(t, func(t *testing.T, p Puzzle, answer string) {
		raw, size := decode(t, answer), p.entry()
		entries := func(order ...int) string {
			var b []byte
			for _, i := range order {
				b = append(b, raw[i*size:(i+1)*size]...)
			}
			return encoding.EncodeToString(b)
		}
		beyond := slices.Clone(raw)
		beyond[len(raw)-size] = byte(p.Puzzles)
		far := slices.Clone(raw)
		far[len(raw)-size] = 255
		for name, a := range map[string]string{
			"twice the same":          entries(0, 0, 1),
			"twice the same, apart":   entries(0, 1, 0),
			"descending":              entries(1, 0),
			"more than all":           encoding.EncodeToString(append(slices.Clone(raw), raw[:size]...)),
			"a puzzle that was not":   encoding.EncodeToString(beyond),
			"puzzle 255":              encoding.EncodeToString(far),
			"padding":                 answer + "=",
			"a line break":            answer[:4] + "\n" + answer[4:],
			"a line break for a char": answer[:4] + "\n" + answer[5:],
			"line breaks for its end": answer[:(len(answer)-4)/4*4] + strings.Repeat("\n", len(answer)-(len(answer)-4)/4*4),
			"a space":                 answer[:4] + " " + answer[5:],
			"standard base64":         "+/" + answer[2:],
			"a NUL":                   answer[:len(answer)-1] + "\x00",
			"not ASCII":               answer[:len(answer)-2] + "é",
			"half an entry more":      encoding.EncodeToString(append(slices.Clone(raw[:2*size]), raw[2*size:2*size+size/2]...)),
			"far too long":            strings.Repeat("A", 1<<20),
		} {
			if n, err := p.Verify(ticket, a); n != 0 || err != ErrMalformed {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
	})
}

func TestATruncatedAnswerIsNeverWorthMore(t *testing.T) {
	both(t, func(t *testing.T, p Puzzle, answer string) {
		for i := range answer {
			n, err := p.Verify(ticket, answer[:i])
			if whole := encoding.DecodedLen(i) / p.entry(); err == nil && n > whole || err != nil && n != 0 {
				t.Errorf("%d characters of %d: %d, %v", i, len(answer), n, err)
			}
		}
	})
}

func TestALongAnswerHasOneSpelling(t *testing.T) {
	p := Puzzle{Algorithm: SHA256, Puzzles: 2, Bits: 8, Least: 2} // 10 bytes: the last character has four unused bits
	answer := solve(t, p, ticket)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, answer[len(answer)-1])
	for i := 1; i < 16; i++ {
		other := answer[:len(answer)-1] + alphabet[last^i:last^i+1]
		if n, err := p.Verify(ticket, other); n != 0 || err != ErrMalformed {
			t.Errorf("%q is another spelling of %q: %d, %v", other, answer, n, err)
		}
	}
}

func TestWrongNoncesAreWrong(t *testing.T) {
	raw := decode(t, solve(t, hashing, ticket))
	for i := range hashing.Puzzles {
		b := slices.Clone(raw)
		nonce := b[i*sha256Entry+1:][:4]
		s := newSeed(ticket)
		n := binary.BigEndian.Uint32(nonce) + 1
		for zeroBits(s.hash(uint32(i), n), hashing.Bits) {
			n++
		}
		binary.BigEndian.PutUint32(nonce, n)
		if n, err := hashing.Verify(ticket, encoding.EncodeToString(b)); n != 0 || err != ErrWrong {
			t.Errorf("puzzle %d: %d, %v", i, n, err)
		}
	}
}

// The exclusive-or of all eight is zero in whatever order they are; the tree allows one order only.
func TestMemorySolutionsHaveOneOrder(t *testing.T) {
	p := Puzzle{Algorithm: Memory, Puzzles: 1, Least: 1}
	raw := decode(t, solve(t, p, ticket))
	for width := 1; width < leaves; width *= 2 {
		for at := 0; at < leaves; at += 2 * width {
			b := slices.Clone(raw)
			left, right := b[3+2*at:][:2*width], b[3+2*at+2*width:][:2*width]
			for i := range left {
				left[i], right[i] = right[i], left[i]
			}
			if n, err := p.Verify(ticket, encoding.EncodeToString(b)); n != 0 || err != ErrWrong {
				t.Errorf("subtrees of %d swapped at %d: %d, %v", width, at, n, err)
			}
		}
	}
}

// The eight of a solution are paired so that each node collides; in ascending order they would still be zero together.
func TestMemorySolutionsCollideAtEachNode(t *testing.T) {
	p := Puzzle{Algorithm: Memory, Puzzles: 1, Least: 1}
	raw := decode(t, solve(t, p, ticket))
	var x [leaves]uint16
	for i := range x {
		x[i] = binary.BigEndian.Uint16(raw[3+2*i:])
	}
	regrouped := [][leaves]int{
		{0, 1, 2, 4, 3, 5, 6, 7}, // neither pairs nor quadruples as they were
		{0, 1, 4, 5, 2, 3, 6, 7}, // pairs as they were, other quadruples
		{0, 2, 1, 3, 4, 5, 6, 7}, // quadruples as they were, other pairs
	}
	tried := 0
	for _, order := range regrouped {
		var y [leaves]uint16
		for i, from := range order {
			y[i] = x[from]
		}
		normalise(&y)
		if y == x || !ordered(&y) {
			t.Fatalf("%v is no other tree of %v", y, x)
		}
		tried++
		b := slices.Clone(raw)
		for i, index := range y {
			binary.BigEndian.PutUint16(b[3+2*i:], index)
		}
		if n, err := p.Verify(ticket, encoding.EncodeToString(b)); n != 0 || err != ErrWrong {
			t.Errorf("%v: %d, %v", y, n, err)
		}
	}
	if tried != len(regrouped) {
		t.Errorf("tried %d", tried)
	}
}

// normalise swaps subtrees until each left one begins lower.
func normalise(x *[leaves]uint16) {
	for width := 1; width < leaves; width *= 2 {
		for i := 0; i < leaves; i += 2 * width {
			if x[i] > x[i+width] {
				for j := range width {
					x[i+j], x[i+width+j] = x[i+width+j], x[i+j]
				}
			}
		}
	}
}

// With a pair in both halves, four values do for eight. It collides everywhere and is in order: only the repetition is wrong.
func TestARepeatedPairIsNoSolution(t *testing.T) {
	const salt = 1027 // found by a solver that does not mind
	x := [leaves]uint16{15244, 32316, 48561, 48954, 40858, 41366, 48561, 48954}
	if !ordered(&x) {
		t.Fatal("out of order")
	}
	s := newSeed(ticket)
	var sum uint64
	for _, index := range x {
		sum ^= value(&s, 0, salt, index)
	}
	if sum>>unusedBits != 0 {
		t.Fatalf("the sum is %x", sum)
	}
	if n, err := (Puzzle{Algorithm: Memory, Puzzles: 1, Least: 1}).Verify(ticket, memoryAnswer(salt, x)); n != 0 || err != ErrWrong {
		t.Errorf("%d, %v", n, err)
	}
}

// Two quadruples that each collide, with something left when they are put together.
func TestAlmostSolutionsAreWrong(t *testing.T) {
	p := Puzzle{Algorithm: Memory, Puzzles: 1, Least: 1}
	m, s := newMemorySolver(), newSeed(ticket)
	m.solveSalt(&s, 0, 0)
	tried, close := 0, 0
	for i, a := range m.quads[:len(m.quads)-1] {
		b := m.quads[i+1]
		x := m.leaves(a, b)
		if a.rest == b.rest || !ordered(&x) || !distinct(&x) {
			continue
		}
		tried++
		if (a.rest^b.rest)>>(64-2*digit-8) == 0 {
			close++ // eight bits more than the quadruples need
		}
		if n, err := p.Verify(ticket, memoryAnswer(0, x)); n != 0 || err != ErrWrong {
			t.Fatalf("%v: %d, %v", x, n, err)
		}
	}
	if tried < 1000 || close == 0 {
		t.Errorf("tried %d, %d of them close", tried, close)
	}
}

// memoryAnswer is an answer to puzzle 0.
func memoryAnswer(salt uint16, x [leaves]uint16) string {
	b := binary.BigEndian.AppendUint16([]byte{0}, salt)
	for _, index := range x {
		b = binary.BigEndian.AppendUint16(b, index)
	}
	return encoding.EncodeToString(b)
}

func TestTrivialMemorySolutionsAreRefused(t *testing.T) {
	p := Puzzle{Algorithm: Memory, Puzzles: 1, Least: 1}
	for name, x := range map[string][leaves]uint16{
		"all the same":           {7, 7, 7, 7, 7, 7, 7, 7},
		"pairs of the same":      {1, 1, 2, 2, 3, 3, 4, 4},
		"a pair twice":           {1, 2, 1, 2, 3, 4, 3, 4},
		"a quadruple twice":      {1, 2, 3, 4, 1, 2, 3, 4},
		"second leaves the same": {1, 9, 2, 9, 3, 8, 4, 8},
		"ascending":              {0, 1, 2, 3, 4, 5, 6, 7},
	} {
		if n, err := p.Verify(ticket, memoryAnswer(0, x)); n != 0 || err != ErrWrong {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	for _, tt := range []struct {
		x                 [leaves]uint16
		ordered, distinct bool
	}{
		{[leaves]uint16{0, 1, 2, 3, 4, 5, 6, 7}, true, true},
		{[leaves]uint16{1, 9, 2, 9, 3, 8, 4, 8}, true, false},
		{[leaves]uint16{1, 5, 2, 6, 3, 7, 4, 5}, true, false},
		{[leaves]uint16{1, 1, 2, 3, 4, 5, 6, 7}, false, false},
		{[leaves]uint16{0, 65535, 1, 65534, 2, 65533, 3, 65532}, true, true},
		{[leaves]uint16{1, 2, 0, 3, 4, 5, 6, 7}, false, true},
		{[leaves]uint16{4, 5, 6, 7, 0, 1, 2, 3}, false, true},
	} {
		if o, d := ordered(&tt.x), distinct(&tt.x); o != tt.ordered || d != tt.distinct {
			t.Errorf("%v: ordered %v, distinct %v", tt.x, o, d)
		}
	}
}

func TestPuzzlesOutOfBoundsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		p    Puzzle
		want string // "" if it is valid
	}{
		{Puzzle{SHA256, 32, 12, 8}, ""},
		{Puzzle{SHA256, 1, 8, 1}, ""},
		{Puzzle{SHA256, 64, 24, 64}, ""},
		{Puzzle{Memory, 6, 0, 2}, ""},
		{Puzzle{}, "puzzles: 0 is not between 1 and 64"},
		{Puzzle{SHA256, 65, 12, 8}, "puzzles: 65 is not between 1 and 64"},
		{Puzzle{SHA256, -1, 12, 8}, "puzzles: -1 is not between"},
		{Puzzle{SHA256, 32, 7, 8}, "bits: 7 is not between 8 and 24"},
		{Puzzle{SHA256, 32, 25, 8}, "bits: 25 is not between 8 and 24"},
		{Puzzle{SHA256, 32, 12, 0}, "least: 0 is not between 1 and the number of puzzles, 32"},
		{Puzzle{SHA256, 32, 12, 33}, "least: 33 is not between"},
		{Puzzle{Memory, 6, 12, 2}, "bits: 12, but the memory algorithm has no bits to choose"},
		{Puzzle{2, 6, 12, 2}, "algorithm: 2 is unknown, want sha256 or memory"},
	} {
		err := tt.p.Validate()
		if tt.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.p, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.p, err, tt.want)
		}
		if n, err := tt.p.Verify(ticket, ""); n != 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: Verify says %d, %v", tt.p, n, err)
		}
		if _, err := tt.p.Solve(context.Background(), ticket); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: Solve says %v", tt.p, err)
		}
	}
}

func TestAlgorithmsAreNamed(t *testing.T) {
	for _, a := range []Algorithm{SHA256, Memory} {
		if got, err := ParseAlgorithm(a.String()); got != a || err != nil {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	if _, err := ParseAlgorithm("scrypt"); err == nil || !strings.Contains(err.Error(), "want sha256 or memory") {
		t.Errorf("scrypt: %v", err)
	}
	if got := Algorithm(9).String(); got != "Algorithm(9)" {
		t.Error(got)
	}
}

func TestSolveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range []Puzzle{{SHA256, 64, 24, 1}, {Memory, 64, 0, 1}} {
		if _, err := p.Solve(ctx, ticket); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: %v", p.Algorithm, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", MaxTicket+1)} {
		if _, err := hashing.Solve(context.Background(), bad); err == nil || !strings.Contains(err.Error(), "want 1 to 200") {
			t.Errorf("ticket of %d bytes: %v", len(bad), err)
		}
	}
}

func TestVerifyAllocatesNothing(t *testing.T) {
	race.SkipAllocations(t)
	both(t, func(t *testing.T, p Puzzle, answer string) {
		wrong := encoding.EncodeToString(make([]byte, p.entry()*p.Least))
		for name, a := range map[string]string{"right": answer, "wrong": wrong, "malformed": answer + "=", "too few": ""} {
			if n := testing.AllocsPerRun(50, func() { _, _ = p.Verify(ticket, a) }); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

// vector is a known answer. The browser's solver is tested against the same file.
type vector struct {
	Ticket    string `json:"ticket"`
	Algorithm string `json:"algorithm"`
	Puzzles   int    `json:"puzzles"`
	Bits      int    `json:"bits"`
	Least     int    `json:"least"`
	Answer    string `json:"answer"`
}

func TestKnownAnswers(t *testing.T) {
	path := filepath.Join("testdata", "vectors.json")
	if *update {
		var all []vector
		for _, tt := range []struct {
			ticket string
			p      Puzzle
		}{
			{"a", Puzzle{SHA256, 1, 8, 1}},
			{ticket, Puzzle{SHA256, 32, 12, 8}},
			{strings.Repeat("0123456789", 20), Puzzle{SHA256, 64, 8, 64}},
			{"eighteen-bits", Puzzle{SHA256, 3, 18, 1}},
			{"a", Puzzle{Memory, 1, 0, 1}},
			{ticket, Puzzle{Memory, 6, 0, 2}},
			{strings.Repeat("0123456789", 20), Puzzle{Memory, 16, 0, 16}}, // some of which need a second salt
		} {
			all = append(all, vector{tt.ticket, tt.p.Algorithm.String(), tt.p.Puzzles, tt.p.Bits, tt.p.Least, solve(t, tt.p, tt.ticket)})
		}
		b, err := json.MarshalIndent(all, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	salts := 0
	for _, v := range all {
		a, err := ParseAlgorithm(v.Algorithm)
		if err != nil {
			t.Fatal(err)
		}
		p := Puzzle{a, v.Puzzles, v.Bits, v.Least}
		if n, err := p.Verify(v.Ticket, v.Answer); n != v.Puzzles || err != nil {
			t.Errorf("%.20s %+v: %d, %v", v.Ticket, p, n, err)
		}
		if got := solve(t, p, v.Ticket); got != v.Answer {
			t.Errorf("%.20s %+v: solved as %s, want %s", v.Ticket, p, got, v.Answer)
		}
		for raw := decode(t, v.Answer); a == Memory && len(raw) > 0; raw = raw[memoryEntry:] {
			if raw[1] != 0 || raw[2] != 0 {
				salts++
			}
		}
	}
	if len(all) == 0 || salts == 0 {
		t.Errorf("%d vectors, %d of them with a salt other than the first", len(all), salts)
	}
}

func FuzzVerify(f *testing.F) {
	puzzles := []Puzzle{hashing, sorting, {SHA256, 1, 8, 1}, {SHA256, MaxPuzzles, 8, 1}, {Memory, MaxPuzzles, 0, 1}}
	for i, p := range puzzles[:3] {
		f.Add(ticket, solve(f, p, ticket), uint8(i))
	}
	f.Add("", "", uint8(0))
	f.Add(ticket, strings.Repeat("A", MaxAnswer), uint8(4))
	f.Add(ticket, "AA\nAAAAAAAA", uint8(2))
	f.Fuzz(func(t *testing.T, ticket, answer string, which uint8) {
		p := puzzles[int(which)%len(puzzles)]
		n, err := p.Verify(ticket, answer)
		switch err {
		case nil:
			if n < p.Least || n > p.Puzzles || len(answer) > MaxAnswer || len(ticket) > MaxTicket {
				t.Fatalf("%d solved by %d characters for a ticket of %d", n, len(answer), len(ticket))
			}
			raw := decode(t, answer)
			if len(raw) != n*p.entry() || encoding.EncodeToString(raw) != answer {
				t.Fatalf("%q is another spelling", answer)
			}
		case ErrMalformed, ErrWrong, ErrTooFew:
			if n != 0 {
				t.Fatalf("%d solved, yet %v", n, err)
			}
		default:
			t.Fatal(err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for name, p := range map[string]Puzzle{"sha256-32x12": {SHA256, 32, 12, 8}, "memory-6": {Memory, 6, 0, 2}} {
		answer := solve(b, p, ticket)
		raw := decode(b, answer)
		raw[len(raw)-1] ^= 1
		wrong := encoding.EncodeToString(raw)
		first := "AAAAAAAA" + answer[8:]
		for what, a := range map[string]string{
			"right": answer, "wrong-last": wrong, "wrong-first": first,
			"junk-length": answer + "A", "junk-text": strings.Repeat("*", len(answer)), "junk-long": strings.Repeat("A", 1<<16), "too-few": "",
		} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, _ = p.Verify(ticket, a)
				}
			})
		}
	}
}

// BenchmarkHash is one step of a native solver that uses the standard library.
func BenchmarkHash(b *testing.B) {
	s := newSeed(ticket)
	var n uint32
	for b.Loop() {
		_ = s.hash(1, n)
		n++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mhash/s")
}

// BenchmarkSolve is what a solved challenge costs a native program, averaged over tickets.
func BenchmarkSolve(b *testing.B) {
	for name, p := range map[string]Puzzle{"sha256-32x12": {SHA256, 32, 12, 8}, "memory-6": {Memory, 6, 0, 2}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := uint32(0)
			for b.Loop() {
				n++
				solve(b, p, ticket+string(binary.BigEndian.AppendUint32(nil, n)))
			}
		})
	}
	b.Run("memory-salt", func(b *testing.B) {
		m, s := newMemorySolver(), newSeed(ticket)
		n, found := uint16(0), 0
		for b.Loop() {
			if _, ok := m.solveSalt(&s, 0, n); ok {
				found++
			}
			n++
		}
		b.ReportMetric(float64(found)/float64(b.N), "solved/salt")
	})
}
