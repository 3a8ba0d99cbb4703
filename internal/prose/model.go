package prose

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxModel is the size of the largest model that Open and Parse take, in bytes.
const MaxModel = maxModel

// Model makes text like that of the texts that it was trained on, in which nothing is meant. It may be used by many goroutines at once, until
// it is closed.
type Model struct {
	starts, offsets []byte // of each word: its first record, and where its text begins
	flags, texts    []byte
	wide            []byte // texts with what is behind them: chunk bytes can be read from wherever a text begins
	records         []byte
	n, words        int
	w2, w3          uint32
	stop            []byte // what a sentence ends with that is cut short
	info            information
	unmap           func() error
}

// Open maps the model in a file into memory. The error says what is wrong with it.
func Open(path string) (*Model, error) {
	b, unmap, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("prose: %w", err)
	}
	m, err := Parse(b)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), unmap())
	}
	m.unmap = unmap
	return m, nil
}

// Close gives the memory back. No text may be made any more.
func (m *Model) Close() error {
	if m.unmap == nil {
		return nil
	}
	return m.unmap()
}

// Parse returns the model in b, which it keeps. It checks everything that making text depends on: with a model that it returns, nothing can go out of
// bounds.
func Parse(b []byte) (*Model, error) {
	le := binary.LittleEndian
	if len(b) < headerLen || len(b) > maxModel || string(b[:len(magic)]) != magic {
		return nil, errModel
	}
	n, words, texts, info := int(le.Uint32(b[8:])), int(le.Uint32(b[12:])), int(le.Uint32(b[16:])), int(le.Uint32(b[20:]))
	m := &Model{n: n, words: words, w2: le.Uint32(b[24:]), w3: le.Uint32(b[28:])}
	pad := padding(headerLen + 8*(words+1) + words + texts + info)
	if n < 1 || n > maxTokens || words < 2 || words > maxWords+1 || texts > len(b) || info > len(b) || m.w2 > weightUnit || m.w2+m.w3 > weightUnit ||
		len(b) != headerLen+8*(words+1)+words+texts+info+pad+n*recordLen {
		return nil, errModel
	}
	body := b[headerLen:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[64:headerLen]) {
		return nil, errModel
	}
	take := func(size int) []byte {
		part := body[:size:size]
		body = body[size:]
		return part
	}
	m.starts, m.offsets, m.flags, m.texts = take(4*(words+1)), take(4*(words+1)), take(words), take(texts)
	m.wide = b[len(b)-len(body)-texts:]
	if err := json.Unmarshal(take(info), &m.info); err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	m.records = body[pad:]
	return m, m.check()
}

// padding is how much stands before the records, so that none of them lies in two lines of the processor's cache, where the model begins a page of memory.
func padding(before int) int { return (recordLen - before%recordLen) % recordLen }

// check looks at every number that is used as an index.
func (m *Model) check() error {
	le := binary.LittleEndian
	ascend := func(b []byte, end int) bool {
		last := uint32(0)
		for i := 0; i < len(b); i += 4 {
			v := le.Uint32(b[i:])
			if v < last || i == 0 && v != 0 {
				return false
			}
			last = v
		}
		return int(last) == end
	}
	if !ascend(m.starts, m.n) || !ascend(m.offsets, len(m.texts)) || !utf8.Valid(m.texts) {
		return errModel
	}
	if first, last := m.run(barrier); first == last {
		return errModel // no sentence begins
	}
	for i := 0; i < len(m.records); i += recordLen {
		r := m.records[i:]
		if int(le.Uint32(r)) >= m.words ||
			int(le.Uint32(r[4:]))+int(le.Uint16(r[12:])) > m.n || int(le.Uint32(r[8:]))+int(le.Uint16(r[14:])) > m.n ||
			le.Uint16(r[12:]) == 0 || le.Uint16(r[14:]) == 0 {
			return errModel
		}
	}
	best := 0
	for id := 1; id < m.words; id++ { // the commonest mark that ends sentences
		if t := m.text(id); m.flags[id]&flagWord == 0 && len(t) > 0 && strings.Contains(terminators, string(t)) {
			if first, last := m.run(id); last-first > best {
				best, m.stop = last-first, t
			}
		}
	}
	if m.stop == nil {
		m.stop = []byte(".")
	}
	return nil
}

// run returns the records of places behind a word.
func (m *Model) run(id int) (first, last int) {
	return int(binary.LittleEndian.Uint32(m.starts[4*id:])), int(binary.LittleEndian.Uint32(m.starts[4*id+4:]))
}

func (m *Model) text(id int) []byte {
	return m.texts[binary.LittleEndian.Uint32(m.offsets[4*id:]):binary.LittleEndian.Uint32(m.offsets[4*id+4:])]
}

// Language is the language of the texts, "" if it is not known.
func (m *Model) Language() string { return m.info.Language }

// Texts tells what the model was trained on.
func (m *Model) Texts() []Origin { return m.info.Texts }

// Tokens is how many words and marks it was trained on, ends of sentences among them.
func (m *Model) Tokens() int { return m.n }

// Words is how many different words and marks there are.
func (m *Model) Words() int { return m.words - 1 }

// walk is the way through a model: the word that was reached, and the runs of records behind it and the words before it.
type walk struct {
	m              *Model
	r              Source
	id             int
	first2, count2 int
	first3, count3 int
}

