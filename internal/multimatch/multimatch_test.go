package multimatch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quickthorn/quickthorn/internal/race"
)

const (
	oldIE  = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0; SLCC1; .NET CLR 2.0.50727)"
	chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36 Edg/153.0.0.0"
)

func words(texts ...string) []Pattern {
	var out []Pattern
	for _, t := range texts {
		out = append(out, Pattern{Text: t, Boundary: true})
	}
	return out
}

func mustNew(t testing.TB, patterns []Pattern) *Matcher {
	t.Helper()
	m, err := New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func matches(m *Matcher, text string) (out []Match) {
	m.Each(text, func(index, start, end int) bool {
		out = append(out, Match{index, start, end})
		return true
	})
	return out
}

func all(m *Matcher, text string) []string {
	var out []string
	for _, match := range matches(m, text) {
		out = append(out, fmt.Sprintf("%d:%s", match.Index, text[match.Start:match.End]))
	}
	return out
}

func TestBoundaries(t *testing.T) {
	tests := []struct {
		name, pattern, text string
		want                bool
	}{
		{"old Internet Explorer is not LCC", "LCC", oldIE, false},
		{"LCC itself", "LCC", "LCC (+http://corpora.informatik.uni-leipzig.de/crawler_faq.html)", true},
		{"version after a slash", "GPTBot", "Mozilla/5.0 (compatible; GPTBot/1.0; +https://openai.com/gptbot)", true},
		{"letter case", "gptBOT", "GPTBot/1.0", true},
		{"CamelCase is one word", "spider", "YisouSpider/5.0", false},
		{"a telephone is not a bot", "bot", "Mozilla/5.0 (Linux; Android 6.0; CUBOT MAX)", false},
		{"digit behind", "bot", "bot2", false},
		{"digit before", "bot", "2bot", false},
		{"underscore separates", "pingdom", "Pingdom.com_bot", true},
		{"underscore separates on the left", "bot", "archive.org_bot", true},
		{"hyphen separates", "AdsBot-Google", "AdsBot-Google-Mobile", true},
		{"whole text", "curl", "curl", true},
		{"accented letter beside it", "bot", "ébot", false},
		{"no boundary needed behind a slash", "BW/", "BW/1.3", true},
		{"but before the letter", "BW/", "XBW/1.3", false},
		{"punctuation needs nothing before it", "+http", "x+http://y", true},
		{"but after the letter", "+http", "x+httpx", false},
		{"first occurrence inside a word, second not", "bot", "robot bot", true},
		{"invalid UTF-8", "bot", "\xff\xfe bot \xff", true},
		{"control bytes", "bot", "\x00bot\n", true},
		{"empty text", "bot", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := mustNew(t, words(tt.pattern))
			match, ok := m.First(tt.text)
			if ok != tt.want {
				t.Fatalf("%q in %q: %v, want %v", tt.pattern, tt.text, ok, tt.want)
			}
			if ok && !strings.EqualFold(tt.text[match.Start:match.End], tt.pattern) {
				t.Fatalf("matched %q", tt.text[match.Start:match.End])
			}
			if n := len(all(m, tt.text)); (n > 0) != tt.want {
				t.Fatalf("Each finds %d", n)
			}
		})
	}
}

