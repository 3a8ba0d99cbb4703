package maze

import (
	"bytes"
	"compress/gzip"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/quickthorn/quickthorn/internal/prose"
)

// The bound of TestPagesAreNotToldFromRealOnes: a classifier of half a dozen simple features may be right about at most so many pages of
// a hundred. 50 would be chance. The model is trained on the very text that the real pages have. The figures are in the test's log.
const mostTold = 95

// TestPagesAreNotToldFromRealOnes puts a real text and a made-up one into pages of the same skin, and has logistic regression tell them apart.
func TestPagesAreNotToldFromRealOnes(t *testing.T) {
	sentences := novel(t)
	var text strings.Builder
	for i, words := range sentences {
		text.WriteString(strings.Join(words, " "))
		text.WriteString([]string{"\n\n", " ", " ", " "}[min(i%4, 3)])
	}
	trained, err := prose.Train(t.Context(), []prose.Text{{Name: "novel", Reader: strings.NewReader(text.String())}}, prose.Options{Language: "en"})
	if err != nil {
		t.Fatal(err)
	}
	model, err := prose.Parse(trained)
	if err != nil {
		t.Fatal(err)
	}
	const half = 120 // pages of a kind to learn from, and as many to be judged
	for _, s := range chosen {
		var learn, judge []sample
		for i := range 2 * half {
			for _, real := range []bool{true, false} {
				said := Text(model)
				if real {
					said = &reader{sentences: sentences, at: i * 37 % len(sentences)}
				}
				m := newMaze(t, Options{Skin: s, Text: said})
				_, body := fetch(m, prefix+"page-"+strconv.Itoa(2*i)+strconv.FormatBool(real))
				x := sample{features(t, body), real}
				if i < half {
					learn = append(learn, x)
				} else {
					judge = append(judge, x)
				}
			}
		}
		told := classify(learn, judge)
		t.Logf("%s: %d of 100 pages are told right", s, told)
		if told > mostTold {
			t.Errorf("%s: %d of 100 pages are told right; want at most %d", s, told, mostTold)
		}
	}
}

// novel returns the sentences of a real text.
func novel(t *testing.T) [][]string {
	f, err := os.Open("testdata/novel.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	var sentence []string
	for _, word := range strings.Fields(strings.NewReplacer("_", "", "“", "", "”", "").Replace(string(raw))) {
		sentence = append(sentence, word)
		if strings.ContainsAny(word[len(word)-1:], ".!?") && word != "Mr." && word != "Mrs." {
			all = append(all, sentence)
			sentence = nil
		}
	}
	return all
}

// reader reads a real text from beginning to end.
type reader struct {
	sentences [][]string
	at        int
}

// AppendSentence takes one of the next few sentences that is about as long as is asked for: paragraphs are as long on both kinds of pages.
func (r *reader) AppendSentence(dst []byte, _ Source, words int) []byte {
	best, off := r.at, 1000
	for i := r.at; i < r.at+6; i++ {
		if d := max(len(r.sentences[i%len(r.sentences)])-words, words-len(r.sentences[i%len(r.sentences)])); d < off {
			best, off = i, d
		}
	}
	r.at = best + 1
	return append(dst, strings.Join(r.sentences[best%len(r.sentences)], " ")...)
}

// AppendTitle takes words of the text that begin and end with one that tells something, as headings do.
func (r *reader) AppendTitle(dst []byte, src Source, words int) []byte {
	telling := func(word string) bool { return len(strings.Trim(word, ".,;:!?")) > 4 }
	for range 20 {
		s := r.sentences[below(src, len(r.sentences))]
		from := below(src, len(s))
		to := min(len(s), from+words)
		for ; to > from && !telling(s[to-1]); to-- {
		}
		if to > from && telling(s[from]) {
			title := strings.NewReplacer(".", "", ",", "", ";", "", "!", "", "?", "").Replace(strings.Join(s[from:to], " "))
			return append(append(dst, strings.ToUpper(title[:1])...), title[1:]...)
		}
	}
	return append(dst, "Contents"...)
}

type sample struct {
	x    []float64
	real bool
}

// features are what tells of a page whether it is made up: how well it compresses, how often its phrases repeat, how rich its words are, how
// many links and which elements it has.
func features(t *testing.T, body string) []float64 {
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]float64{}
	var text strings.Builder
	for n := range root.Descendants() {
		switch n.Type {
		case html.ElementNode:
			tags[n.Data]++
		case html.TextNode:
			text.WriteString(n.Data + " ")
		}
	}
	words := strings.Fields(text.String())
	triples, types := map[string]int{}, map[string]bool{}
	repeated := 0.0
	for i, w := range words {
		if i < 500 {
			types[w] = true
		}
		if i >= 2 {
			key := words[i-2] + " " + words[i-1] + " " + w
			if triples[key]++; triples[key] > 1 {
				repeated++
			}
		}
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(text.String())); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	x := []float64{
		math.Log(float64(len(body))), float64(packed.Len()) / float64(text.Len()), repeated / float64(len(words)),
		float64(len(types)) / float64(min(len(words), 500)), float64(text.Len()) / float64(len(body)), float64(text.Len()) / float64(len(words)),
	}
	for _, tag := range []string{"a", "p", "li", "h2", "td", "img", "blockquote", "code"} {
		x = append(x, math.Log1p(tags[tag]))
	}
	return x
}

// classify learns by logistic regression and returns how many of a hundred it judges right.
func classify(learn, judge []sample) int {
	n := len(learn[0].x)
	mean, spread := make([]float64, n), make([]float64, n)
	for _, s := range learn {
		for i, v := range s.x {
			mean[i] += v / float64(len(learn))
		}
	}
	for _, s := range learn {
		for i, v := range s.x {
			spread[i] += (v - mean[i]) * (v - mean[i]) / float64(len(learn))
		}
	}
	weights := make([]float64, n+1)
	score := func(s sample) float64 {
		sum := weights[n]
		for i, v := range s.x {
			sum += weights[i] * (v - mean[i]) / math.Sqrt(spread[i]+1e-9)
		}
		return 1 / (1 + math.Exp(-sum))
	}
	for range 300 {
		for _, s := range learn {
			d := -score(s)
			if s.real {
				d++
			}
			for i, v := range s.x {
				weights[i] += 0.01 * d * (v - mean[i]) / math.Sqrt(spread[i]+1e-9)
			}
			weights[n] += 0.01 * d
		}
	}
	right := 0
	for _, s := range judge {
		if score(s) > 0.5 == s.real {
			right++
		}
	}
	return right * 100 / len(judge)
}
