package prose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/race"
)

var builtin = Builtin()

func shipped(t testing.TB) *Model {
	t.Helper()
	m, err := builtin()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func train(t testing.TB, text string, o Options) *Model {
	t.Helper()
	b, err := Train(t.Context(), []Text{{Name: "text", Reader: strings.NewReader(text)}}, o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var show = flag.Bool("show", false, "write what the built-in model says")

func TestTheBuiltInModelSpeaks(t *testing.T) {
	m := shipped(t)
	r := rand.NewPCG(1, 2)
	words, sentences := 0, 2000
	for i := range sentences {
		s := string(m.AppendSentence(nil, r, 6+i%20))
		words += len(strings.Fields(s))
		if end := s[len(s)-1]; !strings.ContainsRune(".!?", rune(end)) || strings.ContainsAny(s, "\"()[]_*") || strings.Contains(s, "  ") ||
			strings.Contains(s, " ,") || strings.Contains(s, " .") || !utf8.ValidString(s) {
			t.Errorf("no sentence: %q", s)
		}
		title := string(m.AppendTitle(nil, r, 1+i%5))
		if title == "" || strings.ContainsAny(title[len(title)-1:], ".!?,;:") || strings.Contains(title, ". ") {
			t.Errorf("no title: %q", title)
		}
		if *show && i < 20 {
			fmt.Printf("%-40s %s\n", title, s)
		}
	}
	if mean := float64(words) / float64(sentences); mean < 10 || mean > 24 {
		t.Errorf("%.1f words a sentence where 15.5 are wanted", mean)
	}
	if len(m.Texts()) != 2 || m.Texts()[0].Licence != "public domain" || m.Language() != "en" || m.Tokens() < 200_000 {
		t.Errorf("%+v, %d tokens", m.Texts(), m.Tokens())
	}
}

func TestTheSameTextsAndNumbersGiveTheSameText(t *testing.T) {
	one, err := trainBuiltin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two, err := trainBuiltin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Fatal("two trainings give two models")
	}
	path := filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(path, one, 0o600); err != nil {
		t.Fatal(err)
	}
	mapped, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	a, b := rand.NewPCG(7, 7), rand.NewPCG(7, 7)
	for range 100 {
		if s, again := mapped.AppendSentence(nil, a, 12), shipped(t).AppendSentence(nil, b, 12); !bytes.Equal(s, again) {
			t.Fatalf("%q and %q", s, again)
		}
	}
}

// samples are texts in many scripts, of sentences made of a few words.
var samples = map[string]struct{ text, join string }{
	"Cyrillic":   {"Старая изгородь растёт у дороги. Птица поёт в старой изгороди. Дорога ведёт к реке.", " "},
	"Greek":      {"Ο παλιός φράχτης είναι κοντά στο δρόμο. Το πουλί τραγουδά στο φράχτη; Ο δρόμος πάει στο ποτάμι.", " "},
	"Arabic":     {"السياج القديم قرب الطريق. الطائر يغني في السياج؟ الطريق يصل إلى النهر.", " "},
	"Hebrew":     {"הגדר הישנה ליד הדרך. הציפור שרה בגדר. הדרך מובילה אל הנהר.", " "},
	"Devanagari": {"पुरानी बाड़ सड़क के पास है। पक्षी बाड़ में गाता है। सड़क नदी तक जाती है।", " "},
	"Chinese":    {"老篱笆在路边。鸟在篱笆里唱歌。路通向河边。", ""},
	"Japanese":   {"古い生け垣は道の近くにある。鳥が生け垣で歌う。道は川へ続く。", ""},
	"Thai":       {"รั้วเก่าอยู่ใกล้ถนน. นกร้องเพลงในรั้ว. ถนนไปถึงแม่น้ำ.", ""},
}

func TestTextsInEveryScript(t *testing.T) {
	for name, s := range samples {
		m := train(t, strings.Repeat(s.text+"\n\n", 5), Options{})
		r := rand.NewPCG(3, 4)
		for range 50 {
			got := string(m.AppendSentence(nil, r, 5))
			if !utf8.ValidString(got) || got == "" {
				t.Errorf("%s: %q", name, got)
			}
			for _, c := range got {
				if c != ' ' && !strings.ContainsRune(s.text+".", c) {
					t.Errorf("%s: %q holds %q, which the text does not", name, got, c)
				}
			}
			inner := strings.TrimRight(got, terminators)
			if s.join == "" && name != "Thai" && strings.Contains(inner, " ") {
				t.Errorf("%s: spaces in %q", name, got)
			}
			if s.join == " " && len(inner) > 40 && !strings.Contains(inner, " ") {
				t.Errorf("%s: no spaces in %q", name, got)
			}
			if last, _ := utf8.DecodeLastRuneInString(got); !strings.ContainsRune(terminators+";", last) {
				t.Errorf("%s: no end in %q", name, got)
			}
		}
	}
}

func TestSentencesAreFound(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"two":             {"One two three. Four five six!", "One two three.|Four five six!"},
		"an abbreviation": {"Then Mr. Hedge came home. He slept.", "Then Mr. Hedge came home.|He slept."},
		"an initial":      {"It was J. Hedge who came. He slept.", "It was J. Hedge who came.|He slept."},
		"a number":        {"It weighs 3.14 grams a piece. So it was.", "It weighs 3.14 grams a piece.|So it was."},
		"quotes":          {"\"Come here,\" she said. 'No (never)!' said he.", "Come here, she said.|No never! said he."},
		"a line's end":    {"One two\nthree four.", "One two three four."},
		"a heading":       {"CHAPTER THE FIRST\n\nOne two three.", "One two three."},
		"no end":          {"One two three\n\nFour five six.", "Four five six."},
		"several marks":   {"What is this?!. One more thing...", "What is this?|One more thing."},
		"a lower case":    {"He asked why? so did she.", "He asked why? so did she."},
		"Chinese lines":   {"老篱笆在\n路边。", "老篱笆在路边。"},
		"a hyphen":        {"A well--known hedge is here.", "A well—known hedge is here."},
		"long words":      {"One " + strings.Repeat("x", 100) + " two three.", "One two three."},
	} {
		var got []string
		sentences(c.text, func(s []piece) {
			var b strings.Builder
			for _, p := range s {
				if p.space {
					b.WriteByte(' ')
				}
				b.WriteString(p.text)
			}
			got = append(got, b.String())
		})
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, want %q", name, strings.Join(got, "|"), c.want)
		}
	}
}

func TestTextsThatMakeNoModelAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":     {"", "0 sentences"},
		"short":     {"One two three. Four five six.", "2 sentences"},
		"not UTF-8": {strings.Repeat("One two three. ", 20) + "\xff", "notes.txt is not UTF-8 at byte 300"},
	} {
		_, err := Train(t.Context(), []Text{{Name: "notes.txt", Reader: strings.NewReader(c.text)}}, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Train(t.Context(), []Text{{Name: "x", Reader: strings.NewReader(strings.Repeat("One two three. ", 20))}}, Options{Order: 4}); err == nil {
		t.Error("order 4 is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trainBuiltin(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a training that was ended: %v", err)
	}
}

// TestLongVerbatimRunsAreRare: what the model says must not be the book.
func TestLongVerbatimRunsAreRare(t *testing.T) {
	m := shipped(t)
	book, err := texts.ReadFile("texts/pride-and-prejudice.txt")
	if err != nil {
		t.Fatal(err)
	}
	other, err := texts.ReadFile("texts/opticks.txt")
	if err != nil {
		t.Fatal(err)
	}
	const run = 8
	fields := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \n\"'()[].,;:!?-—", r) })
	}
	all := map[string]bool{}
	for _, b := range [][]byte{book, other} {
		for w := fields(string(b)); len(w) >= run; w = w[1:] {
			all[strings.Join(w[:run], " ")] = true
		}
	}
	r := rand.NewPCG(5, 6)
	windows, quoted := 0, 0
	for range 1000 {
		for w := fields(string(m.AppendSentence(nil, r, 20))); len(w) >= run; w = w[1:] {
			windows++
			if all[strings.Join(w[:run], " ")] {
				quoted++
			}
		}
	}
	t.Logf("%d of %d runs of %d words are the books' own; weights %d %d", quoted, windows, run, m.w2, m.w3)
	if quoted*10 > windows {
		t.Errorf("%d of %d runs of %d words are the books' own", quoted, windows, run)
	}
}

// TestWeightsComeFromTheTexts: a text that three words foretell better than two has more weight on three.
func TestWeightsComeFromTheTexts(t *testing.T) {
	m := shipped(t)
	if m.w2 == 0 || m.w3 == 0 || m.w2+m.w3 >= weightUnit {
		t.Errorf("weights %d %d of %d", m.w2, m.w3, weightUnit)
	}
	// A text that says the same again and again is foretold by three words.
	fixed := train(t, strings.Repeat("Red old hedge grows by one. Blue old hedge falls by two. Green old hedge lives by ten. ", 30), Options{})
	if fixed.w3 <= m.w3 {
		t.Errorf("a text that repeats itself has weights %d %d, the books %d %d", fixed.w2, fixed.w3, m.w2, m.w3)
	}
}

