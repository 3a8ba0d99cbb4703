package language

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"unicode"
)

func catalogues(t testing.TB) *Catalogues {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestThereAreManyLanguages(t *testing.T) {
	c := catalogues(t)
	if n := len(c.All()); n < 24 {
		t.Errorf("%d languages", n)
	}
	rtl := map[string]bool{}
	for _, l := range c.All() {
		switch l.Direction() {
		case "rtl":
			rtl[l.Tag()] = true
		case "ltr":
		default:
			t.Errorf("%s runs %q", l.Tag(), l.Direction())
		}
	}
	for _, tag := range []string{"ar", "he", "fa"} {
		if !rtl[tag] {
			t.Errorf("%s runs from left to right", tag)
		}
		delete(rtl, tag)
	}
	delete(rtl, "ur")
	if len(rtl) > 0 {
		t.Errorf("%v run from right to left", slices.Collect(maps.Keys(rtl)))
	}
}

func TestEveryTextIsWrittenInItsLanguage(t *testing.T) {
	c := catalogues(t)
	english := c.languages[0]
	for _, l := range c.All() {
		same := 0
		for _, k := range Keys() {
			for form, parts := range l.messages[k].forms {
				if parts == nil {
					continue
				}
				var s string
				for _, p := range parts {
					s += p.value(nil)
				}
				if strings.Contains(s, "  ") || strings.Contains(s, "...") || strings.ContainsAny(s, "\"") || strings.Contains(s, "\u00ad") {
					t.Errorf("%s: %s: %q is typed carelessly", l.Tag(), k, s)
				}
				if l != english && s == english.Text(k) {
					same++
				}
				title := strings.HasSuffix(k.String(), "Title")
				last, _ := lastRune(s)
				if (strings.HasSuffix(k.String(), "Text") || k == ChallengeWhy) && !strings.ContainsRune(".。।۔", last) || title && strings.ContainsRune(".。।۔", last) {
					t.Errorf("%s: %s (%s) ends in %q: a text is a sentence, a title is not", l.Tag(), k, categories[form], last)
				}
			}
		}
		if same > 3 { // "Send" is Danish too
			t.Errorf("%s: %d texts are English", l.Tag(), same)
		}
	}
}

func lastRune(s string) (last rune, ok bool) {
	for _, r := range s {
		last, ok = r, true
	}
	return last, ok
}

func TestWordsAreEasilyToldApart(t *testing.T) {
	for _, l := range catalogues(t).All() {
		words := l.Words()
		for i, w := range words {
			for _, r := range w {
				if !unicode.IsLetter(r) && !unicode.IsMark(r) && r != ' ' && r != '\u200c' {
					t.Errorf("%s: %q has a %q", l.Tag(), w, r)
				}
			}
			for _, o := range words[:i] {
				if strings.Contains(w, o) || strings.Contains(o, w) {
					t.Errorf("%s: one of %q and %q is part of the other", l.Tag(), w, o)
				}
			}
		}
	}
}

func TestCountsTakeThePluralOfTheLanguage(t *testing.T) {
	c := catalogues(t)
	tests := []struct {
		tag   string
		count int
		want  string // within the text
	}{
		{"en", 1, "one second;"}, {"en", 2, "2 seconds;"}, {"en", 0, "0 seconds;"}, {"en", -4, "0 seconds;"},
		{"fr", 1, "une seconde"}, {"fr", 2, "2 secondes"},
		{"pl", 1, "około sekundę"}, {"pl", 3, "3 sekundy"}, {"pl", 5, "5 sekund"}, {"pl", 12, "12 sekund"}, {"pl", 22, "22 sekundy"},
		{"ru", 1, "1 секунду"}, {"ru", 3, "3 секунды"}, {"ru", 11, "11 секунд"}, {"ru", 21, "21 секунду"},
		{"cs", 1, "za sekundu"}, {"cs", 4, "4 sekundy"}, {"cs", 5, "5 sekund"},
		{"ro", 2, "2 secunde"}, {"ro", 20, "20 de secunde"},
		{"ar", 1, "ثانية واحدة"}, {"ar", 2, "ثانيتين"}, {"ar", 5, "5 ثوان"}, {"ar", 15, "15 ثانية"}, {"ar", 100, "100 ثانية"},
		{"he", 2, "שתי שניות"}, {"he", 20, "20 שניות"},
		{"ja", 1, "1秒"}, {"ja", 7, "7秒"},
	}
	for _, tt := range tests {
		if got := c.Match(tt.tag).Text(ChallengeWait, Count("seconds", tt.count)); !strings.Contains(got, tt.want) {
			t.Errorf("%s, %d: %q lacks %q", tt.tag, tt.count, got, tt.want)
		}
	}
	// No number may leave a placeholder or a hole.
	for _, l := range c.All() {
		for _, k := range []Key{ChallengeWait, ChallengeWork, AttemptsText, SpentText, HoldText} {
			for n := range 130 {
				s := l.Text(k, Count("seconds", n), Count("minutes", n))
				if s == "" || strings.ContainsAny(s, "{}") || n > 2 && !strings.Contains(s, fmt.Sprint(n)) {
					t.Errorf("%s: %s with %d: %q", l.Tag(), k, n, s)
				}
			}
		}
	}
}

func TestPlaceholdersAreFilledOrSplit(t *testing.T) {
	l := catalogues(t).Match("en")
	if got := l.Text(QuestionChoose, Text("word", "a {word}")); got != "Choose the word “a {word}”, then go on." {
		t.Errorf("%q", got)
	}
	if got := l.Text(QuestionChoose, Text("other", "x")); got != "Choose the word “{word}”, then go on." {
		t.Errorf("%q", got)
	}
	if before, after := l.Split(Reason, "reason"); before != "The reason: " || after != "." {
		t.Errorf("%q %q", before, after)
	}
	for _, none := range []Key{None, keyCount, 255} {
		before, after := l.Split(none, "x")
		if l.Text(none) != "" || none.String() != "" || before+after != "" {
			t.Errorf("key %d has a text", none)
		}
	}
}

func TestEveryKeyHasAName(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		name := k.String()
		if got, ok := KeyOf(name); name == "" || seen[name] || !ok || got != k {
			t.Errorf("key %d is called %q", k, name)
		}
		seen[name] = true
	}
	if _, ok := KeyOf(""); ok {
		t.Error(`"" is a key`)
	}
}

