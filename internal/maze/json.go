package maze

// json writes a page of a list of records, with a link to the next one, and returns the content type.
func (w *writer) json() string {
	per := 10 + 5*int(w.of(w.self, 8)%5)
	w.s(`{"page":`)
	w.n(w.number)
	w.s(`,"per_page":`)
	w.n(per)
	w.s(`,"next":"`)
	w.jsonPath()
	w.s("?page=")
	w.n(w.number + 1)
	w.s(`","items":[`)
	for i := range per {
		if i > 0 {
			w.s(",")
		}
		f := w.entry(rolePage, i, per)
		w.s("\n", `{"id":`)
		w.n(int(f.nonce)<<12 | int(f.day))
		w.s(`,"title":"`)
		w.name = w.appendTitle(w.name[:0], f)
		w.b = appendJSON(w.b, w.name)
		w.s(`","url":"`)
		w.base()
		w.address(f, w.name)
		w.s(`","author":"`)
		w.name = w.appendName(w.name[:0], w.author(f))
		w.b = appendJSON(w.b, w.name)
		w.s(`","published":"`)
		w.b = w.date(f).AppendFormat(w.b, isoTime)
		w.s(`","related":"`, w.m.o.Prefix, `api/items/`)
		w.b = w.m.appendToken(w.b, w.next(roleList))
		w.s(`","summary":"`)
		w.jsonSentences(between(&w.r, 8, 50))
		w.s(`"}`)
	}
	w.s("]}\n")
	return "application/json"
}

// jsonSentences writes sentences of about so many words.
func (w *writer) jsonSentences(words int) {
	for first := true; first || words > 0; first = false {
		n := between(&w.r, 6, 26)
		if !first {
			w.s(" ")
		}
		words -= n
		w.scratch = w.m.o.Text.AppendSentence(w.scratch[:0], &w.r, n)
		w.b = appendJSON(w.b, w.scratch)
	}
}

// jsonPath writes the path that was asked for if it is a plain one, or else another.
func (w *writer) jsonPath() {
	p := w.q.Path
	plain := len(p) <= tail && len(p) > 0 && p[0] == '/'
	for i := 0; plain && i < len(p); i++ {
		c := p[i]
		plain = isAlnum(c) || c == '/' || c == '-' || c == '_' || c == '.'
	}
	if plain {
		w.s(p)
		return
	}
	w.s(w.m.o.Prefix, "api/items")
}
