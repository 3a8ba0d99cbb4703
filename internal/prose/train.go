package prose

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Text is one that a model is trained on.
type Text struct {
	Name    string // of the file or the book
	Source  string // where it is from
	Licence string
	Reader  io.Reader
}

// Origin is what a model tells of a text that it was trained on.
type Origin struct {
	Name    string `json:"name"`
	Source  string `json:"source,omitempty"`
	Licence string `json:"licence,omitempty"`
	Tokens  int    `json:"tokens"`
}

// Options say how to train. The zero Options are good.
type Options struct {
	Language string // of the texts, such as "en" or "pt-BR"; told to who asks the model
	Order    int    // how many words the next one depends on at most, 2 or 3; default 3
}

const (
	maxText      = 256 << 20 // bytes of all texts
	maxTokens    = 16 << 20
	maxWords     = 1<<21 - 1 // three of them fit into 63 bits
	minSentences = 10
	barrier      = 0 // stands between sentences; nothing before it matters
)

// Train returns a model of the texts, as Parse reads it. The same texts give the same bytes.
//
// The error names the text that is not UTF-8, or says that they are too long (256 MiB, 16 million words) or too short (ten sentences).
func Train(ctx context.Context, texts []Text, o Options) ([]byte, error) {
	if o.Order == 0 {
		o.Order = 3
	}
	if o.Order < 2 || o.Order > 3 {
		return nil, fmt.Errorf("prose: order %d: want 2 or 3", o.Order)
	}
	t := &trainer{order: o.Order, ids: map[word]uint32{}, left: maxText}
	var origins []Origin
	for i := range texts {
		before := len(t.tokens)
		if err := t.read(ctx, &texts[i]); err != nil {
			return nil, err
		}
		origins = append(origins, Origin{texts[i].Name, texts[i].Source, texts[i].Licence, len(t.tokens) - before})
	}
	if t.sentences < minSentences {
		return nil, fmt.Errorf("prose: %d sentences in the texts: want at least %d", t.sentences, minSentences)
	}
	t.rank()
	records := t.records()
	info, err := json.Marshal(information{Language: o.Language, Texts: origins})
	if err != nil {
		return nil, fmt.Errorf("prose: %w", err)
	}
	return t.write(records, info), nil
}

// information is what a model tells of itself.
type information struct {
	Language string   `json:"language,omitempty"`
	Texts    []Origin `json:"texts"`
}

// word is an entry of the vocabulary: where there is space before it, it is another one.
type word struct {
	text  string
	space bool
	word  bool
}

type trainer struct {
	order     int
	ids       map[word]uint32
	words     []word // by id; that of the barrier is empty
	tokens    []uint32
	sentences int
	left      int64
	keys      []uint64 // of the records
}

// read adds a text.
func (t *trainer) read(ctx context.Context, x *Text) error {
	b, err := io.ReadAll(io.LimitReader(x.Reader, t.left+1))
	if err != nil {
		return fmt.Errorf("prose: read %s: %w", x.Name, err)
	}
	if t.left -= int64(len(b)); t.left < 0 {
		return fmt.Errorf("prose: the texts are longer than %d bytes", maxText)
	}
	if at := invalid(b); at >= 0 {
		return fmt.Errorf("prose: %s is not UTF-8 at byte %d: convert it first", x.Name, at)
	}
	b = bytes.ReplaceAll(bytes.TrimPrefix(b, []byte("\ufeff")), []byte("\r\n"), []byte("\n"))
	if len(t.words) == 0 {
		t.words, t.tokens = []word{{}}, []uint32{barrier}
	}
	sentences(string(b), func(s []piece) {
		if err != nil || ctx.Err() != nil {
			return
		}
		if len(t.tokens)+len(s)+1 > maxTokens || len(t.words)+len(s) > maxWords {
			err = fmt.Errorf("prose: the texts have more than %d words, or %d different ones", maxTokens, maxWords)
			return
		}
		for _, p := range s {
			w := word(p)
			id, ok := t.ids[w]
			if !ok {
				id = uint32(len(t.words))
				t.ids[w] = id
				t.words = append(t.words, w)
			}
			t.tokens = append(t.tokens, id)
		}
		t.tokens = append(t.tokens, barrier)
		t.sentences++
	})
	return cmp.Or(err, ctx.Err())
}

func invalid(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// rank gives the commonest words the smallest numbers.
func (t *trainer) rank() {
	counts := make([]int, len(t.words))
	for _, id := range t.tokens {
		counts[id]++
	}
	order := make([]uint32, len(t.words))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order[1:], func(a, b uint32) int { return cmp.Compare(counts[b], counts[a]) })
	to := make([]uint32, len(t.words))
	words := make([]word, len(t.words))
	for i, old := range order {
		to[old] = uint32(i)
		words[i] = t.words[old]
	}
	t.words = words
	for i, id := range t.tokens {
		t.tokens[i] = to[id]
	}
}

// record is a place in the texts. Places are sorted by the words before them, the last one first: those with the same last one, two or three words make
// a run. A record has the runs of the place behind the word that it stands before, so that one look leads on.
type record struct {
	next   uint32 // the word there
	start2 uint32 // behind it: the first record of those with the same last two words, and how many they are
	start3 uint32 // the same of three
	count2 uint16
	count3 uint16
}