func TestTheReaderGetsTheLanguageThatSuitsBest(t *testing.T) {
	c := catalogues(t)
	tests := []struct{ header, want string }{
		{"", "en"},
		{"de-AT,de;q=0.9,en;q=0.5", "de"},
		{"en-US,en;q=0.5", "en"},
		{"fr;q=0.5, it;q=0.8", "it"},
		{"de;q=0, fr", "fr"},
		{"xx-junk, fr;q=0.3", "fr"},
		{"tlh", "en"},
		{"pt", "pt-BR"},
		{"zh-TW", "zh-Hant"}, {"zh-HK", "zh-Hant"}, {"zh-CN", "zh-Hans"}, {"zh", "zh-Hans"},
		{"no", "nb"}, {"nn-NO", "nb"}, {"iw", "he"}, {"in", "id"},
		{"*", "en"}, {"und", "en"}, {"und-JP", "ja"}, {"*;q=0.1, sv", "sv"},
		{"q=1,,;;;===", "en"}, {"\x00\xff", "en"}, {"de;q=1.5", "de"}, {"de;q=x, nl", "nl"},
		{strings.Repeat("x-a,", 20) + "de", "de"},
		{strings.Repeat("-", 5000), "en"},
		{strings.Repeat("ar,", 1000), "ar"},
		{strings.Repeat("a-", 511) + "de", "en"},
		{"da," + strings.Repeat("x", 2000), "da"},
	}
	for _, tt := range tests {
		for range 2 { // the second time it is remembered
			if got := c.Match(tt.header).Tag(); got != tt.want {
				t.Errorf("%.60q: %s, want %s", tt.header, got, tt.want)
			}
		}
	}
}

func TestInventedHeadersDoNotFillTheMemory(t *testing.T) {
	c := catalogues(t)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 2 * maxCached {
				if got := c.Match(fmt.Sprintf("x-%d-%d, da", worker, i)).Tag(); got != "da" {
					t.Errorf("%s", got)
				}
			}
		})
	}
	wg.Wait()
	c.Match("nl," + strings.Repeat("x", maxCachedHeader))
	if n := len(c.known); n == 0 || n > maxCached {
		t.Errorf("%d headers are remembered", n)
	}
	for h := range c.known {
		if len(h) > maxCachedHeader {
			t.Errorf("a header of %d bytes is remembered", len(h))
		}
	}
}