func TestWithoutBoundaryInsideWords(t *testing.T) {
	m := mustNew(t, []Pattern{{Text: "bot"}, {Text: "bot", Boundary: true}})
	if got, want := all(m, "CUBOT bot"), []string{"0:BOT", "0:bot", "1:bot"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestEachReportsOverlapsLongestFirst(t *testing.T) {
	m := mustNew(t, []Pattern{{Text: "he"}, {Text: "she"}, {Text: "his"}, {Text: "hers"}, {Text: "e"}, {Text: "HE"}})
	got, want := all(m, "ushers"), []string{"1:she", "0:he", "5:he", "4:e", "3:hers"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	n := 0
	m.Each("ushers", func(int, int, int) bool { n++; return n < 2 })
	if n != 2 {
		t.Fatalf("went on after false: %d calls", n)
	}
}

func TestFirstIsLeftmostThenLongest(t *testing.T) {
	tests := []struct {
		patterns []Pattern
		text     string
		want     Match
	}{
		{words("Applebot", "Applebot-Extended"), "(Applebot-Extended/0.1)", Match{1, 1, 18}},
		{words("Applebot", "Applebot-Extended"), "(Applebot/0.1)", Match{0, 1, 9}},
		// The longer one fails its boundary and the shorter must not be lost.
		{words("a b", "a bc"), "a b a bcd", Match{0, 0, 3}},
		{[]Pattern{{Text: "bcd"}, {Text: "abcde"}, {Text: "c"}}, "abcdf", Match{0, 1, 4}},
		{[]Pattern{{Text: "bcd"}, {Text: "abcde"}, {Text: "c"}}, "abcde", Match{1, 0, 5}},
		{[]Pattern{{Text: "x"}, {Text: "X"}}, "axx", Match{0, 1, 2}},
		// One that starts left of what was found first, but ends later.
		{words("b", "a-b-c"), "a-b-c", Match{1, 0, 5}},
	}
	for _, tt := range tests {
		got, ok := mustNew(t, tt.patterns).First(tt.text)
		if !ok || got != tt.want {
			t.Errorf("%v in %q: %v %v, want %v", tt.patterns, tt.text, got, ok, tt.want)
		}
	}
}

func TestNoPatternsFindNothing(t *testing.T) {
	for _, m := range []*Matcher{new(Matcher), mustNew(t, nil)} {
		if _, ok := m.First("bot"); ok || len(all(m, "bot")) != 0 {
			t.Fatal("something was found")
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New([]Pattern{{Text: "a"}, {}}); err == nil || !strings.Contains(err.Error(), "pattern 1 is empty") {
		t.Errorf("empty pattern: %v", err)
	}
	if _, err := New([]Pattern{{Text: strings.Repeat("x", MaxPattern+1)}}); err == nil {
		t.Error("a too long pattern was accepted")
	}
	// Patterns of all bytes that share no prefix, as somebody might import them.
	var many []Pattern
	for i := range 1000 {
		b := make([]byte, MaxPattern)
		for j := range b {
			b[j] = byte(i*7 + j*(i%255+1))
		}
		copy(b, fmt.Sprintf("%08d", i))
		many = append(many, Pattern{Text: string(b)})
	}
	if _, err := New(many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large a table: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := mustNew(t, words("GPTBot", "CCBot", "openai.com/gptbot"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := len(all(m, "GPTBot/1.0 (+https://openai.com/gptbot) CCBot")); got != 4 {
					t.Errorf("found %d", got)
					return
				}
			}
		})
	}
	wg.Wait()
}

// naive is the definition: every pattern at every place.
func naive(patterns []Pattern, text string) []Match {
	var out []Match
	for end := 1; end <= len(text); end++ {
		for start := range end {
			for i, p := range patterns {
				if len(p.Text) != end-start || !equalFoldASCII(p.Text, text[start:end]) {
					continue
				}
				if p.Boundary && (start > 0 && isWord(text[start-1]) && isWord(text[start]) ||
					end < len(text) && isWord(text[end-1]) && isWord(text[end])) {
					continue
				}
				out = append(out, Match{i, start, end})
			}
		}
	}
	return out
}

func equalFoldASCII(a, b string) bool {
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func leftmostLongest(found []Match) (best Match, ok bool) {
	for _, m := range found {
		if !ok || m.Start < best.Start || m.Start == best.Start && (m.End > best.End || m.End == best.End && m.Index < best.Index) {
			best, ok = m, true
		}
	}
	return best, ok
}

// FuzzMatcher compares the automaton with the definition. The patterns are the
// lines of the first argument; those that begin with "^" need boundaries.
func FuzzMatcher(f *testing.F) {
	f.Add("he\nshe\nhis\nhers", "ushers")
	f.Add("^LCC\n^bot\nspider", oldIE)
	f.Add("^a\na\nA\naa\n^aa\naaa", "aa aaa AAAA a")
	f.Add("^é\n\xff\n^-x-", "é-x-\xff\x00é")
	f.Add("^GPTBot\n^openai.com/gptbot\n^CCBot", "Mozilla/5.0 (compatible; GPTBot/1.0; +https://openai.com/gptbot)")
	f.Fuzz(func(t *testing.T, list, text string) {
		if len(list) > 200 || len(text) > 200 {
			t.Skip()
		}
		var patterns []Pattern
		for line := range strings.SplitSeq(list, "\n") {
			p := Pattern{Text: line}
			p.Text, p.Boundary = strings.CutPrefix(line, "^")
			if p.Text != "" {
				patterns = append(patterns, p)
			}
		}
		m := mustNew(t, patterns)
		want := naive(patterns, text)
		if got := matches(m, text); !slices.Equal(got, want) {
			t.Fatalf("%+v in %q: got %v, want %v", patterns, text, got, want)
		}
		got, ok := m.First(text)
		if first, found := leftmostLongest(want); ok != found || got != first {
			t.Fatalf("%+v in %q: first is %v %v, want %v %v", patterns, text, got, ok, first, found)
		}
	})
}

// manyWords makes n distinct names of the length and look of crawlers' names.
func manyWords(n int) []Pattern {
	var out []Pattern
	for i := range n {
		out = append(out, Pattern{Text: fmt.Sprintf("%c%cname%dBot", 'a'+i%26, 'a'+i/26%26, i), Boundary: true})
	}
	return out
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	m := mustNew(t, manyWords(1000))
	if n := testing.AllocsPerRun(100, func() {
		sum := 0
		m.Each(chrome, func(i, _, _ int) bool { sum += i; return true })
		_, _ = m.First(chrome)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkEach(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := mustNew(b, manyWords(n))
			b.ReportAllocs()
			b.SetBytes(int64(len(chrome)))
			for b.Loop() {
				m.Each(chrome, func(int, int, int) bool { return true })
			}
			b.ReportMetric(float64(4*len(m.table))/(1<<20), "MiB-table")
		})
	}
}

func BenchmarkNew(b *testing.B) {
	patterns := manyWords(1000)
	b.ReportAllocs()
	for b.Loop() {
		mustNew(b, patterns)
	}
}