func (t *trainer) records() []record {
	n := len(t.tokens) - 1 // a place is in front of each token but the first
	type place struct {
		key uint64
		at  uint32
	}
	places := make([]place, n)
	for i := range places {
		places[i] = place{t.key(i + 1), uint32(i + 1)}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.at, b.at)) })
	of := make([]uint32, n+2) // the record of a place
	for i, p := range places {
		of[p.at] = uint32(i)
	}
	of[n+1] = of[1] // behind the last sentence comes the first
	t.keys = make([]uint64, n)
	for i, p := range places {
		t.keys[i] = p.key
	}
	start3, count3 := t.runs(0)
	if t.order == 2 {
		start3, count3 = t.runs(21)
	}
	start2, count2 := t.runs(21)
	out := make([]record, n)
	for i, p := range places {
		then := of[p.at+1]
		out[i] = record{t.tokens[p.at], start2[then], start3[then], count2[then], count3[then]}
	}
	return out
}

// runs returns the run of each record, where the key without its lowest bits counts.
func (t *trainer) runs(bits int) (starts []uint32, counts []uint16) {
	n := len(t.keys)
	starts, counts = make([]uint32, n), make([]uint16, n)
	for start := 0; start < n; {
		end := start
		for end < n && t.keys[end]>>bits == t.keys[start]>>bits {
			end++
		}
		for i := start; i < end; i++ {
			starts[i], counts[i] = uint32(start), short(end-start)
		}
		start = end
	}
	return starts, counts
}

// short is a count as records have it: of larger runs the rest is never drawn.
func short(n int) uint16 { return uint16(min(n, 1<<16-1)) }

// key is the three words before a place, the last one first; nothing counts that is before a barrier.
func (t *trainer) key(at int) uint64 {
	var k uint64
	past := false
	for i := 1; i <= 3; i++ {
		k <<= 21
		if past || at-i < 0 {
			continue
		}
		id := t.tokens[at-i]
		past = id == barrier
		k |= uint64(id)
	}
	return k
}

// The form of a model: a header of 64 bytes (magic, the numbers of records and words, the lengths of the texts of words and of the information, the
// weights), the SHA-256 of what follows, and then, each in little-endian order: the first record of each word's run, with one more at the end; where each
// word's text begins, likewise; the flags of words; their texts; the information in JSON; zeros up to a multiple of 16; the records.
const (
	magic      = "qtprose1"
	headerLen  = 64 + sha256.Size
	recordLen  = 16
	flagSpace  = 1
	flagWord   = 2
	maxModel   = 512 << 20
	weightUnit = 1 << 16
)

func (t *trainer) write(records []record, info []byte) []byte {
	le := binary.LittleEndian
	var body []byte
	starts := make([]uint32, len(t.words)+1)
	for i := range records {
		starts[t.keys[i]>>42+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	for _, s := range starts {
		body = le.AppendUint32(body, s)
	}
	texts := 0
	for _, w := range t.words {
		body = le.AppendUint32(body, uint32(texts))
		texts += len(w.text)
	}
	body = le.AppendUint32(body, uint32(texts))
	for _, w := range t.words {
		var f byte
		if w.space {
			f |= flagSpace
		}
		if w.word {
			f |= flagWord
		}
		body = append(body, f)
	}
	for _, w := range t.words {
		body = append(body, w.text...)
	}
	body = append(body, info...)
	body = append(body, make([]byte, padding(headerLen+len(body)))...)
	for i := range records {
		r := &records[i]
		body = le.AppendUint32(body, r.next)
		body = le.AppendUint32(body, r.start2)
		body = le.AppendUint32(body, r.start3)
		body = le.AppendUint16(body, r.count2)
		body = le.AppendUint16(body, r.count3)
	}
	w2, w3 := t.weights(records)
	head := []byte(magic)
	for _, n := range [...]int{len(records), len(t.words), texts, len(info), w2, w3} {
		head = le.AppendUint32(head, uint32(n))
	}
	head = append(head, make([]byte, 64-len(head))...)
	sum := sha256.Sum256(body)
	return slices.Concat(head, sum[:], body)
}

// weights returns how often of 65,536 the next word is drawn by the last two words, and how often by three, by deleted interpolation (Brants,
// "TnT: a statistical part-of-speech tagger", 2000, figure 1): each word of the texts speaks for the order that foretells it best when the place itself
// is left out. That divides what two and three words have; one word alone has a twelfth, which keeps the text from following a source for long, and no
// more, since it makes no sense.
func (t *trainer) weights(records []record) (w2, w3 int) {
	n := len(records)
	one, two, three := t.foretold(records, 42), t.foretold(records, 21), t.foretold(records, 0)
	var votes [3]float64
	for i := range n {
		switch best := max(one[i], two[i], three[i]); {
		case best == 0 || best == one[i]:
			votes[0]++
		case best == two[i]:
			votes[1]++
		default:
			votes[2]++
		}
	}
	const alone = 0.08
	sum := max(votes[1]+votes[2], 1)
	share := min(max(votes[2]/sum, 0.2), 0.8)
	return int((1 - alone) * (1 - share) * weightUnit), int((1 - alone) * share * weightUnit)
}

// foretold returns for each record how likely its word is after the words before it, of which the key without its lowest bits counts, if the
// place itself is left out.
func (t *trainer) foretold(records []record, bits int) []float64 {
	out := make([]float64, len(records))
	var run []int
	for start := 0; start < len(records); {
		end := start
		run = run[:0]
		for end < len(records) && t.keys[end]>>bits == t.keys[start]>>bits {
			run = append(run, end)
			end++
		}
		slices.SortFunc(run, func(a, b int) int { return cmp.Compare(records[a].next, records[b].next) })
		for i := 0; i < len(run) && len(run) > 1; {
			same := i
			for same < len(run) && records[run[same]].next == records[run[i]].next {
				same++
			}
			p := float64(same-i-1) / float64(len(run)-1)
			for ; i < same; i++ {
				out[run[i]] = p
			}
		}
		start = end
	}
	return out
}

var errModel = errors.New("prose: this is no model of quickthorn, or it is damaged")