// small is a catalogue with every key, made of English.
func small(t *testing.T, change func(line string) string) string {
	t.Helper()
	source, err := messages.ReadFile("messages/en.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(source)), "\n")
	for i, l := range lines {
		lines[i] = change(l)
	}
	return strings.Join(lines, "\n")
}

func TestErrorsNameFileAndLine(t *testing.T) {
	replace := func(old, new string) func(string) string {
		return func(l string) string { return strings.Replace(l, old, new, 1) }
	}
	tests := map[string]struct {
		change func(string) string
		want   string
	}{
		"unknown key":          {replace("tryAgain:", "tryAgian:"), `unknown key "tryAgian"`},
		"key twice":            {replace("tryAgain:", "startAgain:"), "already defined"},
		"missing key":          {replace("tryAgain: Try again", ""), "messages/de.yaml: tryAgain is missing"},
		"lost placeholder":     {replace("{id}", "id"), "requestNumber lacks the placeholder {id}"},
		"misspelt placeholder": {replace("{id}", "{idd}"), "placeholder {id"},
		"placeholder twice":    {replace("{id}", "{id} {id}"), "{id} twice"},
		"new placeholder":      {replace("Go on", "Go {on}"), "buttonGoOn has the placeholder {on}"},
		"plural lacks a form":  {replace("  one: It goes", "  # one: It goes"), `messages/de.yaml:3: challengeWait lacks the plural form "one"`},
		"form without number":  {replace("  one: It goes", "  few: It goes"), `challengeWait: no number takes the plural form "few"`},
		"form unknown":         {replace("  one: It goes", "  single: It goes"), `unknown plural form "single"`},
		"count lost":           {replace("about {seconds} seconds; there", "some seconds; there"), "challengeWait lacks the placeholder {seconds}"},
		"plural not wanted":    {replace("progress: Progress", "progress: {one: a, other: b}"), "progress has plural forms where English has none"},
		"not a text":           {replace("progress: Progress", "progress: true"), "not a text"},
		"markup":               {replace("progress: Progress", "progress: <b>x</b>"), "without markup"},
		"too few words":        {replace("words: [river, lamp, bread", "words: [river"), "12 words"},
		"word twice":           {replace("words: [river, lamp", "words: [river, River"), `word "River" a second time`},
		"word too long":        {replace("words: [river", "words: [riverriverriverriver"), "longer than 16"},
		"no words":             {replace("words:", "# words:"), "words is missing"},
		"not YAML":             {replace("progress: Progress", "progress: [a"), "messages/de.yaml: "},
		"not UTF-8":            {replace("Progress", "Progr\xe9s"), "not UTF-8"},
	}
	english := small(t, func(l string) string { return l })
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			changed := small(t, tt.change)
			if name == "too few words" {
				changed = strings.Replace(changed, ", mountain]", "]", 1)
				tt.want = "11 words; at least 12 are needed"
			}
			_, err := load(fstest.MapFS{"messages/en.yaml": {Data: []byte(english)}, "messages/de.yaml": {Data: []byte(changed)}})
			if err == nil {
				t.Fatal("was taken")
			}
			if !strings.Contains(err.Error(), "messages/de.yaml:") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %s", err, tt.want)
			}
		})
	}
	t.Run("no English", func(t *testing.T) {
		if _, err := load(fstest.MapFS{"messages/de.yaml": {Data: []byte(english)}}); err == nil {
			t.Error("was taken")
		}
	})
	t.Run("no language", func(t *testing.T) {
		if _, err := load(fstest.MapFS{"messages/en.yaml": {Data: []byte(english)}, "messages/not a tag.yaml": {Data: []byte(english)}}); err == nil || !strings.Contains(err.Error(), "not a tag.yaml") {
			t.Errorf("%v", err)
		}
	})
	t.Run("one that is also twenty-one needs its number", func(t *testing.T) {
		source, err := messages.ReadFile("messages/ru.yaml")
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(source), "{seconds} секунду", "секунду", 1)
		if _, err := load(fstest.MapFS{"messages/en.yaml": {Data: []byte(english)}, "messages/ru.yaml": {Data: []byte(changed)}}); err == nil || !strings.Contains(err.Error(), "challengeWait lacks the placeholder {seconds}") {
			t.Errorf("%v", err)
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, h := range []string{"de-DE,de;q=0.9", "*", "und-Latn-x-y;q=0", "zh-Hant-HK-u-co-stroke,;q=", strings.Repeat("a-b,", 400)} {
		f.Add(h)
	}
	c := catalogues(f)
	f.Fuzz(func(t *testing.T, header string) {
		if a, b := c.Match(header), c.Match(header); a == nil || a != b {
			t.Errorf("%q: %v, then %v", header, a, b)
		}
	})
}

func FuzzCut(f *testing.F) {
	f.Add("a {b} c {} {d} {e{f}}")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		for _, p := range cut(s) {
			back += p.value(nil)
		}
		if back != s {
			t.Errorf("%q became %q", s, back)
		}
	})
}

func BenchmarkMatchKnownHeader(b *testing.B) {
	c := catalogues(b)
	b.ReportAllocs()
	for b.Loop() {
		c.Match("de-DE,de;q=0.9,en;q=0.5")
	}
}

func BenchmarkMatchLongJunk(b *testing.B) {
	c := catalogues(b)
	h := strings.Repeat("zz-Latn-ZZ-variant;q=0.5,", 60)
	b.ReportAllocs()
	for b.Loop() {
		c.Match(h)
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(); err != nil {
			b.Fatal(err)
		}
	}
}