// take goes to the word of a record.
func (w *walk) take(record int) int {
	le := binary.LittleEndian
	r := w.m.records[record*recordLen:][:recordLen]
	w.id = int(le.Uint32(r))
	w.first2, w.first3 = int(le.Uint32(r[4:])), int(le.Uint32(r[8:]))
	w.count2, w.count3 = int(le.Uint16(r[12:])), int(le.Uint16(r[14:]))
	return w.id
}

// next draws the next word: by the last three words, by two, or by one.
func (w *walk) next() int {
	draw := w.r.Uint64()
	choice, rest := uint32(draw>>48), draw<<16>>32 // 16 bits, and 32 of the others
	first, count := w.first2, w.count2
	if choice >= w.m.w2 {
		first, count = w.first3, w.count3
	}
	if choice >= w.m.w2+w.m.w3 && w.id != barrier { // seldom
		if from, to := w.m.run(w.id); to > from { // always, in a model that Train made
			first, count = from, to-from
		}
	}
	return w.take(first + int(rest*uint64(count)>>32))
}

// begin stands before a sentence.
func (m *Model) begin(r Source) walk {
	first, last := m.run(barrier)
	return walk{m: m, r: r, id: barrier, first2: first, count2: last - first, first3: first, count3: last - first}
}

// chunk is how much of a word is copied at once: nearly all words are shorter, and a copy of a fixed size has no branches that cannot be foretold.
const chunk = 16

// grow returns dst with room for a space and a chunk behind its n bytes, all of the room in its length.
func grow(dst []byte, n int) []byte {
	dst = slices.Grow(dst[:n], chunk+1)
	return dst[:cap(dst)]
}

// put writes a word to b[n:], which has room for a space and a chunk, behind a space if there is to be one, which is 0 or 1.
func (m *Model) put(b []byte, n, id, space int) ([]byte, int) {
	b[n] = ' '
	n += space
	from, to := binary.LittleEndian.Uint32(m.offsets[4*id:]), binary.LittleEndian.Uint32(m.offsets[4*id+4:])
	if size := int(to - from); size <= chunk {
		*(*[chunk]byte)(b[n:]) = *(*[chunk]byte)(m.wide[from:])
		return b, n + size
	}
	b = append(b[:n], m.texts[from:to]...)
	return b, len(b)
}

// AppendSentence appends a sentence of about so many words, with its full stop. It may be two where the first is short, and is cut where it is long.
func (m *Model) AppendSentence(dst []byte, r Source, words int) []byte {
	words = min(max(words, 1), maxSentence)
	w := m.begin(r)
	count, n, start := 0, len(dst), len(dst)
	mark, gap := false, 0 // 1: a space may follow
	for range 8 * words { // a bound for models in which nothing ends
		last := w.id
		id := w.next()
		if n+chunk >= len(dst) {
			dst = grow(dst, n)
		}
		if id == barrier {
			if count*2 >= words {
				break
			}
			if n > start && !m.dense(dst[:n]) {
				dst[n] = ' '
				n++
				gap = 0
			}
			continue
		}
		f := int(m.flags[id])
		word := f / flagWord & 1
		if count >= words+words/2+3 && word == 1 && !mark && m.telling(last) {
			break
		}
		count += word
		mark = word == 0
		dst, n = m.put(dst, n, id, f&flagSpace&gap)
		gap = 1
	}
	if n == start {
		return dst[:n]
	}
	return m.finish(dst[:n], start, mark)
}

// finish gives a sentence its end if it has none.
func (m *Model) finish(dst []byte, start int, mark bool) []byte {
	for len(dst) > start && dst[len(dst)-1] == ' ' {
		dst = dst[:len(dst)-1]
	}
	if mark {
		r, size := utf8.DecodeLastRune(dst[start:])
		if strings.ContainsRune(terminators, r) {
			return dst
		}
		dst = dst[:len(dst)-size]
	}
	return append(dst, m.stop...)
}

// dense reports whether the text ends in a script that sets no spaces.
func (m *Model) dense(dst []byte) bool {
	r, _ := utf8.DecodeLastRune(dst)
	return solid(r)
}

// common is how many of the commonest words begin and end no heading: "of", "the".
const common = 60

// telling reports whether a heading may begin or end with the word.
func (m *Model) telling(id int) bool {
	return m.flags[id]&flagWord != 0 && (id > common || m.words < 8*common)
}

// AppendTitle appends a heading of about so many words, without a full stop.
func (m *Model) AppendTitle(dst []byte, r Source, words int) []byte {
	words = min(max(words, 1), 20)
	start := len(dst)
	w := walk{m: m, r: r}
	for range 16 { // to a word that tells something
		if m.telling(w.take(below(r, m.n))) {
			break
		}
	}
	best, count := start, 0
	for range 8 * words {
		f := m.flags[w.id]
		if w.id == barrier || f&flagWord == 0 {
			if best > start {
				break
			}
			dst, count = dst[:start], 0
			w.next()
			continue
		}
		if len(dst) > start && f&flagSpace != 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, m.text(w.id)...)
		if count++; m.telling(w.id) {
			best = len(dst)
		}
		if count >= words && (best > start || count >= 2*words) {
			break
		}
		w.next()
	}
	if best > start {
		dst = dst[:best]
	}
	return capitalise(dst, start)
}

// capitalise makes the first letter a capital if that takes no more room.
func capitalise(dst []byte, start int) []byte {
	r, size := utf8.DecodeRune(dst[start:])
	if upper := unicode.ToUpper(r); upper != r && utf8.RuneLen(upper) == size {
		utf8.AppendRune(dst[:start], upper)
	}
	return dst
}