func TestAMillionWordsFitInto64MiB(t *testing.T) {
	if testing.Short() || race.Enabled {
		t.Skip("takes some seconds")
	}
	var b strings.Builder
	m := shipped(t)
	r := rand.NewPCG(8, 9)
	var buf []byte
	for i := 0; b.Len() < 6<<20; i++ {
		buf = m.AppendSentence(buf[:0], r, 20)
		b.Write(buf[:len(buf)-1])
		fmt.Fprintf(&b, " %x%x.\n", i*7919%50000, i%97) // new words as well
	}
	model, err := Train(t.Context(), []Text{{Name: "long", Reader: strings.NewReader(b.String())}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(model)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tokens, %d words, %d bytes", p.Tokens(), p.Words(), len(model))
	if p.Tokens() < 1_000_000 || float64(len(model))/float64(p.Tokens()) > 64 {
		t.Errorf("%d bytes for %d tokens", len(model), p.Tokens())
	}
}

func TestMakingTextAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	m, r, buf := shipped(t), rand.NewPCG(1, 1), make([]byte, 0, 4096)
	lic, err := NewLicence("All of it is CC BY-SA 4.0.", "Ask us")
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(){
		"sentence": func() { buf = m.AppendSentence(buf[:0], r, 15) },
		"title":    func() { buf = m.AppendTitle(buf[:0], r, 4) },
		"facts":    func() { buf = Facts{}.AppendSentence(buf[:0], r, 15) },
		"licence":  func() { buf = lic.AppendSentence(buf[:0], r, 15) },
	} {
		if n := testing.AllocsPerRun(200, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestDamagedModelsAreRefused(t *testing.T) {
	good, err := Train(t.Context(), []Text{{Name: "x", Reader: strings.NewReader(strings.Repeat("One two three. Four five one. ", 10))}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x41
		m, err := Parse(bad)
		if err == nil && (i < 24 || i >= 64) {
			t.Errorf("a change of byte %d is not seen", i)
		}
		if err == nil {
			m.AppendSentence(nil, rand.NewPCG(1, 1), 10)
		}
	}
	for n := range len(good) {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("a model cut at %d is taken", n)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there is opened")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"One two three. Four five one. ", "老篱笆在路边。鸟在篱笆里唱歌。"} {
		b, err := Train(f.Context(), []Text{{Name: "x", Reader: strings.NewReader(strings.Repeat(text, 10))}}, Options{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[headerLen:], uint32(len(b)), uint32(4), uint32(10), uint32(20))
		le := binary.LittleEndian
		f.Add(b[headerLen:], le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:]))
	}
	f.Fuzz(func(t *testing.T, body []byte, n, words, texts, info uint32) {
		m, err := Parse(sealed(body, n, words, texts, info))
		if err != nil {
			return
		}
		r := rand.NewPCG(1, 2)
		for i := range 50 {
			if s := m.AppendSentence(nil, r, i); len(s) > maxSentence*8*len(body)+10 {
				t.Errorf("a sentence of %d bytes", len(s))
			}
			m.AppendTitle(nil, r, i)
		}
	})
}

// sealed is a model with a body that may be wrong and a sum that is right.
func sealed(body []byte, n, words, texts, info uint32) []byte {
	le := binary.LittleEndian
	head := []byte(magic)
	for _, v := range [...]uint32{n, words, texts, info, 20000, 20000} {
		head = le.AppendUint32(head, v)
	}
	head = append(head, make([]byte, 64-len(head))...)
	digest := sha256.Sum256(body)
	sum := digest[:]
	return append(append(head, sum...), body...)
}

func TestFactsAndLicenceSpeak(t *testing.T) {
	r := rand.NewPCG(1, 2)
	for i := range 500 {
		if s := string(Facts{}.AppendSentence(nil, r, i%30)); !strings.HasSuffix(s, ".") || strings.Contains(s, "%") || s[0] < 'A' || s[0] > 'Z' {
			t.Errorf("%q", s)
		}
		if s := string(Facts{}.AppendTitle(nil, r, i%6)); s == "" || strings.ContainsAny(s, "%.") {
			t.Errorf("%q", s)
		}
	}
	l, err := NewLicence(" All texts are  under CC BY-SA 4.0 ", "")
	if err != nil {
		t.Fatal(err)
	}
	if s := string(l.AppendSentence(nil, r, 3)); s != "All texts are under CC BY-SA 4.0." {
		t.Errorf("%q", s)
	}
	for _, bad := range [][2]string{{"", "ask"}, {strings.Repeat("x", MaxLicence+1), ""}, {"\xff", ""}} {
		if _, err := NewLicence(bad[0], bad[1]); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func BenchmarkSentences(b *testing.B) {
	m, r := shipped(b), rand.NewPCG(1, 1)
	var buf []byte
	words := 0
	for b.Loop() {
		buf = m.AppendSentence(buf[:0], r, 15)
		words += 15
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(words), "ns/word")
}
